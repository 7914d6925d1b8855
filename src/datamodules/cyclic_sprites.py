"""Animated characters whose last frame is their first."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from src.datamodules import sprites
from src.datamodules.base import ArrayDataModule, Split
from src.datamodules.sprite_files import as_uint8, intensity_units, open_sprites, sprite_file
from src.utils.cyclicity import CyclicityReport, first_last_mse
from src.utils.errors import UserError
from src.utils.pictures import SPLITS

log = logging.getLogger(__name__)

CHARACTERS = {"train": 300, "val": 60, "test": 120}
# Each split draws from a region of its own of all characters, so that no number of one touches another.
REGIONS = {"train": (0.0, 0.5), "val": (0.5, 0.75), "test": (0.75, 1.0)}
LABEL = "hair_colour"


class CyclicSpritesDataModule(ArrayDataModule):
    """Sequences (T, 3, 64, 64) of characters that are drawn here, or read from the original files.

    Drawn characters are split by character; sequences are sorted by character, then action, then direction. Batches
    have ``factors`` (B, 9) int64, whose columns are ``factor_names`` and whose values ``factor_values`` names, and
    ``label``, the colour of the hair: large enough to see, and independent of everything else.

    Of the original files, ``Sprites_train_cyclic.pt`` is train and val and ``Sprites_test_cyclic.pt`` is test
    (``Sprites_train.pt`` and ``Sprites_test.pt`` where those are missing). They have no factors. Their sequences are
    taken to lie in ``blocks`` of one action and direction each, with the same characters in the same order in each
    block, as they are written by the program that made them.

    Args:
        path: folder with the original files; None draws.
        actions: which of walk, spellcard and slash are drawn; of these only slash closes by itself.
        directions: which of front, left and right.
        wrap: give walk the frame that it begins with once more, at its front: nine frames that close.
        characters: how many in train, val and test. Of all drawn ones half are for train and a quarter each for val
            and test; more of them keep those that were there. In files val follows train.
        character_seed: of the order of the drawn characters.
        blocks: of the original files, see above; 3 for the closed loops, 9 for all.
        verify_cyclicity: refuse data with a sequence that does not close, looking at all of them.
        threshold: first–last MSE, in intensity², below which a sequence counts as closed.
        exact: the first and last frames must be equal instead.
        kwargs: see ``ArrayDataModule``.
    """

    def __init__(
        self,
        path: str | None = None,
        actions: Sequence[str] = ("slash",),
        directions: Sequence[str] = sprites.DIRECTIONS,
        wrap: bool = False,
        characters: Mapping[str, int] | None = None,
        character_seed: int = 0,
        blocks: int = 3,
        verify_cyclicity: bool = True,
        threshold: float = 1e-4,
        exact: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.path, self.wrap, self.character_seed, self.blocks = path, wrap, character_seed, blocks
        self.actions, self.directions = tuple(actions), tuple(directions)
        self.characters = _counts(CHARACTERS if characters is None else characters)
        self.verify_cyclicity, self.threshold = verify_cyclicity, 0.0 if exact else threshold
        self.reports: dict[str, CyclicityReport] = {}
        if threshold < 0:
            raise UserError(f"data.threshold={threshold:g} must be at least 0")
        if blocks < 1:
            raise UserError(f"data.blocks={blocks} must be at least 1")

    @property
    def factor_values(self) -> dict[str, tuple[str, ...]]:
        """The names of every factor's values, in the order of the columns of ``factors``; empty for files."""
        known = {"action": sprites.ACTIONS, "direction": sprites.DIRECTIONS}
        return {} if self.path else sprites.FACTORS | known

    @property
    def factor_names(self) -> tuple[str, ...]:
        """The columns of ``factors``."""
        return tuple(self.factor_values)

    def load(self) -> dict[str, Split]:
        splits = self._read() if self.path else self._draw()
        for split, arrays in splits.items():
            self._report(split, arrays["x"])
        return splits

    def _report(self, split: str, x: np.ndarray) -> None:
        report = CyclicityReport.of(first_last_mse(x, self.divisor), self.threshold)
        self.reports[split] = report
        log.info(f"{self.name}, {split}: {report.sentence()}")
        if self.verify_cyclicity and report.cyclic < report.count:
            cure = "choose data.blocks and files of closed loops (scripts/extract_cyclic.py)"
            if not self.path:
                cure = "choose data.actions=[slash], or data=cyclic_walk"
            raise UserError(
                f"{self.name}: {report.count - report.cyclic} of {report.count} {split} sequences do not "
                f"close: their first–last MSE is up to {report.max:.3g} (sequence {report.worst}), "
                f"{_allowed(self.threshold)}; {cure}, or data.verify_cyclicity=false"
            )

    # -- drawn

    def _draw(self) -> dict[str, Split]:
        self._check_choices()
        everyone = sprites.all_characters(self.character_seed)
        splits = {}
        for split, count in self.characters.items():
            start, end = (round(share * len(everyone)) for share in REGIONS[split])
            if count > end - start:
                raise UserError(
                    f"data.characters.{split}={count} is more than the {end - start} there are for it"
                )
            splits[split] = self._animate(everyone[start : start + count])
        return splits

    def _check_choices(self) -> None:
        for key, chosen, known in (
            ("actions", self.actions, sprites.ACTIONS),
            ("directions", self.directions, sprites.DIRECTIONS),
        ):
            if not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= set(known):
                raise UserError(
                    f"data.{key}=[{','.join(chosen)}] must name some of {', '.join(known)}, each once"
                )
        lengths = {action: len(sprites.frames(action, self.wrap)) for action in self.actions}
        if self.wrap and "walk" not in lengths:
            raise UserError(
                f"data.wrap=true adds a frame to walk, which data.actions=[{','.join(lengths)}] leaves out"
            )
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{action} {length}" for action, length in lengths.items())
            raise UserError(
                f"data.wrap=true gives sequences of different lengths ({told} frames); choose "
                "data.actions=[walk] or data.wrap=false"
            )
        made = (next(iter(lengths.values())), 3, sprites.SIZE, sprites.SIZE)
        if self.shape != made:
            wrap = str(self.wrap).lower()
            raise UserError(
                f"data.shape={_listed(self.shape)} does not fit data.actions=[{','.join(lengths)}] with "
                f"data.wrap={wrap}, which has {made[0]} frames; choose data.shape={_listed(made)}"
            )

    def _animate(self, characters: np.ndarray) -> Split:
        shown = [(action, side) for action in self.actions for side in self.directions]
        x = np.empty((len(characters), len(shown), *self.shape), np.uint8)
        factors = np.empty((len(characters), len(shown), len(self.factor_names)), np.int64)
        factors[..., :-2] = characters[:, None]
        for number, (action, side) in enumerate(shown):
            x[:, number] = sprites.render(characters, action, side, self.wrap)
            factors[:, number, -2] = sprites.ACTIONS.index(action)
            factors[:, number, -1] = sprites.DIRECTIONS.index(side)
        rows = factors.reshape(-1, factors.shape[-1])
        label = np.ascontiguousarray(rows[:, self.factor_names.index(LABEL)])
        return {"x": x.reshape(-1, *self.shape), "label": label, "factors": rows}

    # -- read

    def _read(self) -> dict[str, Split]:
        folder = Path(self.path or "")
        if not folder.is_dir():
            raise UserError(
                f"data.path={folder} is no folder; it must hold Sprites_train_cyclic.pt and "
                "Sprites_test_cyclic.pt, or be left out to draw sprites"
            )
        if self.wrap:
            raise UserError("data.wrap=true is for drawn sprites; leave it out with data.path")
        log.warning(
            "%s: data.actions and data.directions choose what is drawn; files are read whole",
            folder,
        )
        files = {source: sprite_file(folder, source) for source in ("train", "test")}
        tensors = {source: self._opened(file) for source, file in files.items()}
        units = {s: intensity_units(x.flatten(0, 1), files[s]) for s, x in tensors.items()}
        # 256ths are kept as they are where all files have them.
        self.divisor = float(min(divisor for _, divisor in units.values()))
        train, val, test = (self.characters[split] for split in SPLITS)
        self._check_size(files["train"], tensors["train"], "train", "val")
        self._check_size(files["test"], tensors["test"], "test")
        chosen = {
            "train": tensors["train"][:, :train],
            "val": tensors["train"][:, train : train + val],
            "test": tensors["test"][:, :test],
        }
        return {
            split: {"x": self._by_character(x, units["test" if split == "test" else "train"][0])}
            for split, x in chosen.items()
        }

    def _check_size(self, file: Path, x: Tensor, *splits: str) -> None:
        if sum(self.characters[split] for split in splits) > x.shape[1]:
            told = " and ".join(f"data.characters.{s}={self.characters[s]}" for s in splits)
            raise UserError(
                f"{file} has {x.shape[1]} characters in {self.blocks} blocks, too few for {told}"
            )

    def _by_character(self, x: Tensor, one: float) -> np.ndarray:
        """(blocks, characters, *shape) in which ``one`` stands for 1 → (characters·blocks, *shape) uint8."""
        stored = np.empty((x.shape[1], self.blocks, *self.shape), np.uint8)
        for block in range(self.blocks):
            as_uint8(x[block], one, self.divisor, stored[:, block])
        return stored.reshape(-1, *self.shape)

    def _opened(self, file: Path) -> Tensor:
        """(blocks, characters, *shape)."""
        x = open_sprites(file)
        if tuple(x.shape[1:]) != self.shape:
            raise UserError(
                f"{file} holds sequences of {list(x.shape[1:])}; choose data.shape={_listed(x.shape[1:])}"
            )
        if len(x) % self.blocks:
            raise UserError(
                f"{file} holds {len(x)} sequences, which are not {self.blocks} equal blocks; choose "
                "data.blocks=<number of actions × directions in it>"
            )
        return torch.unflatten(x, 0, (self.blocks, -1))


def _counts(characters: Mapping[str, int]) -> dict[str, int]:
    if set(characters) != set(SPLITS) or min(characters.values()) < 1:
        given = ",".join(f"{name}:{count}" for name, count in characters.items())
        raise UserError(
            f"data.characters={{{given}}} must say how many characters, at least one, for each of "
            f"{', '.join(SPLITS)}"
        )
    return {split: characters[split] for split in SPLITS}


def _listed(shape: Sequence[int]) -> str:
    return f"[{','.join(map(str, shape))}]"


def _allowed(threshold: float) -> str:
    return f"where data.threshold={threshold:g}" if threshold else "where data.exact asks for 0"
