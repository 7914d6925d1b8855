"""What trackers are told about a run, and what a resumed run has to tell them again."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from src.runs import slurm
from src.runs.record import write_json

TRACKERS_FILE = "trackers.json"
# Groups whose choice tells runs apart even when nobody chose.
GROUPS = ("model", "data", "trainer", "experiment")
# What a command line says of where and how to run, rather than of what.
ABOUT_THE_PLACE = ("ckpt_path", "cluster", "hydra", "logger", "name", "paths", "tags")
CREDENTIALS = re.compile(r"(?<=://)[^/\s]*@")
SECRET = re.compile(r"api_?key|password|passwd|secret|(^|_)token$", re.IGNORECASE)


@dataclass(frozen=True)
class RunFacts:
    """One run as its trackers shall know it.

    Attributes:
        directory: the run's.
        name: the experiment's, such as ``beta_vae_digits``.
        config: the resolved config as plain values, without the passwords of addresses.
        asked: what was chosen for this run, flat: groups and the settings of the command line or the sweep.
        group: the study, or the multirun; None for a run alone.
        study: the study's name.
        number: of the trial or job.
        place: the sweep's directory; the run's own for a run alone.
        memory: the content of ``trackers.json``.
    """

    directory: Path
    name: str
    config: dict[str, Any]
    asked: dict[str, Any]
    group: str | None
    study: str | None
    number: int | None
    place: Path
    memory: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, cfg: DictConfig, config: dict[str, Any], directory: Path) -> "RunFacts":
        """The facts of the run that this process trains; a resumed one keeps its group and number."""
        directory = directory.absolute()
        job = _job(directory, Path(cfg.paths.log_dir))
        memory = _remembered(directory)
        # A trial or a requeued job that has no checkpoint yet starts anew as the run that it was.
        again = slurm.restarts() > 0 or (job["study"] is not None and memory.get("job") == job)
        if not (cfg.ckpt_path or again):
            memory = {}
        job = memory.setdefault("job", job)
        told = without_credentials(config)
        if job["group"]:
            told["job"] = {key: job[key] for key in ("group", "study", "number")}
        return cls(
            directory=directory,
            name=str(cfg.name),
            config=told,
            asked=_asked(told),
            group=job["group"],
            study=job["study"],
            number=job["number"],
            place=Path(os.path.normpath(directory / job["place"])),
            memory=memory,
        )

    @property
    def title(self) -> str:
        """The run's name for people."""
        return self.name if self.number is None else f"{self.name} {self.number}"

    def remember(self, key: str, value: Any) -> None:
        """Keep what the run must know when it is resumed."""
        self.memory[key] = value
        write_json(self.directory / TRACKERS_FILE, self.memory)


def _remembered(directory: Path) -> dict[str, Any]:
    """What an earlier start of this run has kept; nothing where the file is missing or no longer fits."""
    try:
        memory = json.loads((directory / TRACKERS_FILE).read_text())
        {key: memory["job"][key] for key in ("group", "study", "number", "place")}
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return {}
    return memory  # type: ignore[no-any-return]


def _job(directory: Path, logs: Path) -> dict[str, Any]:
    """The place of this job in its multirun or study."""
    alone = {"group": None, "study": None, "number": None, "place": "."}
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return alone
    hydra = HydraConfig.get()
    sweep = Path(hydra.sweep.dir).absolute()
    study = hydra.sweeper.get("study_name")
    below = sweep.is_relative_to(logs.absolute())
    group = study or (str(sweep.relative_to(logs.absolute())) if below else sweep.name)
    return {
        "group": group,
        "study": study,
        "number": int(hydra.job.num),
        "place": os.path.relpath(sweep, directory),
    }


def _asked(config: dict[str, Any]) -> dict[str, Any]:
    """Groups and settings that were chosen, with the values that they have come to."""
    asked: dict[str, Any] = {"seed": config.get("seed")}
    if not HydraConfig.initialized():
        return asked
    hydra = HydraConfig.get()
    choices = {key.partition("@")[0]: choice for key, choice in hydra.runtime.choices.items()}
    asked |= {key: choices[key] for key in GROUPS if choices.get(key, "none") != "none"}
    for override in hydra.overrides.task:
        key = override.lstrip("+~").split("=", 1)[0].partition("@")[0]
        if not key.startswith(ABOUT_THE_PLACE):
            asked[key] = choices[key] if key in choices else _value(config, key)
    return {key: _plain(value) for key, value in asked.items() if value is not None}


def _plain(value: Any) -> bool | int | float | str:
    """A value as tables of parameters hold it."""
    return value if isinstance(value, bool | int | float | str) else str(value)


def _value(config: Any, key: str) -> Any:
    for part in key.split("."):
        config = config.get(part) if isinstance(config, Mapping) else None
    return config


def without_credentials(value: Any) -> Any:
    """``value`` with ``***`` in the place of what addresses and settings such as ``api_key`` hold in confidence."""
    if isinstance(value, dict):
        return {
            key: "***" if item and SECRET.search(str(key)) else without_credentials(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [without_credentials(item) for item in value]
    return CREDENTIALS.sub("***@", value) if isinstance(value, str) else value
