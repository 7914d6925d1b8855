"""Many samples at once: their numbers as a table, and their codes."""

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from src.evaluation.inference.infer import Yardstick, dimensions, infer, slices, unit
from src.evaluation.inference.uploads import Samples
from src.evaluation.opened import OpenedRun


@dataclass(frozen=True)
class Batch:
    """What a model makes of many samples.

    Attributes:
        columns: heading with unit → (N,) values.
        names: (N,) of the samples.
        mean, sigma: codes (N, *latent shape); σ is None where the posterior is not factorised.
    """

    columns: dict[str, list[Any]]
    names: list[str]
    mean: np.ndarray
    sigma: np.ndarray | None

    def rows(self) -> list[dict[str, Any]]:
        """The table, one dict a sample."""
        keys = ["sample", *self.columns]
        return [
            dict(zip(keys, row, strict=True))
            for row in zip(self.names, *self.columns.values(), strict=True)
        ]

    def table_csv(self) -> str:
        """The table as text."""
        return _csv(["sample", *self.columns], zip(self.names, *self.columns.values(), strict=True))

    def codes_csv(self) -> str:
        """One row a sample: its name, then μ and, where there are, σ of every dimension."""
        parts = {"mean": self.mean} | ({} if self.sigma is None else {"sigma": self.sigma})
        heads = [f"{part} z[{name}]" for part, codes in parts.items() for name in dimensions(codes)]
        values = np.concatenate([codes.reshape(len(codes), -1) for codes in parts.values()], 1)
        rows = ([name, *row] for name, row in zip(self.names, values.tolist(), strict=True))
        return _csv(["sample", *heads], rows)

    def codes_npz(self) -> bytes:
        """Arrays ``sample``, ``mean`` and, where there are, ``sigma``."""
        stream = io.BytesIO()
        arrays: dict[str, Any] = {"sample": np.array(self.names), "mean": self.mean}
        if self.sigma is not None:
            arrays["sigma"] = self.sigma
        np.savez(stream, **arrays)
        return stream.getvalue()


def evaluate(
    run: OpenedRun,
    samples: Samples,
    yardstick: Yardstick | None,
    c: int | None = None,
    progress: Callable[[float], object] = lambda share: None,
) -> Batch:
    """The numbers and codes of many samples, in chunks that fit into memory.

    Args:
        yardstick: what percentiles are of; None for none.
        c: the class of all of them, −1 for an unknown one, of a model that takes one.
        progress: is told the share that is done.
    """
    numbers: dict[str, list[Tensor]] = {}
    means, sigmas = [], []
    known = None if yardstick is None else yardstick.calibrated
    for rows in slices(len(samples), run.model.shape):
        x = samples.floats(rows)
        found = infer(run, x, None if c is None else torch.full((len(x),), c), known)
        means.append(found.mean)
        sigmas += [] if found.sigma is None else [found.sigma]
        for name, values in found.numbers.items():
            numbers.setdefault(name, []).append(values)
        progress(rows.stop / len(samples))
    columns = _columns({n: torch.cat(v) for n, v in numbers.items()}, yardstick, run.is_pose)
    sigma = torch.cat(sigmas).numpy() if sigmas else None
    return Batch(columns, samples.names, torch.cat(means).numpy(), sigma)


def _columns(
    numbers: dict[str, Tensor], yardstick: Yardstick | None, pose: bool
) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    total = numbers.get("energy")
    if total is not None:
        found["energy (nats)"] = total.tolist()
    if total is not None and yardstick is not None:
        found["percentile (%)"] = yardstick.percentile(total).tolist()
        rejected = yardstick.rejects(total)
        if rejected is not None:
            found["rejected"] = rejected.tolist()
    rest = {name: values for name, values in numbers.items() if name != "energy"}
    return found | {f"{name} ({unit(name, pose)})": v.tolist() for name, v in rest.items()}


def _csv(heads: list[str], rows: Any) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows(rows)
    return stream.getvalue()
