"""Numbers of a test beside their trivial baselines, as a dict and as a table."""

from dataclasses import dataclass, field
from typing import Any

import torch
from rich.table import Column, Table
from torch import Tensor

from src.evaluation import metrics
from src.evaluation.disentanglement import disentanglement, majority
from src.evaluation.sequence_metrics import sequence_values
from src.models.latents import FrameSequence
from src.models.vae import VAE

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
    """

    values: dict[str, float]
    baselines: dict[str, dict[str, float]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

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
        return {"metrics": rows, "warnings": self.warnings}

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
def batch_sums(model: VAE, x: Tensor, k: int) -> dict[str, Tensor]:
    """Sums over a batch of what the model's own test step does not compute: importance-weighted NLL and SSIM."""
    found = {}
    if model.latent.prior is not None:
        found["nll"] = -model.log_likelihood(x, k).sum()
    if x.dim() in (4, 5):
        found["ssim"] = metrics.ssim(x, model.reconstruct(x).clamp(0, 1)).sum()
    return found


def summarise(
    model: VAE,
    values: dict[str, float],
    train: Tensor,
    test: Tensor,
    labels: tuple[Tensor, Tensor] | None,
    factors: tuple[Tensor, Tensor] | None = None,
) -> Report:
    """Complete the values of a test with ELBO, neighbours, baselines and warnings.

    Args:
        model: the tested model.
        values: metric → mean over the whole test split.
        train, test: (N, *shape) as the model sees them.
        labels: of train and test, where there are any.
        factors: (N, F) of train and test, where they are known.
    """
    if "kl" in values:
        values["elbo"] = -values["recon_nll"] - values["kl"]
    dim = (
        model.encode(test[:1].to(model.device)).mean[0].numel()
    )  # with a code for every frame: T·D
    if labels or factors:
        codes = [posterior_means(model, x).numpy() for x in (train, test)]
    if labels:
        values["knn_accuracy"] = metrics.knn_accuracy(
            codes[0], labels[0].numpy(), codes[1], labels[1].numpy()
        )
    if factors:
        values |= disentanglement(codes[0], factors[0].numpy(), codes[1], factors[1].numpy())
    density = bool(getattr(model.latent.likelihood, "normalised", False))
    baselines = {
        "mean image": metrics.mean_image(train, test, density),
        f"PCA-{dim}": metrics.pca(train, test, dim, density, labels, factors),
    }
    if factors:
        baselines["majority"] = majority(factors[0].numpy(), factors[1].numpy())
    if isinstance(model.latent, FrameSequence):
        found, pixels = sequence_values(model, train, test)
        values |= found
        baselines["neighbour mean"] = pixels
        closing = float((test[:, -1] - test[:, 0]).square().mean())
        baselines["the data"] = {"cyclicity_error": closing}
    if "nll" not in values:
        for found in baselines.values():
            found.pop("nll", None)
    warning = (
        metrics.collapse_warning(values["active_units"], dim, values["kl"])
        if "kl" in values
        else None
    )
    order = [name for name in metrics.UNITS if name in values] + sorted(
        name for name in values if name not in metrics.UNITS
    )
    warnings = [warning] if warning else []
    if model.latent.metric is not None and not model.latent.metric.is_fitted:
        warnings.append(
            "the latent metric of the tested weights was never fitted: it is Euclidean; see callbacks.metric"
        )
    return Report({name: values[name] for name in order}, baselines, warnings)
