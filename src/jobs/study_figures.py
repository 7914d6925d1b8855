"""Pictures of a study, as PNG and as one page that moves."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

BLUE, ORANGE, GREY = "#2b6cb0", "#dd6b20", "#a0aec0"


def figures(
    study: Any,
    folder: Path,
    metrics: Sequence[str],
    importances: dict[str, dict[str, float]],
    default: Any | None,
) -> None:
    """Write ``history``, ``parallel_coordinates``, ``importances`` and, of two metrics, ``pareto_front`` as PNG.

    Args:
        importances: metric → setting → part explained.
        default: the trial of the config's own values.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _save(_history(study, metrics, default), folder / "history.png")
    _save(_parallel(study, metrics, default), folder / "parallel_coordinates.png")
    if importances:
        _save(_importances(importances), folder / "importances.png")
    if len(metrics) == 2:
        _save(_pareto(study, metrics, default), folder / "pareto_front.png")


def _figure(width: float, height: float, rows: int = 1) -> tuple[Any, list[Any]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = [figure.add_subplot(rows, 1, k + 1) for k in range(rows)]
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Any, file: Path) -> None:
    figure.savefig(file, dpi=130)


def _complete(study: Any) -> list[Any]:
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]


def _history(study: Any, metrics: Sequence[str], default: Any | None) -> Any:
    """Every trial's value, the best so far, and the last value before a pruned trial was ended."""
    figure, rows = _figure(7, 3.2 * len(metrics) + 0.6, len(metrics))
    done = _complete(study)
    pruned = [
        t
        for t in study.get_trials(deepcopy=False)
        if t.state.name == "PRUNED" and t.intermediate_values
    ]
    for index, (axes, metric) in enumerate(zip(rows, metrics, strict=True)):
        numbers, values = [t.number for t in done], [t.values[index] for t in done]
        bottom, top = _focus(axes, values)
        axes.scatter(numbers, _within(values, bottom, top), color=BLUE, label="complete", zorder=3)
        if len(metrics) == 1:
            best = best_so_far(values, study.directions[0].name == "MAXIMIZE")
            axes.step(numbers, best, where="post", color=BLUE, alpha=0.5, label="best so far")
            if pruned:
                last = [t.intermediate_values[t.last_step] for t in pruned]
                _mark_pruned(axes, [t.number for t in pruned], _within(last, bottom, top))
                values = [*values, *last]
        if min(values) < bottom or max(values) > top:
            axes.set_title("Values beyond the axis lie on its edge.", fontsize="small", loc="right")
        if default is not None and default.values:
            axes.axhline(default.values[index], color=ORANGE, ls="--", lw=1, label="default")
        axes.set(xlabel="trial", ylabel=with_unit(metric))
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(frameon=False, fontsize="small")
    return figure


def best_so_far(values: Sequence[float], maximize: bool) -> list[float]:
    """For every value the best of those up to it."""
    better, best = (max if maximize else min), values[0]
    found = []
    for value in values:
        best = better(best, value)
        found.append(best)
    return found


def _mark_pruned(axes: Any, numbers: Sequence[int], values: Sequence[float]) -> None:
    axes.scatter(
        numbers, values, marker="x", color=GREY, label="pruned, last value", zorder=3, clip_on=False
    )


def _focus(axes: Any, values: Sequence[float]) -> tuple[float, float]:
    """Limits in which one trial that went astray does not flatten the others."""
    bottom, top = without_strays(values)
    margin = 0.08 * (top - bottom) or 0.05 * abs(top) or 1.0
    axes.set_ylim(bottom - margin, top + margin)
    return bottom - margin, top + margin


def _within(values: Sequence[float], bottom: float, top: float) -> list[float]:
    return [min(max(value, bottom), top) for value in values]


