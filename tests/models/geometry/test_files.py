"""Metrics on disk."""

import json
import logging

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from src.models.geometry import FittedMetric, metric_report, read_metric, write_metric
from src.models.geometry.files import NAMES
from src.utils.errors import UserError
from tests.models.geometry.metrics import random_metric


def tensors(metric):
    return {
        "centroids": metric.centroids,
        "matrices": metric.matrices,
        "temperature": torch.tensor(0.8),
        "regularization": torch.tensor(0.02),
    }


def assert_same(found, metric):
    torch.testing.assert_close(found.centroids, metric.centroids)
    torch.testing.assert_close(found.matrices, metric.matrices)
    assert float(found.temperature) == pytest.approx(0.8)


@pytest.mark.parametrize("diagonal", [False, True])
def test_a_file_of_ours_comes_back(tmp_path, diagonal):
    metric = random_metric(diagonal=diagonal, dtype=torch.float32)
    path = tmp_path / "new" / "metric.safetensors"
    write_metric(path, metric, {"model": "vae", "epoch": 3})
    found = read_metric(path)
    assert_same(found, metric)
    assert float(found.regularization) == pytest.approx(0.01) and found.diagonal == diagonal
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    assert header["format_version"] == "1"
    assert json.loads(header["meta"]) == {"model": "vae", "epoch": 3}
    assert [file.name for file in path.parent.iterdir()] == ["metric.safetensors"]


ALIASES = [(name, alias) for name, aliases in NAMES.items() for alias in aliases]


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize(("name", "alias"), ALIASES)
def test_every_name_that_others_use_is_read(tmp_path, name, alias, suffix):
    metric = random_metric(dtype=torch.float32)
    content = tensors(metric)
    content[alias] = content.pop(name)
    path = tmp_path / f"metric{suffix}"
    (torch.save if suffix == ".pt" else save_file)(
        *((content, path) if suffix == ".pt" else (content, str(path)))
    )
    found = read_metric(path)
    assert_same(found, metric)
    assert float(found.regularization) == pytest.approx(0.02)


def test_the_two_files_of_the_reference_are_read(tmp_path, caplog):
    first = {
        "centroids": torch.randn(20, 16),
        "M_matrices": 0.01 * torch.eye(16).expand(20, 16, 16).clone(),
        "temperature": torch.tensor(0.1),
        "regularization": torch.tensor(0.01),
        "latent_dim": 16,
        "n_centroids": 20,
    }
    second = {
        "metric_centroids": torch.randn(20, 16),
        "metric_vars": (0.5 + torch.rand(20, 16)).diag_embed(),
        "metric_temperature": 0.7,
    }
    for number, content in enumerate((first, second)):
        torch.save(content, tmp_path / f"{number}.pt")
    assert float(read_metric(tmp_path / "0.pt").temperature) == pytest.approx(0.1)
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        found = read_metric(tmp_path / "1.pt")
    assert "1.pt says no regularization: 0.01 is taken" in caplog.text
    assert found.diagonal and found.matrices.shape == (20, 16)
    assert float(found.temperature) == pytest.approx(0.7)
    found = read_metric(tmp_path / "1.pt", temperature=3.0, regularization=0.5)
    assert float(found.temperature) == 3.0 and float(found.regularization) == 0.5


def test_defaults_are_taken_only_where_nothing_is_said(tmp_path, caplog):
    content = tensors(random_metric(dtype=torch.float32))
    del content["temperature"]
    torch.save(content, tmp_path / "m.pt")
    with caplog.at_level(logging.WARNING):
        assert float(read_metric(tmp_path / "m.pt").temperature) == pytest.approx(0.1)
    assert caplog.text.count("is taken") == 1


def test_a_state_dict_is_read_without_its_empty_rows():
    part = FittedMetric(3, centroids=8)
    assert len(read_metric(part.state_dict()).centroids) == 1
    part.fit(torch.randn(5, 3))
    z = torch.randn(9, 3)
    found = read_metric(part.state_dict())
    assert len(found.centroids) == 5
    torch.testing.assert_close(found.inverse(z), part().inverse(z))


