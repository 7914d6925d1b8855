"""Pose priors by the command line: many processes in half precision, going on, opening, energies, completion."""

import json
import re
from pathlib import Path

import pytest
import torch

from src.runs import load_energy, load_model, read_run
from tests.e2e.conftest import ROOT, Shell

TINY = [
    *("data.frames=1200", "data.batch_size=64", "data.eval_batch_size=128", "importance_samples=2"),
    *("model.encoder.width=32", "model.encoder.depth=1", "model.decoder.width=32"),
    *("model.decoder.depth=1", "model.latent_dim=24", "callbacks.figures=null", "logger=none"),
]


def documented_python() -> list[str]:
    """The Python of docs/hands.md."""
    text = (ROOT / "docs" / "hands.md").read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["hand_standard", "hand_so3"])
def test_two_processes_in_bf16_then_going_on_then_loading(shell: Shell, model: str) -> None:
    command = [f"experiment={model}", *TINY, "trainer=ddp_cpu", "trainer.precision=bf16-mixed"]
    run = shell.train(*command, "trainer.max_epochs=2", name=model, small=False)
    steps = [*read_run(run).metrics()][-1]["step"]
    checkpoint = run / "checkpoints" / "last.ckpt"
    shell.train(
        *command, "trainer.max_epochs=3", f"ckpt_path={checkpoint}", name=model, small=False
    )
    assert [*read_run(run).metrics()][-1]["step"] == pytest.approx(1.5 * steps, abs=2)
    results = json.loads((run / "results.json").read_text())
    assert 0 < results["metrics"]["test/mpjre"]["value"] < 60
    assert {"negatives", "joints"} <= results.keys()
    energy = load_energy(run)
    poses = load_model(run).sample(5)
    assert poses.shape == (5, 30, 3)
    # One measure: what the run's test has measured is what its energy gives.
    assert energy.calibration["count"] == 960
    assert torch.equal(energy(poses), load_model(run).energy(poses))
    for block in documented_python():
        names: dict[str, object] = {}
        exec(re.sub(r'"logs/[^"]*"', repr(str(run)), block), names)
        for name, shape in re.findall(r"^(\w+) = .*# (\([\d, ]+\))", block, re.MULTILINE):
            assert tuple(names[name].shape) == eval(shape)  # type: ignore[attr-defined]
    if model == "hand_standard":
        _complete(shell, run)


def _complete(shell: Shell, run: Path) -> None:
    printed = shell(
        *(f"run={run}", "hidden=thumb", "poses=8", "steps=5", "restarts=1"),
        script="scripts/complete_hands.py",
    )
    assert "mean pose" in printed
    content = json.loads((run / "completion" / "completion.json").read_text())
    assert content and [*(run / "completion").glob("*.png")]
    for wrong, told in (
        (["poses=0"], "poses=0 must be at least 1"),
        (["noise=-0.1"], "noise=-0.1 not negative"),
        (["hidden=none"], "leave nothing to mend"),
        (["sigma=0", "poses=2"], "sigma=0 must be positive"),
    ):
        printed = shell(f"run={run}", *wrong, script="scripts/complete_hands.py", status=1)
        assert told in printed and "Traceback" not in printed
    evaluate = (f"run={run}", "importance_samples=2")
    shell(*evaluate, script="scripts/evaluate.py")
    assert load_energy(run).calibration["count"] == 960
    # With a sampler it is another model, whose energy lies beside it and not in the run's place.
    shell(*evaluate, "sampler=gmm", script="scripts/evaluate.py")
    for path in (run, run / "samplers" / "gmm"):
        assert load_energy(path).calibration["count"] == 960
