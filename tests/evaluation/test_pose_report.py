"""The report and the figures of a model of hand poses."""

import math

import pytest
import torch
from matplotlib.figure import Figure

from src.datamodules.hand_generator import generate
from src.evaluation import pose_figure_set, pose_figures, pose_report
from src.evaluation.figure_sets import figure_set
from src.evaluation.report import batch_sums, summarise
from src.evaluation.results import Compared, Report
from src.models.networks.background import teach

POSES = torch.from_numpy(generate("signing", 800, 0)[0]).float()
SPLITS = {"train": POSES[:600], "test": POSES[600:], "val": POSES[600:]}
TRAIN, TEST = SPLITS["train"], SPLITS["test"]


class Data:
    """The poses above as a datamodule."""

    value_range = "rotation"

    def spread(self, split: str, count: int) -> torch.Tensor:
        size = len(SPLITS[split])
        return torch.linspace(0, size - 1, min(count, size)).round().long()

    def rows(self, split: str, rows: torch.Tensor) -> torch.Tensor:
        return SPLITS[split][rows]

    def floats(self, split: str) -> torch.Tensor:
        return SPLITS[split]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(pose_report, "SAMPLES", 200)
    monkeypatch.setattr(pose_figure_set, "POSES", 150)
    monkeypatch.setattr(pose_figure_set, "SAMPLES", 4)
    monkeypatch.setattr(pose_figure_set, "SHOWN", 2)
    monkeypatch.setattr(pose_figure_set, "TRAVERSED", 2)


@pytest.fixture
def pose_vae(tiny_vae):
    """``pose_vae("model=hand_so3")`` → the narrowed model, which has learned the poses' statistics and no more."""

    def made(*overrides: str):
        model = tiny_vae("data=hand_poses", *overrides).eval()
        teach(model, Data(), "fit")
        return model

    return made


@torch.no_grad()
def evaluated(model) -> Report:
    """What the test step, the report's own sums and the summary say together."""
    model.evaluation_step({"x": TEST})
    values = {name: float(value) for name, value in model.sums.pop(lambda total: total).items()}
    sums = batch_sums(model, {"x": TEST}, 4)
    values |= {name: float(total) / len(TEST) for name, total in sums.items()}
    return summarise(model, values, Compared(TRAIN, TEST, components=(6,), rotations=True))


def test_a_model_of_poses_has_a_report_in_its_own_units(pose_vae):
    report = evaluated(pose_vae("model=hand_standard"))
    baselines = ["mean pose", "PCA-4", "PCA-6", "Gaussian diagonal", "Gaussian full", "the data"]
    assert list(report.baselines) == baselines
    content = report.as_dict()
    metrics = content["metrics"]
    assert all(math.isfinite(row["value"]) for row in metrics.values())
    units = {
        name: metrics[f"test/{name}"]["unit"] for name in ("mse", "mpjre", "nll", "sample_tip_apd")
    }
    assert units == {"mse": "rad²", "mpjre": "degrees", "nll": "nats", "sample_tip_apd": "mm"}
    assert not {"test/psnr", "test/pixel_accuracy", "test/ssim"} & metrics.keys()
    errors = metrics["test/mpjre"]["baselines"]
    assert errors["PCA-6"] < errors["PCA-4"] < errors["mean pose"]
    nll = metrics["test/nll"]["baselines"]
    assert nll["Gaussian full"] < nll["PCA-6"] and nll["Gaussian full"] < nll["Gaussian diagonal"]
    betas = [metrics[f"test/energy_mean_beta_{b}"]["value"] for b in ("0.1", "0.5", "1", "2")]
    assert betas[2] == pytest.approx(metrics["test/energy_mean"]["value"], rel=1e-4)
    assert (betas[3] - betas[2]) / (betas[1] - betas[0]) == pytest.approx(1 / 0.4, rel=1e-3)
    rows = content["negatives"]
    assert len(rows) == 13 and rows["midpoint"]["auroc"] == metrics["test/auroc_midpoint"]["value"]
    assert all(0 <= row["auroc"] <= 1 for row in rows.values())
    assert {"auroc_typicality", "auroc_likelihood_ratio"} < rows["midpoint"].keys()
    assert len(content["joints"]) == 15
    # Either score of the model's stands beside the same one of the full Gaussian.
    assert {"auroc_gaussian_full", "auroc_typicality_gaussian_full"} < rows["midpoint"].keys()
    assert metrics["test/sample_nearest"]["baselines"]["the data"] > 0
    ratio = metrics["test/sample_apd_ratio"]
    assert ratio["baselines"]["the data"] == 1 and ratio["value"] < 0.5  # untrained: one pose
    text = report.text("the title")
    assert "foreign_thumb" in text and "thumb3" in text and "warning" not in text


