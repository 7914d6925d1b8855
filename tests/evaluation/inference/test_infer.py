"""What a model makes of samples is what the model itself says."""

import csv
import io
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

from src.evaluation.inference.batches import evaluate
from src.evaluation.inference.figures import error_map, film, picture, posterior
from src.evaluation.inference.fitting import Expected
from src.evaluation.inference.infer import (
    Yardstick,
    calibrated,
    drawn,
    expected,
    has_energy,
    held_out,
    infer,
    nll,
    unit,
)
from src.evaluation.inference.uploads import Samples
from src.evaluation.opened import OpenedRun
from src.models.energy import calibrate, energy_terms
from src.runs import load_energy, load_model
from src.runs.loading import checksum, portable, save_model
from src.runs.record import write_json
from src.utils.build import build
from src.utils.errors import UserError
from src.utils.seeding import isolated_rng

Opener = Callable[..., OpenedRun]


@pytest.fixture(scope="module")
def configs(tiny_config: Any, compose_config: Any) -> Callable[..., tuple[dict, dict]]:
    """The plain configs of a small model and of its data, composed once."""

    @cache
    def composed(*overrides: str) -> tuple[dict, dict]:
        data = OmegaConf.to_container(compose_config(*overrides).data, resolve=True)
        return portable(tiny_config(*overrides)), data

    return composed


@pytest.fixture
def opened_run(configs: Any, tmp_path: Path) -> Opener:
    """``opened_run("model=vae")`` → an untrained model with its data, saved like a run's."""

    def opened(*overrides: str, seed: int = 0) -> OpenedRun:
        torch.manual_seed(seed)
        config, data = configs(*overrides)
        directory = tmp_path / f"{overrides[0]}-{seed}"
        save_model(build(config), config, directory / "model")
        weights = directory / "model" / "model.safetensors"
        return OpenedRun(directory, load_model(directory), weights, {"data": data})

    return opened


def poses(count: int) -> Tensor:
    return torch.randn(count, 30, 3, generator=torch.Generator().manual_seed(1)) / 4


def save_calibration(run: OpenedRun, x: Tensor, mode: str = "mean") -> None:
    with torch.no_grad():
        energies = run.model.energy(x, mode=mode)
    facts = {"mode": mode, "k": 1, "weights": checksum(run.model.state_dict())}
    write_json(run.weights.with_name("energy.json"), facts | calibrate(energies, None, 90.0))


KINDS = ["model=vae", "model=vq_vae", "model=ladder_vae", "model=riemannian_flow", "model=rae_l2"]


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_are_the_models_own(opened_run: Opener, kind: str) -> None:
    run = opened_run(kind)
    x = torch.rand(3, *run.model.shape)
    found = infer(run, x)
    with torch.no_grad(), isolated_rng(0):
        assert torch.equal(found.y, run.model.reconstruct(x))
        assert torch.allclose(found.numbers["mse"], (x - found.y).square().flatten(1).mean(1))
        assert torch.allclose(found.numbers["psnr"], -10 * found.numbers["mse"].log10())
        assert has_energy(run) == (kind != "model=rae_l2") == ("energy" in found.numbers)
        if has_energy(run):
            torch.testing.assert_close(found.numbers["energy"], run.model.energy(x))
            terms = energy_terms(run.model, x)
            torch.testing.assert_close(found.numbers["kl"], terms["kl"])
    if found.kl is not None:
        torch.testing.assert_close(found.kl.flatten(1).sum(1), found.numbers["kl"])
    if run.is_sequence:
        assert found.states is not None
        assert found.states.shape == (3, 8, 4)
    # One alone is what it is among others.
    alone = infer(run, x[1:2])
    for name, values in found.numbers.items():
        torch.testing.assert_close(alone.numbers[name][0], values[1], rtol=1e-4, atol=1e-4)


def test_poses_have_their_own_numbers_and_units(opened_run: Opener) -> None:
    run = opened_run("model=hand_standard")
    assert run.is_pose
    found = infer(run, poses(2))
    assert found.angles is not None
    torch.testing.assert_close(found.angles.mean(1).float(), found.numbers["mpjre"].float())
    assert found.joints is not None
    torch.testing.assert_close(found.joints.sum(1), found.numbers["recon_nll"])
    assert (unit("mse", True), unit("mse", False)) == ("rad²", "intensity²")
    assert (unit("mpjre", True), unit("energy", True)) == ("degrees", "nats")
    assert expected(run) == Expected((30, 3), pose=True)


