"""A trained run opened to be asked: its model, and the held-out data that it was tested on."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from src.models.latents import FrameSequence
from src.runs.loading import WEIGHTS, checkpoint_model, load_model, read_plain_config
from src.runs.record import CONFIG_FILE
from src.utils.build import build, sound
from src.utils.errors import UserError


@dataclass(frozen=True)
class OpenedRun:
    """A run's model and what its config says of the data.

    Attributes:
        path: of the run.
        model: in evaluation mode, on the CPU.
        weights: the file that they came from.
        config: the run's resolved config.
        stamp: when its weights had been written as they were opened; empty where nobody asks.
    """

    path: Path
    model: Any
    weights: Path
    config: dict[str, Any]
    stamp: tuple[int, ...] = ()

    @property
    def is_pose(self) -> bool:
        """Whether samples are (30, 3) rotation vectors in radians."""
        rotations = self.config["data"].get("value_range") == "rotation"
        return rotations and tuple(self.model.shape) == (30, 3)

    @property
    def is_sequence(self) -> bool:
        """Whether samples are (T, C, H, W), with a latent state for every frame."""
        return isinstance(self.model.latent, FrameSequence)

    @property
    def is_image(self) -> bool:
        """Whether samples are pictures, (C, H, W) in [0, 1]."""
        return len(self.model.shape) == 3

    @property
    def classes(self) -> int | None:
        """How many the model can be conditioned on; None for an unconditional one."""
        if self.model.latent.condition_key is None:
            return None
        return int(self.model.latent.condition.table.num_embeddings) - 1

    @cached_property
    def data(self) -> Any:
        """The datamodule, set up.

        Raises:
            UserError: its data are not on this machine, its config names anything but data of ours, or they are not of
                the model's shape.
        """
        config = dict(self.config["data"])
        if "_target_" not in config:
            raise UserError(f"{self.path / CONFIG_FILE} describes no data: data has no _target_")
        with sound(f"{self.path / CONFIG_FILE}"):
            found = build(config, allowed=("src.datamodules.",))
            # Looking at a run plays no games, least of all where a stranger's config says.
            found.may_record = False
            found.setup()
        if [*found.shape] != [*self.model.shape]:
            raise UserError(
                f"the data of {self.path} are of the shape {[*found.shape]}, and its model takes {[*self.model.shape]}"
            )
        return found

    def held_out(self, count: int) -> tuple[Tensor, Tensor | None, Tensor]:
        """At most ``count`` samples spread over the test split: x (N, *shape), labels (N,) or None, their rows (N,).

        Raises:
            UserError: as ``data``.
        """
        rows = self.data.spread("test", count)
        labels = self.data.labels("test")
        return self.data.rows("test", rows), None if labels is None else labels[rows], rows


def misfit(run: OpenedRun, first: OpenedRun, labels: Tensor | None) -> str | None:
    """Why a model cannot be asked about the data of another, ``first``; None where it can.

    Args:
        labels: of these data, (N,), or None.
    """
    shapes = [list(one.model.shape) for one in (run, first)]
    if shapes[0] != shapes[1]:
        return f"its samples are of the shape {shapes[0]}, these of {shapes[1]}"
    ranges = [one.config["data"].get("value_range") for one in (run, first)]
    if ranges[0] != ranges[1]:
        return f"its data are in the range '{ranges[0]}', these in '{ranges[1]}'"
    if run.model.latent.condition_key != "label":
        return None
    if labels is None:
        return "it is conditioned on labels, and these data have none"
    try:
        run.model.latent.check_condition(labels)
    except UserError as error:
        return str(error)
    return None


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
