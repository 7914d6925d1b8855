"""Encoder and decoder as programs that run without this project."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from src.models.geometry import read_metric, write_metric
from src.models.pretrained import part_tensors
from src.utils.errors import UserError, nearest


class EncoderMean(nn.Module):
    """x (B, *shape) → posterior mean (B, D)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.latent = model.latent

    def forward(self, x: Tensor) -> Tensor:
        return self.latent.encode(x).mean


class DecoderMean(nn.Module):
    """z (B, D) → likelihood mean (B, *shape)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.latent = model.latent

    def forward(self, z: Tensor) -> Tensor:
        return self.latent.decode(z).mean


@torch.no_grad()
def export_model(
    model: Any, directory: Path, format: str, tolerance: float = 1e-4
) -> list[tuple[Path, float]]:
    """Write ``encoder`` and ``decoder`` with a free batch size, and check each against the model at another batch size.

    Args:
        model: see ``src/models/protocol.py``; on the CPU, in evaluation mode.
        directory: where to.
        format: ``torch_export`` (.pt2), ``onnx`` (.onnx), or ``parts``, see ``export_parts``.
        tolerance: largest absolute difference accepted.

    Returns:
        Each file with the largest difference found.

    Raises:
        UserError: unknown format, missing extra, or a difference above ``tolerance``.
    """
    if format == "parts":
        return export_parts(model, directory)
    writers: dict[str, Callable[[nn.Module, Tensor, Path], tuple[Path, Callable[[Tensor], Tensor]]]]
    writers = {"torch_export": _torch_export, "onnx": _onnx}
    if format not in writers:
        raise UserError(f"format='{format}' is unknown{nearest(format, [*writers, 'parts'])}")
    directory.mkdir(parents=True, exist_ok=True)
    x = torch.rand(3, *model.shape)
    z = model.encode(x).mean
    written = []
    for name, wrapper, example in (
        ("encoder", EncoderMean(model), x),
        ("decoder", DecoderMean(model), z),
    ):
        wrapper.eval()
        path, run = writers[format](wrapper, example, directory / name)
        other = torch.cat([example, example.flip(0)])
        difference = float((run(other) - wrapper(other)).abs().max())
        if not difference <= tolerance:
            raise UserError(
                f"{path} differs from the model by {difference:.3g}, more than tolerance={tolerance:g}"
            )
        written.append((path, difference))
    return written


def export_parts(model: Any, directory: Path) -> list[tuple[Path, float]]:
    """Write ``encoder``, ``decoder`` and, where one was fitted, ``metric`` as .safetensors, for ``model.pretrained``.

    Returns:
        Each file with the largest difference of what is read back from it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    state, written = model.state_dict(), []
    for part in ("encoder", "decoder"):
        path = directory / f"{part}.safetensors"
        tensors = {n: t.cpu().contiguous() for n, t in part_tensors(state, part).items()}
        temporary = path.with_suffix(".tmp")
        save_file(tensors, temporary)
        temporary.replace(path)
        back = load_file(path)
        gaps = [float((back[name] - tensor).abs().max()) for name, tensor in tensors.items()]
        written.append((path, max(gaps)))
    if getattr(model.latent.metric, "is_fitted", False):
        path = directory / "metric.safetensors"
        metric = model.latent.metric()
        write_metric(path, metric, {"model": model.name})
        at = metric.centroids
        gap = (read_metric(path).inverse(at) - metric.inverse(at)).abs().max()
        written.append((path, float(gap)))
    return written


def _torch_export(
    wrapper: nn.Module, example: Tensor, stem: Path
) -> tuple[Path, Callable[[Tensor], Tensor]]:
    path = stem.with_suffix(".pt2")
    program = torch.export.export(
        wrapper, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    torch.export.save(program, path)
    return path, torch.export.load(path).module()


def _onnx(
    wrapper: nn.Module, example: Tensor, stem: Path
) -> tuple[Path, Callable[[Tensor], Tensor]]:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(
            f"format=onnx needs the extra 'export' ({error.name} is missing): pip install -c "
            "constraints.txt -e .[export]"
        ) from error
    path = stem.with_suffix(".onnx")
    name = "x" if stem.name == "encoder" else "z"
    shapes = ({0: torch.export.Dim("batch")},)
    torch.onnx.export(
        wrapper,
        (example,),
        str(path),
        dynamo=True,
        dynamic_shapes=shapes,
        input_names=[name],
        output_names=["mean"],
        verbose=False,
    )
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return path, lambda value: torch.from_numpy(session.run(None, {name: value.numpy()})[0])