def test_two_models_give_other_numbers(opened_run: Opener) -> None:
    first, second = (opened_run("model=vae", seed=seed) for seed in (1, 2))
    x = torch.rand(2, *first.model.shape)
    one, other = (infer(run, x).numbers for run in (first, second))
    assert all(not torch.equal(one[name], other[name]) for name in one)
    assert not torch.equal(held_out(first).energies, held_out(second).energies)


@pytest.mark.parametrize("mode", ["mean", "iwae"])
def test_a_percentile_is_that_of_the_calibration(opened_run: Opener, mode: str) -> None:
    run = opened_run("model=hand_standard")
    assert calibrated(run) is None
    save_calibration(run, poses(200), mode)
    yardstick, x = calibrated(run), poses(5)
    assert yardstick is not None
    assert yardstick.told.startswith("200 training samples")
    own = load_energy(run.path)
    energies = infer(run, x, calibrated=yardstick.calibrated).numbers["energy"]
    with torch.no_grad(), isolated_rng(0):
        wanted = own.percentile(x)
    if mode == "mean":
        torch.testing.assert_close(yardstick.percentile(energies), wanted)
        assert torch.equal(yardstick.rejects(energies), own.rejects(x))
    else:  # an estimate, and yet the same every time
        again = infer(run, x, calibrated=yardstick.calibrated).numbers["energy"]
        assert torch.equal(energies, again)
        assert not torch.allclose(energies, infer(run, x).numbers["energy"])


def test_a_calibration_of_other_weights_is_refused(opened_run: Opener) -> None:
    run = opened_run("model=vae")
    save_calibration(run, torch.rand(20, *run.model.shape))
    with torch.no_grad():
        next(run.model.parameters()).add_(1)
    with pytest.raises(UserError, match="other weights"):
        calibrated(run)


def test_a_percentile_among_energies_is_the_share_below() -> None:
    yardstick = Yardstick("", energies=torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64))
    found = yardstick.percentile(torch.tensor([0.0, 1.5, 4.0, 9.0, torch.nan]))
    assert found[:4].tolist() == [0, 25, 75, 100]
    assert found[4].isnan()
    assert yardstick.rejects(torch.tensor([9.0])) is None


def test_held_out_energies_are_those_of_the_split(opened_run: Opener) -> None:
    run = opened_run("model=vae")
    found = held_out(run)
    x, _, _ = run.held_out(1000)
    torch.testing.assert_close(
        found.energies, run.model.energy(x).detach().double().sort().values, rtol=1e-4, atol=1e-4
    )
    assert found.told == f"{len(x)} samples spread over the test split (computed now)"


def test_a_class_changes_what_a_conditional_model_says(opened_run: Opener) -> None:
    run = opened_run("model=conditional_vae")
    assert run.classes == 10
    assert opened_run("model=vae").classes is None
    x = torch.rand(1, *run.model.shape)
    one, other, unknown = (infer(run, x, torch.tensor([c])).numbers["mse"] for c in (1, 2, -1))
    assert len({float(one), float(other), float(unknown)}) == 3
    assert not torch.equal(held_out(run).energies, held_out(run, known=False).energies)
    assert "classes unknown" in held_out(run, known=False).told
    three = torch.tensor([3])
    assert torch.equal(drawn(run, 0, three), drawn(run, 0, three))


def test_a_draw_follows_its_seed(opened_run: Opener) -> None:
    run = opened_run("model=vae")
    assert torch.equal(drawn(run, 5), drawn(run, 5))
    assert not torch.equal(drawn(run, 5), drawn(run, 6))
    assert drawn(run, 5).shape == (1, *run.model.shape)


def test_the_bound_is_the_models_own(opened_run: Opener) -> None:
    run = opened_run("model=vae")
    x = torch.rand(2, *run.model.shape)
    with torch.no_grad(), isolated_rng(0):
        wanted = -run.model.log_likelihood(x, 20)
    assert torch.equal(nll(run, x, 20), wanted)
    with pytest.raises(NotImplementedError):
        nll(opened_run("model=rae_l2"), x, 2)


