"""Models beside each other: what is shown and measured is what they make of the same held-out data."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from src.evaluation.comparing.measured import measure, measure_all, measured_now
from src.evaluation.comparing.side_by_side import figures, side_by_side
from src.evaluation.opened import OpenedRun
from src.utils.build import build
from src.utils.errors import UserError

KINDS = {
    "digits": [],
    "autoencoder": ["model=ae"],
    "conditional": ["model=conditional_vae"],
    "sequences": [
        "model=vanilla_sequence",
        "data.characters={train: 3, val: 2, test: 3}",
        "data.batch_size=8",
    ],
    "hands": ["experiment=hand_quick", "data.frames=300", "data.batch_size=64"],
}


@pytest.fixture(scope="module")
def parts(tiny_config: Any, compose_config: Any) -> Any:
    """Kind → the configs of its model and its data, composed once."""

    @cache
    def composed(kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
        data = OmegaConf.to_container(compose_config(*KINDS[kind]).data, resolve=True)
        return tiny_config(*KINDS[kind]), data

    return composed


@pytest.fixture
def open_tiny(parts: Any) -> Any:
    def opened(kind: str = "digits", seed: int = 0) -> OpenedRun:
        torch.manual_seed(seed)
        model, data = parts(kind)
        return OpenedRun(Path(kind), build(model).eval(), Path("x"), {"data": dict(data)})

    return opened


@pytest.mark.parametrize("kind", ["digits", "conditional", "sequences", "hands"])
def test_reconstructions_are_the_models_own_of_the_first_ones_data(
    open_tiny: Any, kind: str
) -> None:
    runs = {"a": open_tiny(kind, 0), "b": open_tiny(kind, 1)}
    shown = side_by_side(runs, 1)
    (told, x), (a, y_a), (b, y_b) = shown.reconstructions
    assert told == "held out 1" and a.startswith("a\n") and b.startswith("b\n")
    held_out, labels, _ = runs["a"].held_out(1 if kind == "sequences" else len(x))
    torch.testing.assert_close(x, held_out[0] if kind == "sequences" else held_out)
    given = () if kind != "conditional" else (labels,)
    with torch.no_grad():
        expected = runs["b"].model.reconstruct(held_out, *given)
    expected = expected if kind == "hands" else expected.clamp(0, 1)
    torch.testing.assert_close(y_b, expected[0] if kind == "sequences" else expected)
    assert not torch.equal(y_a, y_b)
    assert [label for label, _ in shown.samples] == ["a", "b"]
    assert not torch.equal(shown.samples[0][1], shown.samples[1][1])
    assert [name for name, _ in figures(shown)] == ["reconstructions", "samples"]


def test_the_error_beside_a_row_is_that_of_the_row(open_tiny: Any) -> None:
    run = open_tiny()
    shown = side_by_side({"a $x": run}, 2)
    for k in (0, 2):
        (_, x), (label, _) = shown.reconstructions[k : k + 2]
        with torch.no_grad():
            error = (run.model.reconstruct(x) - x).square().mean()
        assert label == f"a $x\nMSE {float(error):.3g}"
    for _, figure in figures(shown):
        figure.canvas.draw()  # a formula would not be drawn


def test_what_draws_nothing_or_takes_other_samples_says_so(open_tiny: Any) -> None:
    run, ae = open_tiny(), open_tiny("autoencoder")
    shown = side_by_side({"vae": run, "ae": ae, "hands": open_tiny("hands")}, 1)
    assert [label for label, _ in shown.samples] == ["vae"]
    assert [label.partition("\n")[0] for label, _ in shown.reconstructions[1:]] == ["vae", "ae"]
    other, without = shown.remarks
    assert "ae draws no samples" in without
    assert other.startswith("hands is left out: its samples are of the shape [30, 3]")


def test_what_is_measured_is_what_the_model_says(open_tiny: Any) -> None:
    run = open_tiny()
    x, labels, _ = run.held_out(40)
    found = measure(run, x, labels, k=2, batch_size=16)
    with torch.no_grad():
        mse = (run.model.reconstruct(x) - x).square().mean()
        energy = run.model.energy(x).mean()
    assert found["mse"] == pytest.approx(float(mse), rel=1e-5)
    assert found["energy_mean"] == pytest.approx(float(energy), rel=1e-5)
    assert found["num_samples"] == 40 and {"nll", "kl", "active_units"} <= found.keys()
    assert found == measure(run, x, labels, k=2, batch_size=16)
    assert found["mse"] != measure(open_tiny(seed=1), x, labels, k=2)["mse"]


def test_all_are_measured_on_the_first_ones_data(open_tiny: Any) -> None:
    first, other = open_tiny(), open_tiny(seed=1)
    other.config["data"]["split_seed"] = 7
    steps: list[tuple[float, str]] = []
    runs = {"a": first, "b": other, "hands": open_tiny("hands")}
    found, remarks = measure_all(runs, 30, 2, lambda done, name: steps.append((done, name)))
    x, labels, _ = first.held_out(30)
    assert found["b"] == measure(other, x, labels, 2) and list(found) == ["a", "b"]
    assert "data.split_seed" in remarks[0] and "may have seen" in remarks[0]
    assert "hands is left out" in remarks[1]
    assert [name for _, name in steps] == ["a", "b"] and steps[-1][0] == pytest.approx(2 / 3)
    words, *_, table = measured_now(runs, 30, 2)
    assert "30 samples" in words.words
    assert ["mse", "intensity²", *(f"{found[n]['mse']:.4g}" for n in "ab")] in table.rows


def test_where_no_model_fits_the_data_it_is_told_why(
    open_tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = open_tiny("conditional")
    monkeypatch.setattr(run.data, "labels", lambda split: None)
    with pytest.raises(UserError, match="a is left out: it is conditioned on labels"):
        measured_now({"a": run}, 10, 1)


def test_numbers_without_a_picture_are_told(open_tiny: Any) -> None:
    run = open_tiny()
    object.__setattr__(run.model, "shape", (64,))
    with pytest.raises(UserError, match="cannot be shown"):
        side_by_side({"a": run}, 1)
