"""Frames of Atari games, recorded when they are first asked for."""

from pathlib import Path
from typing import Any

from src.datamodules.recordings import RecordingsDataModule
from src.recordings import Recording
from src.recordings.collect import plan_of
from src.utils.errors import UserError


class AtariDataModule(RecordingsDataModule):
    """Frames of episodes of an ALE game, played by the random policy; what is missing is recorded first.

    Args:
        env: a game of ale-py, such as ALE/Breakout-v5.
        episodes: how many.
        root: where recordings lie.
        max_steps: of an episode; None plays to its end.
        collect_seed: of the episodes and of the policy.
        frame_size: height and width of the recorded pictures.
        kwargs: see ``RecordingsDataModule``.
    """

    def __init__(
        self,
        env: str,
        episodes: int,
        root: str,
        max_steps: int | None = 1000,
        collect_seed: int = 0,
        frame_size: int = 64,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if ":" in env:  # of a stranger's run: importing executes
            raise UserError(
                f"data.env={env} names a module to import; data=atari plays games such as ALE/Breakout-v5"
            )
        self.env, self.episodes, self.root = env, episodes, Path(root)
        self.max_steps, self.collect_seed, self.frame_size = max_steps, collect_seed, frame_size

    def prepare_data(self) -> None:
        """Record what is missing, once for all processes of a machine."""
        self._collected()

    def _collected(self) -> list[Path]:
        plan = plan_of(
            self.env,
            self.episodes,
            root=self.root,
            seed=self.collect_seed,
            size=self.frame_size,
            max_steps=self.max_steps,
        )
        if not self.may_record and (missing := plan.missing(self.episodes)):
            raise UserError(
                f"{len(missing)} of the {self.episodes} episodes of {self.env} are not in {self.root}; "
                "python scripts/evaluate.py run=<the run> records them"
            )
        return plan.ensure(self.episodes)

    def recordings(self) -> list[Recording]:
        return [Recording.open(path) for path in self._collected()]
