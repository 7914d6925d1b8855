"""Poses of both hands, drawn or read."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from src.datamodules.base import ArrayDataModule, Split
from src.datamodules.hand_files import Convention
from src.datamodules.hand_generator import STYLES, generate
from src.datamodules.hand_plan import DrawnPoses, Plan, Source, by_sequence, gather
from src.datamodules.hand_sources import of_consolidated, of_files, of_splits
from src.utils.errors import UserError, nearest

SOURCES = ("procedural", "files", "splits", "consolidated")
OF_FILES = ("path", "splits_dir", "hand_mean", "hand_mean_path", "side")


class HandPosesDataModule(ArrayDataModule):
    """Axis-angle vectors (30, 3) in radians: 15 joints of the left hand, then 15 of the right one.

    Their order is that of MANO and SMPL-X (``hand_anatomy.JOINTS``). Angles lie in [0, π], and nothing is
    standardised: that is a model's own business. ``source`` says where they come from:

    - ``procedural``: drawn in memory, in several styles that stand for data sets; split by sequence.
    - ``files``: an NPZ, or all in or below a folder; split by sequence, data set by data set.
    - ``splits``: the frames that are listed in ``splits_dir``.
    - ``consolidated``: ``train.npz``, ``val.npz`` and ``test.npz``, as ``scripts/prepare_hands.py`` writes them.

    Attributes:
        sequences: split → (N,) int64, which sequence each pose belongs to, unique over all files.

    Args:
        source: see above.
        path: of files.
        splits_dir: see above.
        hand_mean, hand_mean_path, side: see ``Convention``.
        frames: how many are drawn, train, val and test together.
        styles: which of ``hand_generator.STYLES`` are drawn; None for all.
        temporal: draw sequences at 30 frames a second instead of independent poses.
        generator_seed: of what is drawn.
        split: fractions of train, val and test, where sequences are split here.
        split_seed: of that split.
        kwargs: see ``ArrayDataModule``.
    """

    def __init__(
        self,
        source: str = "procedural",
        path: str | None = None,
        splits_dir: str | None = None,
        hand_mean: str | None = None,
        hand_mean_path: str | None = None,
        side: str | None = None,
        frames: int = 75000,
        styles: Sequence[str] | None = None,
        temporal: bool = False,
        generator_seed: int = 0,
        split: Sequence[float] = (0.8, 0.1, 0.1),
        split_seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if source not in SOURCES:
            raise UserError(f"data.source='{source}' is unknown{nearest(source, SOURCES)}")
        self.source, self.path, self.splits_dir = source, path, splits_dir
        self.hand_mean, self.hand_mean_path, self.side = hand_mean, hand_mean_path, side
        self.frames, self.temporal, self.generator_seed = frames, temporal, generator_seed
        self.styles = tuple(STYLES) if styles is None else tuple(styles)
        self.split, self.split_seed = split, split_seed
        self.sequences: dict[str, Tensor] = {}
        if source != "procedural" and (styles is not None or temporal):
            ignored = "temporal" if styles is None else "styles"
            raise UserError(
                f"data.{ignored} is for poses that are drawn; leave it out with data.source={source}"
            )
        self._check_choices()

    def _check_choices(self) -> None:
        if unknown := [style for style in self.styles if style not in STYLES]:
            raise UserError(
                f"data.styles: '{unknown[0]}' is unknown{nearest(str(unknown[0]), STYLES)}"
            )
        if not self.styles or len(set(self.styles)) < len(self.styles):
            raise UserError(
                f"data.styles=[{','.join(self.styles)}] must name some of {', '.join(STYLES)}, each once"
            )
        if self.frames < len(self.styles):
            raise UserError(
                f"data.frames={self.frames} must be at least one for each of {len(self.styles)} styles"
            )
        given = [name for name in OF_FILES if getattr(self, name)]
        if self.source == "procedural" and given:
            raise UserError(
                f"data.{given[0]} is for files; choose data.source=files, splits or consolidated"
            )
        if self.splits_dir and self.source != "splits":
            raise UserError(f"data.splits_dir is for data.source=splits, not {self.source}")

    def load(self) -> dict[str, Split]:
        gathered = gather(self.plan())
        self.sequences = {s: torch.from_numpy(ids) for s, ids in gathered.sequences.items()}
        return {split: {"x": x} for split, x in gathered.x.items()}

    def plan(self) -> Plan:
        """Which frames of what make up every split; drawn poses are drawn here."""
        if self.source == "procedural":
            sources = [Source(style, DrawnPoses(x), ids) for style, x, ids in self.drawn()]
            return by_sequence(sources, self.split, self.split_seed, str(self.name))
        convention = Convention(self.hand_mean, self.hand_mean_path, self.side)
        if self.source == "splits":
            return of_splits(self.path, self.splits_dir, convention)
        if self.source == "consolidated":
            return of_consolidated(self.path, convention)
        return of_files(self.path, convention, self.split, self.split_seed)

    def drawn(self) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """The name, the poses (N, 30, 3) and the sequences (N,) of every style."""
        parts = np.array_split(np.arange(self.frames), len(self.styles))
        for style, part in zip(self.styles, parts, strict=True):
            yield (style, *generate(style, len(part), self.generator_seed, self.temporal))
