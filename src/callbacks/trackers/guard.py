"""The one place where a tracker's failure is survived."""

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.loggers.logger import DummyExperiment
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig

from src.callbacks.trackers.dialect import Dialect
from src.callbacks.trackers.facts import RunFacts
from src.runs.record import RunRecord
from src.utils.build import build
from src.utils.errors import UserError

log = logging.getLogger(__name__)
OK = "ok"


class Tracker(Logger):
    """A logger that can fail without ending the training: it is then off for the rest of the run.

    Args:
        title: the tracker's key in the config, such as ``wandb``.
        make: constructs the logger.
        facts: of the run.
        tell: is told what has become of the tracker: ``ok``, ``offline: …`` or ``failed: …``.
    """

    def __init__(
        self,
        title: str,
        make: Callable[[], Logger],
        facts: RunFacts,
        tell: Callable[[str, str], None],
    ) -> None:
        super().__init__()
        self.title, self.facts, self._tell = title, facts, tell
        self.logger: Logger | None = None
        self.logger = self._guarded("start", lambda _: _built(make, title))

    @property
    def name(self) -> str | None:
        return self._call("name", lambda logger: logger.name)

    @property
    def version(self) -> int | str | None:
        return self._call("version", lambda logger: logger.version)

    @property
    def save_dir(self) -> str | None:
        return str(self.facts.directory)

    @property
    def experiment(self) -> Any:
        """The tracker's own object; what is done with it directly is not guarded."""
        return self._call("start", lambda logger: getattr(logger, "experiment", None)) or (
            DummyExperiment()
        )

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Start the tracker's run. It is told the facts, which hold the config."""
        started = self._call("start", self._start)
        if started:
            self._tell(self.title, started)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:  # type: ignore[override]
        self._call("log", lambda logger: logger.log_metrics(dict(metrics), step))

    def log_graph(self, model: Any, input_array: Any = None) -> None:
        self._call("log", lambda logger: logger.log_graph(model, input_array))

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        self._call("log", lambda logger: logger.after_save_checkpoint(checkpoint_callback))

    def save(self) -> None:
        self._call("save", lambda logger: logger.save())

    def finalize(self, status: str) -> None:
        """The end of a fit or a test. Trackers of ours end with the run, which goes on after a fit."""
        if not isinstance(self.logger, Dialect):
            self._call("finish", lambda logger: logger.finalize(status))

    def log_figure(self, key: str, path: Path, step: int) -> None:
        """Show a picture or a page of the run."""
        self._speak("log", lambda dialect: dialect.log_figure(key, path, step))

    def log_results(self, results: dict[str, Any], step: int) -> None:
        """Tell the content of ``results.json``."""
        self._speak("log", lambda dialect: dialect.log_results(results, step))

    def log_outcome(
        self, model: Path, metrics: dict[str, float], optimized: dict[str, float], step: int
    ) -> None:
        """Hand over the exported model, with what it is and how well it does, and what a sweep compares runs by."""
        best = {f"optimized/{name}": value for name, value in optimized.items()}
        if best:
            self.log_metrics(best, step)
        metadata = {"name": self.facts.name, **self.facts.asked, "metrics": metrics | best}
        self._speak("log", lambda dialect: dialect.log_model(model, metadata))

    def end(self, status: str) -> None:
        """End the tracker's run: finished, stopped or failed."""
        self._speak("finish", lambda dialect: dialect.end(status))

    def _start(self, logger: Logger) -> str:
        if isinstance(logger, Dialect):
            note = logger.start(self.facts)
            if note:
                log.warning("tracker %s: %s", self.title, note)
            return note or OK
        logger.log_hyperparams(self.facts.config)
        return OK

    def _speak(self, what: str, call: Callable[[Dialect], None]) -> None:
        if isinstance(self.logger, Dialect):
            self._call(what, call)  # type: ignore[arg-type]

    def _call(self, what: str, call: Callable[[Logger], Any]) -> Any:
        if self.logger is None or not is_first():
            return None
        return self._guarded(what, call)

    def _guarded(self, what: str, call: Callable[[Any], Any]) -> Any:
        try:
            return call(self.logger)
        except UserError:
            raise
        # A tracker is somebody else's code and network: nothing that it raises may cost a training.
        except Exception as error:
            self._turn_off(what, error)
            return None

    def _turn_off(self, what: str, error: Exception) -> None:
        told = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
        if isinstance(self.logger, Dialect):
            told += self.logger.remedy()
        log.warning(
            "tracker %s failed (%s) and is off for the rest of the run: %s", self.title, what, told
        )
        self._tell(self.title, f"failed: {told}")
        logger, self.logger = self.logger, None
        try:
            if isinstance(logger, Dialect):
                logger.abandon()
        except Exception as again:  # what is broken may not let go either
            log.debug("tracker %s did not let go: %s", self.title, again)


def _built(make: Callable[[], Logger], title: str) -> Logger:
    """What ``make`` constructs.

    Raises:
        UserError: for what the user has to mend before a training: a wrong setting, or a package that is not there.
    """
    try:
        return make()
    except (InstantiationException, TypeError, ModuleNotFoundError) as error:
        cause = error.__cause__ if isinstance(error, InstantiationException) else error
        if isinstance(cause, UserError):
            raise cause from error
        if isinstance(cause, TypeError | ModuleNotFoundError):
            raise UserError(f"logger.{title}: {' '.join(str(cause).split())}") from error
        raise


def is_first() -> bool:
    """Whether this process is the one that keeps the run's record."""
    return getattr(rank_zero_only, "rank", 0) == 0


def open_trackers(cfg: DictConfig, facts: RunFacts, record: RunRecord | None) -> list[Tracker]:
    """The trackers of a ``logger`` config; none on processes other than the first.

    Raises:
        UserError: a setting or a package is wrong.
    """
    if not is_first():
        return []
    states: dict[str, str] = {}

    def tell(title: str, state: str) -> None:
        states[title] = state
        if record is not None:
            record.update(trackers=dict(states))

    nodes = {key: node for key, node in (cfg or {}).items() if node and "_target_" in node}
    return [
        Tracker(str(key), lambda node=node: build(node), facts, tell)  # type: ignore[misc]
        for key, node in nodes.items()
    ]


def trackers(trainer: Trainer) -> list[Tracker]:
    """The trackers of a trainer, without the run's own log."""
    return [logger for logger in trainer.loggers if isinstance(logger, Tracker)]


def close(loggers: Iterable[Logger], status: str) -> None:
    """End the trackers' runs, so that the next job of a sweep starts its own."""
    for logger in loggers:
        if isinstance(logger, Tracker):
            logger.end(status)
