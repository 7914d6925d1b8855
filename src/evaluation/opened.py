"""A trained run opened to be asked: its model, and the held-out data that it was tested on."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from src.models.latents import FrameSequence
from src.runs.loading import WEIGHTS, checkpoint_model, load_model, read_plain_config
from src.runs.record import CONFIG_FILE
from src.utils.build import build
from src.utils.errors import UserError


@dataclass(frozen=True)
class OpenedRun:
    """A run's model and what its config says of the data.

    Attributes:
        path: of the run.
        model: in evaluation mode, on the CPU.
        weights: the file that they came from.
        config: the run's resolved config.
    """

    path: Path
    model: Any
    weights: Path
    config: dict[str, Any]

    @property
    def is_pose(self) -> bool:
        """Whether samples are (30, 3) rotation vectors in radians."""
        return self.config["data"].get("value_range") == "rotation"

    @property
    def is_sequence(self) -> bool:
        """Whether samples are (T, C, H, W), with a latent state for every frame."""
        return isinstance(self.model.latent, FrameSequence)

    @property
    def is_image(self) -> bool:
        """Whether samples are pictures, (C, H, W) in [0, 1]."""
        return len(self.model.shape) == 3

    @cached_property
    def data(self) -> Any:
        """The datamodule, set up.

        Raises:
            UserError: its data are not on this machine, or its config names anything but data of ours.
        """
        config = dict(self.config["data"])
        found = build(config, allowed=("src.datamodules.",))
        found.setup()
        return found

    def held_out(self, count: int, split: str = "test") -> tuple[Tensor, Tensor | None, Tensor]:
        """At most ``count`` samples spread over a split: x (N, *shape), labels (N,) or None, and their rows (N,).

        Raises:
            UserError: as ``data``.
        """
        rows = self.data.spread(split, count)
        labels = self.data.labels(split)
        return self.data.rows(split, rows), None if labels is None else labels[rows], rows


def open_run(directory: str | Path) -> OpenedRun:
    """Open a run, one's own or a stranger's: nothing in it is executed.

    Its portable model is taken, else the best checkpoint, else the last.

    Raises:
        UserError: there is neither, or the config describes no model and data.
    """
    path = Path(directory)
    config = read_plain_config(path / CONFIG_FILE)
    if not all(isinstance(config.get(name), dict) for name in ("model", "data")):
        raise UserError(f"{path / CONFIG_FILE} describes no model and data")
    if (path / "model" / WEIGHTS).exists():
        return OpenedRun(path, load_model(path), path / "model" / WEIGHTS, config)
    model, file = checkpoint_model(path, config["model"])
    return OpenedRun(path, model, file, config)
