"""Variants through the command line: guides, samplers, many processes and the comparison at the end of a multirun."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from src.runs import list_runs, load_model, read_run
from tests.e2e.conftest import Shell

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def test_a_variant_written_from_the_guide_trains(shell: Shell) -> None:
    guide = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    block = re.search(
        r"^```yaml\n(# conf/(model/\w+\.yaml)\n.*?)^```$", guide, re.MULTILINE | re.DOTALL
    )
    assert block is not None
    file = shell.folder / "conf" / block[2]
    file.parent.mkdir(parents=True)
    file.write_text(block[1], encoding="utf-8")
    run = shell.train(
        f"model={file.stem}",
        f"hydra.searchpath=[file://{shell.folder / 'conf'}]",
        "trainer.max_epochs=2",
    )
    rows = [row["metrics"] for row in read_run(run).metrics()]
    losses = [row["val/loss"] for row in rows if "val/loss" in row]
    assert len(losses) == 2 and losses[1] < losses[0]
    assert type(load_model(run).latent.likelihood).__name__ == "LaplaceLikelihood"


def test_a_sampler_is_fitted_to_a_finished_run_and_leaves_its_results_alone(shell: Shell) -> None:
    run = shell.train("trainer.max_epochs=2")
    before = (run / "results.json").read_text()
    printed = shell(
        f"run={run}", "sampler=gmm", "importance_samples=2", script="scripts/evaluate.py"
    )
    assert (
        "MixtureSampler fitted to codes of the training data; on a tenth held out: nll" in printed
    )
    assert (run / "results.json").read_text() == before
    folder = run / "samplers" / "gmm"
    assert (folder / "results.json").exists() and (folder / "figures" / "samples.png").exists()
    model = load_model(folder)
    assert model.can_sample and model.sample(3).shape == (3, 1, 8, 8)
    assert load_model(run).sampler is None


def test_a_strangers_sizes_build_nothing(shell: Shell, trained: Path) -> None:
    run = shell.folder / "strange"
    shutil.copytree(trained, run)
    config = yaml.safe_load((run / "config.yaml").read_text())
    written = shell.folder / "written"
    config["model"]["latent_dim"] = {
        "_target_": "lightning.pytorch.loggers.CSVLogger",
        "save_dir": str(written),
    }
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    printed = shell(f"run={run}", "sampler=gmm", script="scripts/evaluate.py", status=1)
    assert "is refused: a config may only name classes of src.models" in printed
    assert not written.exists()


REPRESENTATIVES = ["factor_vae", "vq_vae", "iwae", "conditional_vae", "rae_l2"]


def test_one_of_every_kind_trains_on_two_processes_and_a_multirun_compares_them(
    shell: Shell,
) -> None:
    """A critic, codebooks that move by themselves, weights of samples, a condition, a sampler fitted afterwards."""
    shell(
        "-m",
        f"model={','.join(REPRESENTATIVES)}",
        "experiment=zoo_digits",
        "trainer=ddp",
        "trainer.max_epochs=2",
        "callbacks=minimal",
        f"hydra.sweep.dir={shell.folder / 'sweep'}",
        "model.encoder.out_features=32",
        "importance_samples=2",
        timeout=290,
    )
    runs = list_runs(shell.folder / "sweep")
    assert [run.state for run in runs] == ["finished"] * len(REPRESENTATIVES)
    for run in runs:
        assert run.info["device"] == "2 × cpu"
        assert run.results["metrics"]["test/num_samples"]["value"] == 359
        assert load_model(run.path).can_sample
    folder = shell.folder / "sweep" / "comparison"
    table = (folder / "table.md").read_text()
    assert all(f"| `{name}` |" in table for name in REPRESENTATIVES)
    assert "*mean image*" in table and "`parameters`" in table
    for name in ("reconstructions", "samples"):
        picture = Image.open(folder / f"{name}.png").convert("L")
        assert len(np.unique(np.asarray(picture.resize((64, 64))))) > 20


@pytest.mark.parametrize("name", ["ladder_vae", "iaf_vae"])
def test_the_other_kinds_train_on_two_processes(shell: Shell, name: str) -> None:
    run = shell.train(
        f"model={name}", "trainer=ddp", "trainer.max_epochs=1", "callbacks=minimal", small=False
    )
    assert read_run(run).results["metrics"]["test/num_samples"]["value"] == 359


def test_a_run_with_a_critic_goes_on_where_it_was(shell: Shell) -> None:
    whole = shell.train("model=factor_vae", "trainer.max_epochs=4", name="whole")
    part = shell.train("model=factor_vae", "trainer.max_epochs=2", name="part")
    shell(f"ckpt_path={part}/checkpoints/last.ckpt", "trainer.max_epochs=4")
    assert read_run(part).results["metrics"] == read_run(whole).results["metrics"]