def _parallel(study: Any, metrics: Sequence[str], default: Any | None) -> Any:
    """A line for each trial through the values of its settings, coloured by the first metric."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    done = _complete(study)
    settings = list(done[0].params)
    figure, (axes,) = _figure(1.9 * (len(settings) + len(metrics)) + 2, 4)
    scales = [_scale([t.params[s] for t in done], study, s) for s in settings]
    scales += [_scale([t.values[k] for t in done], study, None) for k in range(len(metrics))]
    ordered = sorted(t.values[0] for t in done)
    # As for the history: a trial that went astray would take all the colours.
    worst = 0 if study.directions[0].name == "MAXIMIZE" else -1
    limits = [ordered[0], ordered[-1]]
    limits[worst] = ordered[len(ordered) // 4] if worst == 0 else ordered[(3 * len(ordered)) // 4]
    name = "viridis" if worst == 0 else "viridis_r"
    colours = ScalarMappable(Normalize(*limits), colormaps[name])
    best = study.best_trials
    for trial in sorted(done, key=lambda t: t in best):
        row = [*(trial.params[s] for s in settings), *trial.values]
        heights = [to_height(value) for (to_height, _), value in zip(scales, row, strict=True)]
        style: dict[str, Any] = {"lw": 2.6} if trial in best else {"lw": 1.2, "alpha": 0.8}
        style["label"] = (("best", "Pareto front")[len(metrics) > 1]) if trial in best else None
        if default is not None and trial.number == default.number:
            style |= {"ls": "--", "lw": 2.0, "label": "default"}
        axes.plot(range(len(row)), heights, color=colours.to_rgba(trial.values[0]), **style)
    _parallel_axes(axes, [*settings, *metrics], scales)
    _legend_once(axes)
    figure.colorbar(colours, ax=axes, label=metrics[0], extend="min" if worst == 0 else "max")
    return figure


def _legend_once(axes: Any) -> None:
    handles, labels = axes.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    axes.legend(
        once.values(), once.keys(), frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=2
    )


def _parallel_axes(axes: Any, names: Sequence[str], scales: Sequence[Any]) -> None:
    axes.set_xticks(range(len(names)), [name.replace(".", ".\n") for name in names])
    axes.set(yticks=[], ylim=(-0.06, 1.06), xlim=(-0.15, len(names) - 0.6))
    axes.spines[["left", "bottom"]].set_visible(False)
    for k, (_, ticks) in enumerate(scales):
        axes.axvline(k, color="black", lw=0.8)
        for height, label in ticks:
            axes.text(
                k + 0.03,
                height,
                label,
                fontsize="x-small",
                va="center",
                backgroundcolor=(1, 1, 1, 0.6),
            )


def _scale(
    values: Sequence[Any], study: Any, setting: str | None
) -> tuple[Any, list[tuple[float, str]]]:
    """From a value to its height in [0, 1], and ticks; logarithmic where the space is."""
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        words = sorted({str(v) for v in values})
        span = max(len(words) - 1, 1)
        return (lambda v: words.index(str(v)) / span), [(k / span, w) for k, w in enumerate(words)]
    trials = _complete(study)
    log = setting is not None and getattr(trials[0].distributions[setting], "log", False)
    low, high = min(values), max(values)
    if setting is None and len(values) > 4:
        low, high = without_strays(values)

    def unit(value: float) -> float:
        if high == low:
            return 0.5
        part = math.log(value / low) / math.log(high / low) if log else (value - low) / (high - low)
        return min(max(part, 0.0), 1.0)

    if setting is not None and len(set(values)) < 6:
        return unit, [(unit(value), f"{value:.3g}") for value in sorted(set(values))]
    steps = [
        low * (high / low) ** f if log else low + (high - low) * f for f in (0, 0.25, 0.5, 0.75, 1)
    ]
    return unit, [(unit(value), f"{value:.3g}") for value in dict.fromkeys(steps)]


def without_strays(values: Sequence[float]) -> tuple[float, float]:
    """The ends of an axis on which one trial that went astray does not flatten the others."""
    ordered = sorted(values)
    low, high = ordered[len(ordered) // 4], ordered[(3 * len(ordered)) // 4]
    reach = 4 * (high - low)
    return max(ordered[0], low - reach), min(ordered[-1], high + reach)


def _importances(found: dict[str, dict[str, float]]) -> Any:
    settings = list(dict.fromkeys(s for parts in found.values() for s in parts))[::-1]
    figure, (axes,) = _figure(6.5, 0.45 * len(settings) * len(found) + 1.1)
    height = 0.8 / len(found)
    for k, (metric, parts) in enumerate(found.items()):
        places = [row - height * k for row in range(len(settings))]
        shares = [parts.get(setting, 0.0) for setting in settings]
        bars = axes.barh(
            places, shares, height=0.9 * height, color=(BLUE, ORANGE, GREY)[k % 3], label=metric
        )
        axes.bar_label(bars, [f"{share:.0%}" for share in shares], padding=3, fontsize="small")
    middle = height * (len(found) - 1) / 2
    axes.set_yticks([row - middle for row in range(len(settings))], settings)
    axes.set(xlabel="part of the variance over the trials that it explains (fANOVA)", xlim=(0, 1.1))
    axes.legend(frameon=False, fontsize="small", loc="lower right")
    return figure


def _pareto(study: Any, metrics: Sequence[str], default: Any | None) -> Any:
    figure, (axes,) = _figure(6, 4.4)
    done = _complete(study)
    axes.scatter(*zip(*(t.values for t in done), strict=True), color=GREY, label="complete")
    front = sorted((t.values for t in study.best_trials), key=lambda v: v[0])
    axes.plot(*zip(*front, strict=True), "o-", color=BLUE, label="Pareto front")
    for trial in study.best_trials:
        axes.annotate(
            str(trial.number),
            trial.values,
            xytext=(4, 4),
            textcoords="offset points",
            fontsize="x-small",
        )
    if default is not None and default.values:
        axes.scatter(*default.values, marker="D", color=ORANGE, label="default", zorder=4)
    axes.set(xlabel=with_unit(metrics[0]), ylabel=with_unit(metrics[1]))
    axes.legend(frameon=False, fontsize="small")
    return figure


def with_unit(metric: str) -> str:
    """A metric's name, with its unit where that is nats."""
    nats = metric.rsplit("/", 1)[-1] in ("recon_nll", "kl", "elbo", "nll", "loss")
    return f"{metric} (nats)" if nats else metric