def broken():
    metric = random_metric(dtype=torch.float32)
    content = tensors(metric)
    skew, negative, unknown = (metric.matrices.clone() for _ in range(3))
    skew[2, 0, 1] += 1
    negative[3] -= 2 * torch.linalg.eigvalsh(negative[3]).max() * torch.eye(4)
    unknown[0, 0, 0] = torch.nan
    without = {key: value for key, value in content.items() if key != "matrices"}
    return {
        "no matrices": (without, "holds no matrices .*known names: matrices, M_matrices"),
        "a misspelled name": ({**without, "matrix": 1.0}, "nearest: 'matrix'"),
        "summands of G": ({**without, "M_i_flat": metric.matrices}, "M_i_flat, the summands of"),
        "no centroids": ({"matrices": metric.matrices}, "holds no centroids"),
        "NaN": ({**content, "matrices": unknown}, "matrices hold NaN or infinity"),
        "asymmetric": ({**content, "matrices": skew}, "matrix 2 is not symmetric"),
        "indefinite": ({**content, "matrices": negative}, "matrix 3 is not positive semidefinite"),
        "too few": ({**content, "matrices": skew[:3]}, r"matrices must be \(7, 4, 4\) or \(7, 4\)"),
        "flat centroids": ({**content, "centroids": skew[0, 0]}, r"centroids must be \(K, D\)"),
        "words": ({**content, "centroids": "many"}, "centroids are no tensor but a str"),
        "τ = 0": (
            {**content, "temperature": 0.0},
            "temperature must be one positive number, not 0",
        ),
        "λ < 0": (
            {**content, "regularization": -1.0},
            "regularization must be one positive number",
        ),
        "no mapping": ([1, 2], "holds no mapping"),
    }


@pytest.mark.parametrize("case", list(broken()))
def test_what_makes_no_metric_is_refused(tmp_path, case):
    content, message = broken()[case]
    torch.save(content, tmp_path / "metric.pt")
    with pytest.raises(UserError, match=message):
        read_metric(tmp_path / "metric.pt")


def test_files_that_cannot_be_read_are_named(tmp_path):
    class Code:
        def __reduce__(self):
            return (print, ("executed",))

    torch.save({"centroids": Code()}, tmp_path / "code.pt")
    save_file(
        {"centroids": torch.zeros(2, 2)}, tmp_path / "later.safetensors", {"format_version": "9"}
    )
    whole = (tmp_path / "code.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0")
    (tmp_path / "metric.txt").write_text("")
    for name, message in (
        ("none.pt", "does not exist"),
        ("code.pt", "more than tensors and plain values"),
        ("cut.pt", "damaged"),
        ("cut.safetensors", "damaged"),
        ("later.safetensors", "format_version=9, and this program reads up to 1"),
        ("metric.txt", "neither .safetensors nor .pt"),
    ):
        with pytest.raises(UserError, match=message):
            read_metric(tmp_path / name)


@pytest.mark.parametrize("diagonal", [False, True])
def test_a_report_says_what_a_metric_is_like(diagonal):
    metric = random_metric(diagonal=diagonal)
    report = metric_report(metric)
    assert json.dumps(report) and report["centroids"] == 7 and report["dim"] == 4
    matrices = metric.matrices.diag_embed() if diagonal else metric.matrices
    assert report["eigenvalues"]["max"] == pytest.approx(
        float(torch.linalg.eigvalsh(matrices).max())
    )
    half_logdet = metric.half_logdet_inverse(metric.centroids)
    assert report["half_logdet_inverse"]["min"] == pytest.approx(float(half_logdet.min()))
    assert report["weight_sum"]["min"] >= 1 and report["nearest_centroid"]["min"] > 0
