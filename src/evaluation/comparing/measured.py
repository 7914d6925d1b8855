"""A model measured now, on any data of its shape, as a test would measure it."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from src.evaluation.comparing.document import Part, Table, Text
from src.evaluation.comparing.entries import data_difference
from src.evaluation.opened import OpenedRun, misfit
from src.evaluation.report import batch_sums, finish_sums
from src.evaluation.units import in_order, unit_of
from src.models.meters import EvaluationSums
from src.utils.errors import UserError
from src.utils.seeding import isolated_rng

# Samples measured at once.
BATCH = 128


@torch.inference_mode()
def measure(
    run: OpenedRun,
    x: Tensor,
    labels: Tensor | None,
    k: int,
    batch_size: int = BATCH,
    tell: Callable[[float], object] = lambda done: None,
) -> dict[str, float]:
    """Metric → mean over samples x (N, *shape), with the same noise whenever it is called.

    Of the whole test split, in batches of the same size and with the same k, these are the numbers of ``results.json``.

    Args:
        labels: (N,), given to models that are conditioned on them.
        k: importance samples of the NLL.
        tell: is told which part is done.
    """
    sums, totals = EvaluationSums(), dict[str, Tensor]()
    noise: Tensor | None = None
    for start in range(0, len(x), batch_size):
        batch = {"x": x[start : start + batch_size]}
        if labels is not None:
            batch["label"] = labels[start : start + batch_size]
        # Batch by batch, so that other windows, which wait for the random numbers, have their turn in between.
        with isolated_rng(0):
            if noise is not None:
                torch.set_rng_state(noise)
            sums.add(run.model, *run.model.step(batch["x"], run.model.condition_of(batch)))
            found = batch_sums(run.model, batch, k)
            noise = torch.get_rng_state()
        for name, value in found.items():
            totals[name] = totals.get(name, 0.0) + value.double()
        tell(min(1.0, (start + batch_size) / len(x)))
    means = {name: float(value) for name, value in sums.pop(lambda total: total).items()}
    return means | finish_sums({name: float(total) / len(x) for name, total in totals.items()})


def measure_all(
    runs: Mapping[str, OpenedRun],
    count: int,
    k: int,
    tell: Callable[[float, str], object] = lambda done, word: None,
) -> tuple[dict[str, dict[str, float]], list[str]]:
    """``measure`` several runs on the same held-out samples of the first.

    Args:
        runs: name → run.
        count: at most so many samples, spread over the test split.
        tell: is told which part is done, and with which run.

    Returns:
        Name → metric → value, and a sentence on everything that a reader must know of these numbers.

    Raises:
        UserError: the first run's data are not on this machine, or no model can be asked about them.
    """
    name, first = next(iter(runs.items()))
    x, labels, _ = first.held_out(count)
    found: dict[str, dict[str, float]] = {}
    remarks = []
    for number, (other, run) in enumerate(runs.items()):
        if reason := misfit(run, first, labels):
            remarks.append(f"{other} is left out: {reason}.")
            continue
        if difference := data_difference(run.config["data"], first.config["data"]):
            remarks.append(
                f"{other} was trained with other data settings than {name} (data.{difference}): it may have seen "
                "these samples in its training."
            )
        found[other] = measure(
            run,
            x,
            labels,
            k,
            tell=lambda done, n=number, word=other: tell((n + done) / len(runs), word),  # type: ignore[misc]
        )
    if not found:
        raise UserError(" ".join(remarks))
    return found, remarks


def measured_now(
    runs: Mapping[str, OpenedRun],
    count: int,
    k: int,
    tell: Callable[[float, str], object] = lambda done, word: None,
) -> list[Part]:
    """``measure_all`` as parts of a document.

    Raises:
        UserError: as ``measure_all``.
    """
    found, remarks = measure_all(runs, count, k, tell)
    first = next(iter(runs))
    n = int(max(row["num_samples"] for row in found.values()))
    names = in_order(name for row in found.values() for name in row if name != "num_samples")
    rows = [
        [
            name,
            unit_of(name, runs[first].is_pose),
            *(_cell(row.get(name)) for row in found.values()),
        ]
        for name in names
    ]
    words = (
        f"Measured now on {n} samples of the test data of {first}, the NLL from {k} importance samples. With all of "
        "the test data and as many importance samples these are, but for the noise in z, the numbers of a test."
    )
    return [Text(words), *map(Text, remarks), Table(["metric", "unit", *found], rows, code=(0,))]


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
