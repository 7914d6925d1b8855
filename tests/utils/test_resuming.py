"""The arguments of a resumed run."""

import json
from pathlib import Path

import pytest

from src.utils.errors import UserError
from src.utils.main import with_resumed_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A directory that looks like a run started with some overrides, hostile ones among them."""
    directory = tmp_path / "run"
    directory.mkdir()
    saved = ["model=beta_vae", "trainer.max_epochs=5", "ckpt_path=old.ckpt"]
    saved += [
        "++hydra.sweep.dir=/",
        "hydra/launcher=basic",
        "--config-dir=/elsewhere",
        "paths.output_dir=/elsewhere",
    ]
    saved += [
        "train=false",
        "logger@hydra.sweeper=csv",
        "callbacks.checkpoint.directory=/elsewhere",
    ]
    (directory / "run.json").write_text(json.dumps({"overrides": saved}))
    (directory / "checkpoints").mkdir()
    (directory / "checkpoints" / "last.ckpt").touch()
    return directory


def test_the_runs_own_choices_come_first_and_what_is_given_now_wins(run: Path) -> None:
    checkpoint = run / "checkpoints" / "last.ckpt"
    arguments = with_resumed_run([f"ckpt_path={checkpoint}", "trainer.max_epochs=9"])
    assert arguments == [
        "model=beta_vae",
        "trainer.max_epochs=9",
        f"ckpt_path='{checkpoint}'",
        f"hydra.run.dir='{run}'",
    ]


@pytest.mark.parametrize("override", ["name=${oc.env:SECRET}", "name='${oc.${x}:SECRET}'"])
def test_a_saved_choice_that_asks_this_machine_for_a_value_is_refused(
    run: Path, override: str
) -> None:
    (run / "run.json").write_text(json.dumps({"overrides": [override]}))
    checkpoint = f"ckpt_path={run}/checkpoints/last.ckpt"
    with pytest.raises(UserError, match="holds name=.*give that choice on the command line"):
        with_resumed_run([checkpoint])
    assert with_resumed_run([checkpoint, "name=mine"])[0] == "name=mine"


def test_a_directory_that_is_asked_for_is_kept(run: Path) -> None:
    given = [f"ckpt_path={run}/checkpoints/last.ckpt", "hydra.run.dir=/tmp/other"]
    assert with_resumed_run(given) == given


def test_last_is_the_newest_checkpoint_below_logs(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run)
    with pytest.raises(UserError, match="finds no last.ckpt"):
        with_resumed_run(["ckpt_path=last"])
    monkeypatch.chdir(run.parent)
    run.rename(run.parent / "logs")
    assert with_resumed_run(["ckpt_path=last"])[-2] == "ckpt_path='logs/checkpoints/last.ckpt'"