def page(
    study: Any, file: Path, metrics: Sequence[str], importances: dict[str, dict[str, float]]
) -> None:
    """Write one page with Optuna's interactive plots; it needs no network."""
    from optuna import visualization as plots
    from optuna.importance import FanovaImportanceEvaluator

    from src.runs.record import write_atomic
    from src.utils.charts import CHART

    drawn = []
    for index, metric in enumerate(metrics):
        options: dict[str, Any] = {"target_name": metric}
        if len(metrics) > 1:
            options["target"] = lambda trial, index=index: trial.values[index]
        drawn.append(plots.plot_optimization_history(study, **options))
        drawn.append(plots.plot_parallel_coordinate(study, **options))
        if metric in importances:
            evaluator = FanovaImportanceEvaluator(seed=0)  # as in study.json
            drawn.append(plots.plot_param_importances(study, evaluator, **options))
            drawn.append(plots.plot_slice(study, **options))
    if len(metrics) in (2, 3):
        drawn.insert(0, plots.plot_pareto_front(study, target_names=list(metrics)))
    if len(metrics) == 1:
        drawn.append(plots.plot_intermediate_values(study))
    parts = [
        figure.to_html(full_html=False, include_plotlyjs=k == 0, config=CHART)
        for k, figure in enumerate(drawn)
    ]
    title = study.study_name
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><h1>{title}</h1>'
    write_atomic(file, head + "\n".join(parts) + "</html>\n")
