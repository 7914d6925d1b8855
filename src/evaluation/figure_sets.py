"""Which figures a model gets: everything here is computed from the model and the data of one split."""

from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor

from src.evaluation import animations, figures, geometry_figures, sequence_figures
from src.evaluation.codes import distant_pairs, encoded, informative, of_codes
from src.evaluation.pose_figure_set import pose_figure_set
from src.models.geometry import geodesic, length, line
from src.models.latents import FrameSequence
from src.utils.errors import UserError

Level = Literal["minimal", "standard", "full"]
LEVELS = ("minimal", "standard", "full")
# Matplotlib's figure, or plotly's for a page.
Named = tuple[str, Any]

TRAVERSED = 8
PICTURES, SEQUENCES = 2000, 200
# Reconstructed pictures in a figure.
SHOWN = 10
GEODESICS = 4
POINTS = 33


def check_level(level: str) -> None:
    """Refuse an unknown level."""
    if level not in LEVELS:
        raise UserError(
            f"callbacks.figures.level='{level}' is unknown; choices: {', '.join(LEVELS)}"
        )


def figure_set(model: Any, data: Any, split: str, level: Level) -> Iterator[Named]:
    """All figures of a level, by name.

    ``minimal`` is reconstructions and samples; ``standard`` adds what the latent space looks like; ``full`` adds maps
    over time and pages that move.
    """
    if data.value_range == "rotation":
        yield from pose_figure_set(model, data, split, level)
    elif isinstance(model.latent, FrameSequence):
        yield from _of_sequences(model, data, split, level)
    else:
        yield from _of_samples(model, data, split, level)


def _of_samples(model: Any, data: Any, split: str, level: Level) -> Iterator[Named]:
    rows = data.spread(split, PICTURES)
    x, labels = data.rows(split, rows), data.labels(split)
    labels = None if labels is None else labels[rows]
    # Evenly spread: the first frames of an episode look alike.
    few = data.rows(split, data.spread(split, SHOWN)).to(model.device)
    yield "reconstructions", figures.reconstructions(few.cpu(), model.reconstruct(few).cpu())
    if model.can_sample:
        yield "samples", figures.samples(model.sample(64).cpu())
    if level == "minimal":
        return
    z, sigma, kl = encoded(model, x)
    yield from of_codes(z, sigma, kl, labels)
    information, unit = informative(z, kl)
    dimensions = information.argsort(descending=True)[:TRAVERSED].tolist()
    values = torch.linspace(-3, 3, 9)
    grid = figures.traversal_grid(model, few[0], dimensions, values).cpu()
    yield "traversals", figures.traversals(grid, values, dimensions, information, unit)
    if model.latent.metric is not None and z.shape[1] > 1:
        yield from _of_metric(model, z, labels)


def _of_sequences(model: Any, data: Any, split: str, level: Level) -> Iterator[Named]:
    rows = data.spread(split, SEQUENCES)
    x, labels = data.rows(split, rows), data.labels(split)
    labels = None if labels is None else labels[rows]
    means, y = _encoded(model, x)
    yield "reconstructions", sequence_figures.sequence_reconstructions(x, y)
    if model.can_sample:
        yield "samples", sequence_figures.sample_sequences(model.sample(8).cpu().clamp(0, 1))
    if level == "minimal":
        return
    states = model.latent.trajectory(means.to(model.device)).cpu()
    if states.shape[-1] > 1:  # there is no plane through a line
        yield "cyclicity", sequence_figures.cyclicity(x, y, states)
        yield "trajectories", sequence_figures.trajectories(states, labels)
    yield "latent_scatter", figures.latent_scatter(states[:, 0], labels)
    spread = states[:, 0].var(0)
    dimensions = spread.argsort(descending=True)[:TRAVERSED].tolist()
    values = torch.linspace(-3, 3, 9)
    grid = figures.moved(states[0, 0], dimensions, values)
    decoded = model.latent.decode_frames(grid.to(model.device)).cpu()
    yield "traversals", figures.traversals(decoded, values, dimensions, spread, "variance")
    if level == "full":
        yield "sequences", animations.sequence_animation(x, y)
    if model.latent.metric is None or states.shape[-1] < 2:
        return
    yield from _of_metric(model, states[:, 0], labels)
    metric = model.latent.metric()
    half_logdet = _on_cpu(metric.half_logdet_inverse, model.device)
    point = metric.at(states.to(model.device))
    volume, condition = point.half_logdet_inverse.cpu(), point.log10_condition().cpu()
    yield "metric_over_time", sequence_figures.metric_over_time(volume, condition)
    if hasattr(model.latent, "chain"):
        log_dets = model.latent.chain(means.to(model.device))[1].cpu()
        yield "jacobians", sequence_figures.jacobians(log_dets, volume)
    if level == "full":
        steps = sorted({0, states.shape[1] // 3, 2 * states.shape[1] // 3, states.shape[1] - 1})
        yield (
            "logdet_over_time",
            geometry_figures.logdet_over_time(states, half_logdet, steps),
        )
        yield "latent_trajectories", animations.trajectory_animation(states, half_logdet)
        yield "metric_slider", animations.metric_slider(states, half_logdet)


def _of_metric(model: Any, codes: Tensor, labels: Tensor | None) -> Iterator[Named]:
    """Figures of the latent metric around codes (N, D)."""
    metric = model.latent.metric()
    half_logdet = _on_cpu(metric.half_logdet_inverse, model.device)
    yield "magnification", geometry_figures.magnification_map(codes, half_logdet, labels)
    point = metric.at(codes.to(model.device))
    spectrum = torch.linalg.eigvalsh(point.inverse).cpu()
    yield (
        "metric_eigenvalues",
        geometry_figures.eigenvalues(spectrum, point.log10_condition().cpu()),
    )
    pairs = distant_pairs(codes, GEODESICS).to(model.device)
    if not pairs.shape[1]:
        return
    curves = geodesic(metric, pairs[0], pairs[1], points=POINTS)
    lines = line(pairs[0], pairs[1], POINTS)
    lengths = torch.stack([length(metric, curves), length(metric, lines)], 1).cpu()
    yield (
        "geodesics",
        geometry_figures.geodesic_map(
            codes,
            half_logdet,
            curves.cpu(),
            lines.cpu(),
            lengths,
        ),
    )
    shown = slice(None, None, 4)
    decode = getattr(model.latent, "decode_frames", None) or (lambda z: model.decode(z).mean)
    strips = [
        (f"{name} {i + 1}", decode(path[shown, i]).cpu().clamp(0, 1))
        for i in range(min(2, len(pairs[0])))
        for name, path in (("straight", lines), ("geodesic", curves))
    ]
    if strips[0][1].dim() == 4:
        yield "interpolations", geometry_figures.interpolation_strips(strips)


def _encoded(model: Any, x: Tensor, batch_size: int = 64) -> tuple[Tensor, Tensor]:
    """Posterior means and reconstructions of x, on the CPU."""
    found = [model.encode(part.to(model.device)).mean for part in x.split(batch_size)]
    decoded = [model.decode(mean).mean.cpu() for mean in found]
    return torch.cat([mean.cpu() for mean in found]), torch.cat(decoded)


def _on_cpu(function: Any, device: torch.device) -> Any:
    return lambda z: function(z.to(device)).cpu()
