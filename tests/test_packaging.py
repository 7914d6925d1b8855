"""The house around the code: what is installed, what is imported, and that every file of conf/ composes."""

import configparser
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir

from src.utils.main import CONF, register_resolvers
from tests.commands import options, resolved

ROOT = Path(__file__).parents[1]
# Slow to import, so what only looks at runs or configs does without.
HEAVY = ("torch", "lightning", "torchmetrics", "wandb", "sklearn")


def pins() -> dict[str, str]:
    lines = [
        line
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    return {
        re.sub(r"[-_.]+", "-", name).lower(): version
        for name, version in (line.split("==") for line in lines)
    }


def test_the_pins_are_of_public_versions_and_without_torchvision() -> None:
    found = pins()
    assert found["torch"] == "2.13.0"
    assert not [name for name in found if name.startswith(("torchvision", "nvidia", "triton"))]
    assert not [version for version in found.values() if "+" in version or "/" in version]


def test_every_dependency_of_setup_cfg_is_pinned() -> None:
    config = configparser.RawConfigParser()
    config.read(ROOT / "setup.cfg")
    wanted = [config["options"]["install_requires"], *config["options.extras_require"].values()]
    names = [
        re.split(r"[<>=\[ ]", line)[0].lower()
        for text in wanted
        for line in text.split("\n")
        if line.strip() and line[0] != "#"
    ]
    assert {name for name in names if name != "latent-lab"} <= set(pins())
    assert "torchvision" not in names


def test_git_leaves_none_of_our_files_out() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("this is no clone")
    command = [
        "git",
        "ls-files",
        "--others",
        "--ignored",
        "--exclude-standard",
        "conf",
        "src",
        "scripts",
        "tests",
        "docs",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert [
        file
        for file in done.stdout.split()
        if "__pycache__" not in file and not file.startswith("conf/local/")
    ] == []


@pytest.mark.parametrize("module", ["src.runs", "src.utils.main", "src.app.overview"])
def test_importing_it_imports_no_torch(module: str) -> None:
    code = f"import sys, {module}; print(*set({HEAVY!r}) & sys.modules.keys())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    "arguments", [["--cfg", "job"], ["--help"], ["model=vea"], ["model.latnt_dim=3"]], ids=" ".join
)
def test_answering_from_the_config_imports_no_torch(arguments: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-X", "importtime", str(ROOT / "run_experiment.py"), *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    imported = {
        line.rsplit("|", 1)[1].strip()
        for line in done.stderr.splitlines()
        if line.startswith("import time:")
    }
    assert "hydra" in imported
    assert imported.isdisjoint(HEAVY)


@pytest.mark.parametrize("option", list(options()))
def test_every_file_of_conf_composes_and_names_settings_that_exist(
    option: str, tmp_path: Path
) -> None:
    from src.utils.build import check_signatures

    np.save(tmp_path / "pictures.npy", np.zeros((4, 8, 8), np.uint8))
    needed = [f"data.path={tmp_path}/pictures.npy"] if option == "data=images" else []
    if option.startswith("data=recordings"):
        needed = [f"data.path={tmp_path}", "data.size=8"]
    if option.startswith("hydra/sweeper/pruner="):  # only a study has one
        needed.append("hydra/sweeper=study")
    check_signatures(resolved([option, *needed], tmp_path))


@pytest.mark.parametrize("root", sorted(file.stem for file in CONF.glob("*.yaml")))
def test_every_root_config_composes(root: str) -> None:
    register_resolvers()
    with initialize_config_dir(str(CONF)):
        assert compose(root)


def test_every_group_has_a_none() -> None:
    always_something = {"model", "data", "paths"}
    groups = {option.split("=")[0] for option in options()}
    top = {group for group in groups if "/" not in group} - always_something
    assert [group for group in sorted(top) if f"{group}=none" not in set(options())] == []
