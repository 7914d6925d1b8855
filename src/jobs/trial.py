"""What a run that is a trial of a study knows about itself."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class TrialInfo:
    """The trial that runs in this process.

    Attributes:
        study: the study's name.
        number: of the trial, from 0.
        directory: of the study; the trial's run is the directory ``<number>`` in it.
        storage: URL of the study's storage, or None for the file in its directory. It may hold a password.
        pruner: config of an ``optuna.pruners`` class; empty for none.
        directions: one ``minimize`` or ``maximize`` for every metric that is optimised.
    """

    study: str
    number: int
    directory: Path
    storage: str | None
    pruner: dict[str, Any]
    directions: tuple[str, ...]

    @property
    def may_be_pruned(self) -> bool:
        """Whether its validations are reported; Optuna compares one metric only."""
        return bool(self.pruner) and len(self.directions) == 1


def current_trial() -> TrialInfo | None:
    """The trial that this process trains, as Hydra's config tells it; None in any other run."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    if not HydraConfig.initialized():
        return None
    config = HydraConfig.get()
    sweeper = config.sweeper
    ours = str(sweeper.get("_target_", "")).endswith(".StudySweeper")
    if not ours or OmegaConf.is_missing(config.job, "num"):
        return None
    pruner: Any = OmegaConf.to_container(sweeper.pruner or OmegaConf.create({}), resolve=True)
    return TrialInfo(
        study=sweeper.study_name,
        number=int(config.job.num),
        directory=Path(config.sweep.dir),
        storage=sweeper.storage,
        pruner=pruner,
        directions=directions(sweeper.direction),
    )


def directions(value: Any) -> tuple[str, ...]:
    """``hydra.sweeper.direction`` as a tuple of names, whether it is one or a list."""
    from omegaconf import ListConfig

    several = list(value) if isinstance(value, list | tuple | ListConfig) else [value]
    return tuple(getattr(one, "name", str(one)) for one in several)
