"""Parts that start from what another run has learned."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from src.models.geometry import metric_report, read_metric
from src.runs.loading import WEIGHTS, check_tensors
from src.utils.errors import UserError, nearest

# What a part is, by the names of its tensors inside the latent; the head that turns features into a mean and log σ is
# the encoder's, whatever posterior makes of them.
TENSORS = {"encoder": ("encoder.", "posterior.head."), "decoder": ("decoder.",)}


# What a metric of a file may be told anew.
OVERRIDES = ("temperature", "regularization")

log = logging.getLogger(__name__)


def load_pretrained(model: Any) -> None:
    """Copy the parts that ``model.pretrained`` names into a model before it is trained.

    ``encoder``, ``decoder`` and ``metric`` each name a run, its ``model`` directory, or a file; null names none.

    Raises:
        UserError: nothing is there, or it is of another architecture.
    """
    known = [*TENSORS, "metric", *OVERRIDES]
    for name in OVERRIDES:
        if model.pretrained.get(name) is not None and not model.pretrained.get("metric"):
            raise UserError(
                f"model.pretrained.{name} is that of model.pretrained.metric, and none is given"
            )
    for part, path in model.pretrained.items():
        if part not in known:
            raise UserError(f"model.pretrained.{part} is unknown{nearest(part, known)}")
        if path and part == "metric":
            _load_metric(model.latent, Path(path), {n: model.pretrained.get(n) for n in OVERRIDES})
        elif path and part in TENSORS:
            _load_tensors(model.latent, part, Path(path))


def part_tensors(state: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    """The tensors of ``encoder`` or ``decoder`` in a state dict, named as inside the latent."""
    short = {name.removeprefix("latent."): tensor for name, tensor in state.items()}
    # The flow of a posterior keeps its Gaussian, and with it the head, one level further down.
    short = {name.replace("posterior.gaussian.", "posterior."): t for name, t in short.items()}
    return {name: t for name, t in short.items() if name.startswith(TENSORS[part])}


def _load_tensors(latent: nn.Module, part: str, path: Path) -> None:
    where = f"model.pretrained.{part}={path}"
    found = part_tensors(_read(_weights_file(path, where, f"{part}.safetensors"), where), part)
    own = part_tensors(latent.state_dict(keep_vars=True), part)
    check_tensors(own, found, where)
    for name, tensor in found.items():
        own[name].data.copy_(tensor)


def _load_metric(latent: Any, path: Path, overrides: Mapping[str, Any]) -> None:
    if not hasattr(latent.metric, "set"):
        raise UserError(
            f"model.pretrained.metric={path} needs a model with a fitted metric; choose model/metric=fitted"
        )
    where = f"model.pretrained.metric={path}"
    file = _weights_file(path, where, "metric.safetensors")
    if file.name == WEIGHTS:
        state = _read(file, where)
        prefix = "latent.metric."
        own = {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
        if not bool(own.pop("fitted", torch.zeros(()))):
            raise UserError(f"{where} is the run of a model without a fitted metric")
        metric = read_metric(own, **overrides)
    else:
        metric = read_metric(file, **overrides)
    log.info("metric: %s: %s", path, json.dumps(metric_report(metric)))
    latent.metric.set(metric)
    latent.metric_changed()


def _weights_file(path: Path, where: str, exported: str) -> Path:
    candidates = [path] if path.is_file() else [path / WEIGHTS, path / "model" / WEIGHTS]
    candidates += [] if path.is_file() else [path / exported, path / "export" / exported]
    found = next((file for file in candidates if file.is_file()), None)
    if found is None:
        raise UserError(f"{where}: there is no such file, and no model in such a directory")
    return found


def _read(file: Path, where: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except SafetensorError as error:
        raise UserError(f"{where} is no safetensors file, or damaged: {error}") from error