def samples(x: Tensor) -> Samples:
    return Samples(x.numpy(), [f"row {i}, of mine" for i in range(len(x))])


def test_a_batch_is_its_samples_one_by_one(opened_run: Opener, monkeypatch: Any) -> None:
    run = opened_run("model=hand_standard")
    save_calibration(run, poses(100))
    yardstick, x = calibrated(run), poses(7)
    monkeypatch.setattr("src.evaluation.inference.infer.ROWS", 3)
    shares: list[float] = []
    batch = evaluate(run, samples(x), yardstick, progress=shares.append)
    assert shares == pytest.approx([3 / 7, 6 / 7, 1])
    for i, row in enumerate(batch.rows()):
        one = infer(run, x[i : i + 1])
        assert row["sample"] == f"row {i}, of mine"
        assert row["energy (nats)"] == pytest.approx(float(one.numbers["energy"]), rel=1e-4)
        assert row["mpjre (degrees)"] == pytest.approx(float(one.numbers["mpjre"]), rel=1e-4)
        total = torch.tensor([row["energy (nats)"]])
        assert row["percentile (%)"] == pytest.approx(float(yardstick.percentile(total)), abs=1e-3)
        assert row["rejected"] == (row["energy (nats)"] > yardstick.calibrated.threshold)
        assert np.allclose(batch.mean[i], one.mean[0], atol=1e-5)


def test_a_batch_is_written_as_files(opened_run: Opener) -> None:
    run = opened_run("model=vae")
    batch = evaluate(run, samples(torch.rand(4, *run.model.shape)), None)
    table = list(csv.DictReader(io.StringIO(batch.table_csv())))
    assert float(table[2]["mse (intensity²)"]) == batch.columns["mse (intensity²)"][2]
    assert "percentile (%)" not in table[0]
    codes = list(csv.reader(io.StringIO(batch.codes_csv())))
    assert codes[0] == ["sample", *(f"{p} z[{i}]" for p in ("mean", "sigma") for i in range(4))]
    assert [float(value) for value in codes[3][1:5]] == batch.mean[2].tolist()
    with np.load(io.BytesIO(batch.codes_npz())) as arrays:
        assert np.array_equal(arrays["mean"], batch.mean)
        assert np.array_equal(arrays["sigma"], batch.sigma)
        assert arrays["sample"][1] == "row 1, of mine"


def test_a_picture_is_shown_as_it_is() -> None:
    x = torch.tensor([[[0.0, 1.0], [0.5, 0.0]]])
    shown = picture(x)
    side = shown.shape[0] // 2
    assert shown.shape == (2 * side, 2 * side, 3)
    assert (shown[:side, side:] == 255).all()
    assert (shown[side:, :side] == 128).all()
    assert picture(torch.rand(4, 8, 8)).shape[1] == 4 * picture(torch.rand(4, 8, 8)).shape[0]


def test_an_error_map_shows_the_error_over_its_scale() -> None:
    x, y = torch.zeros(3, 4, 6), torch.zeros(3, 4, 6)
    y[0, 1, 2] = 0.9
    figure = error_map(x, y)
    shown = figure.axes[0].images[0]
    assert shown.get_array()[1, 2] == pytest.approx(0.3)  # the mean over the channels
    assert shown.get_clim() == (0, pytest.approx(0.3))
    assert "intensity" in figure.axes[1].get_xlabel()


def test_a_film_has_all_frames() -> None:
    from PIL import Image

    x = torch.rand(5, 3, 8, 8)
    with Image.open(io.BytesIO(film(x, x))) as opened:
        assert opened.n_frames == 5


def test_dimensions_are_sorted_by_what_they_say(opened_run: Opener) -> None:
    found = infer(opened_run("model=vae"), torch.rand(1, 1, 8, 8))
    assert found.kl is not None and found.sigma is not None
    bars = posterior(found).data[0]
    order = found.kl[0].argsort(descending=True)
    assert list(bars.x) == [f"z[{int(i)}]" for i in order]
    assert list(bars.y) == pytest.approx(found.mean[0, order].tolist())
    assert list(bars.error_y.array) == pytest.approx(found.sigma[0, order].tolist())