def test_the_report_measures_the_model_and_its_baselines_alike(pose_vae):
    """A model that is the Gaussian has the numbers of the Gaussian."""
    report = evaluated(pose_vae("model=gaussian_pose", "model.latent_dim=90"))
    gaussian = report.baselines["Gaussian full"]
    for name in ("nll", "auroc_foreign_thumb", "auroc_midpoint", "auroc_index_ring_swapped"):
        assert report.values[name] == pytest.approx(gaussian[name], abs=0.01), name
    assert report.values["sample_apd_ratio"] == pytest.approx(1, abs=0.1)
    row = report.details["negatives"]["midpoint"]
    assert row["auroc_typicality"] == pytest.approx(row["auroc_typicality_gaussian_full"], abs=0.01)
    assert row["auroc_typicality"] > 0.5 > row["auroc"]
    # It loses nothing of a pose and has no code: nothing is told of either.
    of_codes = {"mpjre_median", "energy_mean_beta_2", "mse", "kl", "recon_nll", "active_units"}
    assert not of_codes & report.values.keys()
    # Its samples have their noise in them, as those of the Gaussians.
    for values in (report.values, gaussian):
        assert values["sample_limits_noisy"] == values["sample_limits"]
    assert "joints" not in report.details and "PCA-24" in report.baselines


def test_a_collapse_and_an_energy_that_is_no_number_are_told(pose_vae, monkeypatch):
    model = pose_vae("model=hand_standard")
    for parameter in model.latent.posterior.parameters():
        torch.nn.init.zeros_(parameter)
    monkeypatch.setattr(model, "energy", lambda x: x.sum((1, 2)) * torch.nan)
    report = evaluated(model)
    assert "auroc_midpoint" not in report.values
    collapse, unknown = report.warnings
    assert "posterior collapse: 0 of 4" in collapse and "NaN" in unknown


def test_a_model_without_a_density_has_errors_and_nothing_else(pose_vae):
    report = evaluated(pose_vae("model=ae"))
    assert report.values["mpjre_p95"] > report.values["mpjre_median"] > 0
    assert not {"auroc_midpoint", "sample_apd", "nll"} & report.values.keys()


def figures(model, split: str, level: str) -> dict[str, Figure]:
    with torch.no_grad():
        return dict(figure_set(model, Data(), split, level))


def test_poses_get_figures_of_their_own(pose_vae):
    model = pose_vae("model=hand_so3")
    minimal, val, test = (
        figures(model, split, level)
        for split, level in (("val", "minimal"), ("val", "standard"), ("test", "standard"))
    )
    assert set(minimal) == {"samples", "reconstructions"} < set(val) < set(test)
    assert {"energies", "joint_errors", "traversals", "kl_per_dimension"} <= set(val)
    assert set(test) - set(val) == {"energy_beta", "energy_negatives", "roc"}
    assert all(isinstance(figure, Figure) for figure in test.values())
    assert len(test["energies"].axes) == 6
    density = figures(pose_vae("model=gaussian_pose", "model.latent_dim=90"), "test", "standard")
    assert set(density) == {"samples", "energies", "energy_negatives", "roc"}


def test_the_figures_tell_the_numbers_of_the_report(pose_vae, monkeypatch):
    monkeypatch.setitem(pose_report.COMPARED, "train", 100)
    monkeypatch.setitem(pose_report.COMPARED, "test", 50)
    model, data = pose_vae("model=gaussian_pose", "model.latent_dim=90"), Data()
    train, test = (
        data.rows(split, data.spread(split, n)) for split, n in (("train", 100), ("test", 50))
    )
    with torch.no_grad():
        rows = summarise(model, {}, Compared(train, test, rotations=True)).details["negatives"]
        drawn = dict(pose_figure_set.pose_figure_set(model, data, "test", "standard"))
    titles = {ax.get_title() for ax in drawn["energy_negatives"].axes}
    assert titles == {f"{name}\nAUROC {row['auroc']:.3f}" for name, row in rows.items()}


def test_rates_and_distortions_are_drawn_with_their_names():
    figure = pose_figures.rate_distortion({"b": (30.0, 1.0), "a": (10.0, 3.0), "c": (50.0, 0.5)})
    line = figure.axes[0].lines[0]
    assert list(line.get_xdata()) == [30, 10, 50] and list(line.get_ydata()) == [1, 3, 0.5]
    assert {text.get_text(): text.xy for text in figure.axes[0].texts}["a"] == (10, 3)
