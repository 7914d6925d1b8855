"""Numbers of a test beside their trivial baselines, as a dict and as a table."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from rich.table import Column, Table
from sklearn.decomposition import PCA
from torch import Tensor

from src.evaluation import metrics
from src.evaluation.disentanglement import disentanglement, majority
from src.evaluation.features import Extractor
from src.evaluation.samples import compare_samples
from src.evaluation.sequence_metrics import sequence_values
from src.models.latents import FrameSequence
from src.models.meters import bounds_likelihood
from src.models.vae import VAE
from src.utils.errors import UserError

# A column of train and test, where the data has one.
Both = tuple[Tensor, Tensor] | None
# Rows that the baselines are fitted to and that nearest neighbours are looked for in.
BASELINE_ROWS = 20_000
# … and how many numbers those rows may hold together: half a gigabyte.
BASELINE_ELEMENTS = 2**27


@dataclass
class Report:
    """The result of an evaluation.

    Attributes:
        values: metric → value.
        baselines: baseline → metric → value.
        warnings: what a reader must know.
        facts: how some of the values came about.
    """

    values: dict[str, float]
    baselines: dict[str, dict[str, float]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def as_dict(self, stage: str = "test") -> dict[str, Any]:
        """The content of ``results.json``."""
        rows = {
            f"{stage}/{name}": {
                "value": value,
                "unit": metrics.UNITS.get(name, "nats"),
                "baselines": {
                    baseline: found[name]
                    for baseline, found in self.baselines.items()
                    if name in found
                },
            }
            for name, value in self.values.items()
        }
        return {"metrics": rows, "warnings": self.warnings, **self.facts}

    def table(self, title: str) -> Table:
        """One row a metric, one column a baseline; the best of a row is bold."""
        table = Table(
            Column("metric", no_wrap=True),
            Column("unit", no_wrap=True),
            "this model",
            *self.baselines,
            title=title,
            title_justify="left",
        )
        for name, value in self.values.items():
            others = [found.get(name) for found in self.baselines.values()]
            everyone = [number for number in [value, *others] if number is not None]
            best = min(everyone) if name in metrics.LOWER_IS_BETTER else max(everyone)
            compared = any(other is not None for other in others)
            cells = [
                "—" if v is None else f"[bold]{v:.4g}[/]" if compared and v == best else f"{v:.4g}"
                for v in [value, *others]
            ]
            table.add_row(name, metrics.UNITS.get(name, "nats"), *cells)
        return table


@torch.no_grad()
def posterior_means(model: VAE, x: Tensor, batch_size: int = 256) -> Tensor:
    """Codes of x (N, *shape) on the CPU, (N, D): the posterior means, of sequences those of the first frame."""
    parts = [model.encode(part.to(model.device)).mean for part in x.split(batch_size)]
    if isinstance(model.latent, FrameSequence):
        # With a code for every frame the others hold the same factors again.
        parts = [model.latent.trajectory(part)[:, 0] for part in parts]
    return torch.cat([part.cpu() for part in parts])


@torch.no_grad()
def batch_sums(model: VAE, batch: dict[str, Tensor], k: int) -> dict[str, Tensor]:
    """Sums over a batch of what the model's own test step does not compute: importance-weighted NLL and SSIM."""
    x, c = batch["x"], model.condition_of(batch)
    found = {}
    if bounds_likelihood(model):
        found["nll"] = -model.log_likelihood(x, k, c).sum()
    if x.dim() in (4, 5):
        found["ssim"] = metrics.ssim(x, model.reconstruct(x, c).clamp(0, 1)).sum()
    return found


def summarise(
    model: VAE,
    values: dict[str, float],
    train: Tensor,
    test: Tensor,
    labels: Both,
    factors: Both = None,
    fit_features: Callable[[], Extractor] | None = None,
) -> Report:
    """Complete the values of a test with neighbours, baselines and warnings.

    Args:
        model: the tested model.
        values: metric → mean over the whole test split.
        train, test: (N, *shape) as the model sees them.
        labels: of train and test, where there are any.
        factors: (N, F) of train and test, where they are known.
        fit_features: gives what samples are to be compared by; None leaves their metrics out.
    """
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
    pca = metrics.fit_pca(train, dim)
    report = Report(values, _baselines(model, pca, train, test, labels, factors))
    if isinstance(model.latent, FrameSequence):
        _add_sequences(report, model, train, test)
    # A log-probability of grey levels has another unit than the log-densities of these baselines.
    if "nll" not in values or model.latent.likelihood.discrete:
        for found in report.baselines.values():
            found.pop("nll", None)
    report.warnings += _warnings(model, values, dim)
    if fit_features is not None and model.can_sample:
        try:
            add_samples(report, model, train, test, labels, pca, fit_features())
        except UserError as error:
            report.warnings.append(f"there are no metrics of the samples: {error}")
    order = [name for name in metrics.UNITS if name in values] + sorted(
        name for name in values if name not in metrics.UNITS
    )
    report.values = {name: values[name] for name in order}
    return report


def _baselines(
    model: VAE, pca: PCA, train: Tensor, test: Tensor, labels: Both, factors: Both
) -> dict[str, dict[str, float]]:
    density, dim = model.latent.likelihood.normalised, pca.n_components_
    found = {
        "mean image": metrics.mean_image(train, test, density),
        f"PCA-{dim}": metrics.pca(train, test, dim, density, labels, factors, pca),
    }
    if factors:
        found["majority"] = majority(factors[0].numpy(), factors[1].numpy())
    return found


def _add_sequences(report: Report, model: VAE, train: Tensor, test: Tensor) -> None:
    found, pixels = sequence_values(model, train, test)
    report.values |= found
    report.baselines["neighbour mean"] = pixels
    closing = float((test[:, -1] - test[:, 0]).square().mean())
    report.baselines["the data"] = {"cyclicity_error": closing}


def _warnings(model: VAE, values: dict[str, float], dim: int) -> list[str]:
    found = []
    if "kl" in values:
        collapse = metrics.collapse_warning(values["active_units"], dim, values["kl"])
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
