"""The numbers of a test beside their baselines."""

import math

import pytest
import torch
from rich.console import Console

from src.evaluation.metrics import pictures
from src.evaluation.report import batch_sums, finish_sums, posterior_means, summarise
from src.evaluation.results import Compared, Report

TRAIN, TEST = (torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(n)) for n in (60, 30))
LABELS = torch.arange(60) % 3, torch.arange(30) % 3


def evaluated(model) -> Report:
    """What the test step, the report's own sums and the summary say together."""
    model.eval()
    with torch.no_grad():
        model.evaluation_step({"x": TEST})
    values = {name: float(value) for name, value in model.sums.pop(lambda total: total).items()}
    values |= {
        name: float(total) / len(TEST) for name, total in batch_sums(model, {"x": TEST}, 4).items()
    }
    return summarise(model, values, Compared(TRAIN, TEST, LABELS))


@pytest.mark.parametrize("likelihood", ["gaussian", "laplace", "bernoulli"])
@pytest.mark.parametrize("name", ["vae", "ae"])
def test_every_model_and_likelihood_has_a_report(tiny_vae, name, likelihood):
    report = evaluated(tiny_vae(f"model={name}", f"model/likelihood={likelihood}"))
    assert set(report.baselines) == {"mean image", "PCA-4"}
    assert ("nll" in report.values) == ("nll" in report.baselines["mean image"]) == (name == "vae")
    # Probabilistic PCA is a density; cross-entropies of grey pictures are not comparable with one.
    assert ("nll" in report.baselines["PCA-4"]) == (name == "vae" and likelihood != "bernoulli")
    assert {
        "mse",
        "psnr",
        "ssim",
        "pixel_accuracy",
        "knn_accuracy",
    } <= report.values.keys() & report.baselines["PCA-4"].keys()
    assert ("elbo" in report.values) == (name == "vae")


def test_the_summary_completes_the_values(tiny_vae):
    model = tiny_vae()
    report = evaluated(model)
    assert report.values["elbo"] == pytest.approx(-report.values["recon_nll"] - report.values["kl"])
    assert report.values["nll"] < report.values["recon_nll"] + report.values["kl"] + 0.5
    assert (
        report.warnings and "posterior collapse" in report.warnings[0]
    )  # an untrained model knows nothing
    z = posterior_means(model, TEST, batch_size=7)
    torch.testing.assert_close(z, model.encode(TEST).mean.detach())


def test_what_moves_is_measured_over_all_batches_and_beside_linear_codes(tiny_vae):
    model, background = tiny_vae().eval(), torch.full((1, 8, 8), 0.5)
    sums: dict[str, float] = {}
    for batch in TEST.split([7, 23]):  # means of batches of two sizes would be another number
        for name, total in batch_sums(model, {"x": batch}, 2, background).items():
            sums[name] = sums.get(name, 0.0) + float(total) / len(TEST)
    values = finish_sums(sums)
    whole = pictures(TEST, model.reconstruct(TEST).detach(), background)
    for name in ("foreground_mse", "foreground_psnr"):
        assert values[name] == pytest.approx(whole[name], rel=1e-4)
    assert values["psnr_sampled"] == pytest.approx(-10 * math.log10(values["mse_sampled"]))
    values |= whole | {"active_units": 3.0, "kl": 5.0}
    report = summarise(model, values, Compared(TRAIN, TEST, None, None, background, (2, 6)))
    assert [*report.baselines] == ["mean image", "PCA-2", "PCA-4", "PCA-6"]
    errors = [found["foreground_mse"] for found in report.baselines.values()]
    assert len(set(errors)) == 4
    assert "posterior collapse: 3 of 4" in report.warnings[0]
    lines = report.text("the title").splitlines()
    assert lines[0] == f"MSE: {whole['mse']:.6f}"
    assert lines[1] == f"PSNR: {whole['psnr']:.2f} dB"
    assert lines[2] == f"Accuracy (±0.1): {100 * whole['pixel_accuracy']:.2f} %"
    assert any("foreground_psnr" in line for line in lines) and lines[-1].startswith("warning: ")


def test_results_carry_units_and_baselines():
    report = Report({"mse": 0.01, "total_correlation": 2.0}, {"mean image": {"mse": 0.07}})
    assert report.as_dict() == {
        "metrics": {
            "test/mse": {"value": 0.01, "unit": "intensity²", "baselines": {"mean image": 0.07}},
            "test/total_correlation": {"value": 2.0, "unit": "nats", "baselines": {}},
        },
        "warnings": [],
    }


def test_the_table_marks_the_best_of_a_row():
    report = Report(
        {"mse": 0.01, "psnr": 20.0, "kl": 3.0},
        {"mean image": {"mse": 0.07, "psnr": 11.5}, "PCA-4": {"mse": 0.005, "psnr": 23.0}},
    )
    table = report.table("title")
    cells = {
        row[0]: row[1:]
        for row in zip(*(list(column.cells) for column in table.columns), strict=True)
    }
    assert cells["mse"] == ("intensity²", "0.01", "0.07", "[bold]0.005[/]")
    assert cells["psnr"] == ("dB", "20", "11.5", "[bold]23[/]")
    assert cells["kl"] == ("nats", "3", "—", "—")
    with (console := Console(width=100)).capture() as shown:
        console.print(table)
    assert "this model" in shown.get() and "PCA-4" in shown.get()
