"""What is computed when a model is tested, and its numbers beside those of trivial baselines."""

from collections.abc import Callable
from typing import Any

import torch
from sklearn.decomposition import PCA
from torch import Tensor

from src.evaluation import metrics
from src.evaluation.disentanglement import disentanglement, majority
from src.evaluation.features import Extractor
from src.evaluation.pose_report import summarise_poses
from src.evaluation.results import Both, Compared, Report
from src.evaluation.samples import compare_samples
from src.evaluation.sequence_metrics import sequence_values
from src.models.latents import FrameSequence
from src.models.meters import bounds_likelihood, psnr
from src.models.vae import VAE
from src.utils.errors import UserError

# Rows that the baselines are fitted to and that nearest neighbours are looked for in.
BASELINE_ROWS = 20_000
# … and how many numbers those rows may hold together: half a gigabyte.
BASELINE_ELEMENTS = 2**27
# Frames have a background that a decoder can learn by heart: below these a code says next to nothing of what moves.
LEAST_OF_FRAMES = {"least_active": 4, "least_kl": 2.0}


@torch.no_grad()
def posterior_means(model: VAE, x: Tensor, batch_size: int = 256) -> Tensor:
    """Codes of x (N, *shape) on the CPU, (N, D): the posterior means, of sequences those of the first frame."""
    parts = [model.encode(part.to(model.device)).mean for part in x.split(batch_size)]
    if isinstance(model.latent, FrameSequence):
        # With a code for every frame the others hold the same factors again.
        parts = [model.latent.trajectory(part)[:, 0] for part in parts]
    return torch.cat([part.cpu() for part in parts])


@torch.no_grad()
def batch_sums(
    model: VAE, batch: dict[str, Tensor], k: int, background: Tensor | None = None
) -> dict[str, Tensor]:
    """Sums over a batch of what the model's own test step does not compute.

    The importance-weighted NLL and SSIM, and for frames, which have a ``background``, the errors in what moves and
    those of pictures decoded from a sample of q(z | x), as other authors measure them.
    """
    x, c = batch["x"], model.condition_of(batch)
    found = {}
    if bounds_likelihood(model):
        found["nll"] = -model.log_likelihood(x, k, c).sum()
    if x.dim() not in (4, 5):
        return found
    q = model.encode(x, c)
    decoded = model.decode(q.mean, c).mean
    found["ssim"] = metrics.ssim(x, decoded.clamp(0, 1)).sum()
    if background is not None:
        found |= metrics.foreground_sums(x, decoded, background.to(x))
        sampled = model.decode(q.sample(), c).mean
        found["mse_sampled"] = (sampled - x).square().flatten(1).mean(1).sum()
    return found


def finish_sums(values: dict[str, float]) -> dict[str, float]:
    """Means of ``batch_sums`` over a test split, with what follows from two of them."""
    found = dict(values)
    squares = found.pop("foreground_squares", 0.0)
    found |= metrics.foreground(squares, found.pop("foreground_elements", 0.0))
    if "mse_sampled" in found:
        found["psnr_sampled"] = float(psnr(torch.tensor(found["mse_sampled"])))
    return found


def summarise(
    model: VAE,
    values: dict[str, float],
    compared: Compared,
    fit_features: Callable[[], Extractor] | None = None,
) -> Report:
    """Complete the values of a test with neighbours, baselines and warnings.

    Args:
        model: the tested model.
        values: metric → mean over the whole test split, as ``finish_sums`` leaves them.
        compared: samples of train and test.
        fit_features: gives what samples are to be compared by; None leaves their metrics out.
    """
    if compared.rotations:
        return summarise_poses(model, values, compared)
    train, test, labels, factors = (
        compared.train,
        compared.test,
        compared.labels,
        compared.factors,
    )
    # With a code for every frame: T·D.
    dim = model.encode(test[:1].to(model.device)).mean[0].numel()
    if labels or factors:
        codes = [posterior_means(model, x).numpy() for x in (train, test)]
    if labels:
        values["knn_accuracy"] = metrics.knn_accuracy(
            codes[0], labels[0].numpy(), codes[1], labels[1].numpy()
        )
    if factors:
        values |= disentanglement(codes[0], factors[0].numpy(), codes[1], factors[1].numpy())
    largest = metrics.fit_pca(train, max(dim, *compared.components, 1))
    pca = metrics.leading(largest, dim)
    report = Report(values, _baselines(model, largest, dim, compared))
    if isinstance(model.latent, FrameSequence):
        _add_sequences(report, model, train, test)
    # A log-probability of grey levels has another unit than the log-densities of these baselines.
    if "nll" not in values or model.latent.likelihood.discrete:
        for found in report.baselines.values():
            found.pop("nll", None)
    report.warnings += _warnings(model, values, dim, compared.background is not None)
    if fit_features is not None and model.can_sample:
        try:
            add_samples(report, model, train, test, labels, pca, fit_features())
        except UserError as error:
            report.warnings.append(f"there are no metrics of the samples: {error}")
    report.sort()
    return report


def _baselines(
    model: VAE, largest: PCA, dim: int, compared: Compared
) -> dict[str, dict[str, float]]:
    density = model.latent.likelihood.normalised
    train, test, labels, factors = (
        compared.train,
        compared.test,
        compared.labels,
        compared.factors,
    )
    found = {"mean image": metrics.mean_image(train, test, density, compared.background)}
    for size in sorted({*compared.components, dim}):
        pca = metrics.leading(largest, size)
        found[f"PCA-{pca.n_components_}"] = metrics.pca(
            train, test, size, density, labels, factors, pca, compared.background
        )
    if factors:
        found["majority"] = majority(factors[0].numpy(), factors[1].numpy())
    return found


def _add_sequences(report: Report, model: VAE, train: Tensor, test: Tensor) -> None:
    found, pixels = sequence_values(model, train, test)
    report.values |= found
    report.baselines["neighbour mean"] = pixels
    closing = float((test[:, -1] - test[:, 0]).square().mean())
    report.baselines["the data"] = {"cyclicity_error": closing}


def _warnings(model: VAE, values: dict[str, float], dim: int, frames: bool) -> list[str]:
    found = []
    if "kl" in values:
        least: dict[str, Any] = LEAST_OF_FRAMES if frames else {}
        collapse = metrics.collapse_warning(values["active_units"], dim, values["kl"], **least)
        found += [collapse] if collapse else []
    if model.latent.metric is not None and not model.latent.metric.is_fitted:
        found.append(
            "the latent metric of the tested weights was never fitted: it is Euclidean; see callbacks.metric"
        )
    return found


def add_samples(
    report: Report,
    model: VAE,
    train: Tensor,
    test: Tensor,
    labels: Both,
    pca: PCA,
    extractor: Extractor,
) -> None:
    """Add to a report what ``compare_samples`` finds, and what the samples were compared by."""
    known = labels[1] if labels else None
    found, trivial = compare_samples(model, train, test, extractor, pca, known)
    report.values.update(found)
    for name, row in trivial.items():
        report.baselines.setdefault(name, {}).update(row)
    report.facts["features"] = extractor.facts
