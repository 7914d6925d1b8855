"""What README.md and docs/ tell a person to do works."""

import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from tests.commands import jobs, resolved

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
OWN_CONFIG = re.compile(r"^# conf/(\S+)\n", re.MULTILINE)
OWN_MODULE = re.compile(r"^# (src/\S+)\.py\n")


def blocks(document: Path, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(
        rf"^```{language}\n(.*?)^```$",
        document.read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )


def lines(*languages: str) -> list[str]:
    """The commands of all documents, each once."""
    found = [
        line
        for doc in DOCUMENTS
        for language in languages
        for block in blocks(doc, language)
        for line in block.splitlines()
    ]
    return sorted({line.strip() for line in found if line.strip() and not line.startswith("#")})


@pytest.fixture
def a_users_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with ``pictures/`` in it and the config files that the documents show, as the working directory.

    The modules that they show can be imported.
    """
    (tmp_path / "pictures").mkdir()
    rng = np.random.default_rng(0)
    for number in range(3):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(
            tmp_path / "pictures" / f"{number}.png"
        )
    for document in DOCUMENTS:
        for block in blocks(document, "yaml"):
            if named := OWN_CONFIG.match(block):
                file = tmp_path / "conf" / named[1]
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(block, encoding="utf-8")
        for block in blocks(document, "python"):
            if named := OWN_MODULE.match(block):
                module = ModuleType(named[1].replace("/", "."))
                exec(block, vars(module))
                monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "command", [line for line in lines("bash") if line.startswith("python run_experiment.py")]
)
def test_every_run_command_composes_and_names_settings_that_exist(
    command: str, a_users_folder: Path
) -> None:
    from src.models.data_compat import check_data
    from src.utils.build import check_signatures
    from src.utils.main import data_configs

    for overrides in jobs(command):
        cfg = resolved(overrides, a_users_folder / "run", a_users_folder / "conf")
        check_signatures(cfg)
        check_data(cfg["model"], cfg["data"], data_configs)


@pytest.mark.parametrize("choice", ["model=robust_iwae", "model/prior=laplace"])
def test_the_guide_s_own_variant_and_part_learn(choice: str, a_users_folder: Path) -> None:
    from src.datamodules import DigitsDataModule
    from src.utils.build import build

    data = DigitsDataModule(name="digits", shape=[1, 8, 8], kind="image")
    data.setup()
    x = data.floats("train", 256)
    cfg = resolved([choice], a_users_folder / "run", a_users_folder / "conf")
    model = build(cfg["model"])
    optimizer = model.configure_optimizers()
    losses = []
    for _ in range(20):
        loss, _ = model.losses(x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-3:]) < sum(losses[:3])
    assert torch.isfinite(model.eval().log_likelihood(x[:4], 2)).all()
    named = {"model=robust_iwae": "LaplaceLikelihood", "model/prior=laplace": "LaplacePrior"}
    assert named[choice] in {type(part).__name__ for part in model.latent.children()}


def test_there_is_nothing_in_a_bash_block_that_no_test_knows() -> None:
    known = ("python run_experiment.py", "make ")
    assert [line for line in lines("bash") if not line.startswith(known)] == []


def test_every_make_target_and_script_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for line in lines("bash", "console"):
        if target := re.match(r"make ([\w-]+)", line):
            assert re.search(rf"^{target[1]}:", makefile, re.MULTILINE), line
        if script := re.search(r"\b(scripts/\w+\.py)", line):
            assert (ROOT / script[1]).is_file(), line


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_to_a_file_leads_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\((?!https?://|#)([^)#]+)", document.read_text(encoding="utf-8"))
    assert [target for target in targets if not (document.parent / target).exists()] == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def test_the_python_of_the_readme_runs(tmp_path: Path) -> None:
    from src.runs.loading import save_model
    from src.utils.build import build

    config = {
        key: value
        for key, value in resolved([], tmp_path)["model"].items()
        if key not in ("optimizer", "scheduler")
    }
    save_model(build(config), config, tmp_path / "model")
    for block in blocks(ROOT / "README.md", "python"):
        names: dict[str, object] = {}
        exec(re.sub(r'"logs/[^"]*"', repr(str(tmp_path)), block), names)
        for name, shape in re.findall(r"^(\w+) = .*# (\([\d, ]+\))", block, re.MULTILINE):
            assert tuple(names[name].shape) == eval(shape)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "document", sorted((ROOT / "docs").rglob("*.md")), ids=lambda path: path.stem
)
def test_the_python_of_the_other_documents_runs(document: Path) -> None:
    for block in blocks(document, "python"):
        if '"logs/' not in block:  # what opens a run is run with one, in tests/e2e
            exec(block, {})
