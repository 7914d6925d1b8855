"""The run's own record: state, progress, requests, random state, and how it ended."""

import logging
import signal
import time
from math import ceil, inf, isclose
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from src.callbacks.strategies import asked_learning_rate, batch_facts
from src.runs import slurm
from src.runs.control import PAUSE, RESUME, STOP, pending
from src.runs.record import METRICS_FILE, RunRecord
from src.runs.restart import last_checkpoint
from src.utils.seeding import rng_state, set_rng_state

log = logging.getLogger(__name__)
# In the order of what wins when the processes disagree.
NOTHING, RESUME_NOW, PAUSE_NOW, MAKE_WAY_NOW, STOP_NOW, SIGINT_NOW, SIGTERM_NOW = range(7)
CODES = {None: NOTHING, STOP: STOP_NOW, PAUSE: PAUSE_NOW, RESUME: RESUME_NOW}
SIGNALS = {MAKE_WAY_NOW: slurm.MAKE_WAY, SIGINT_NOW: "SIGINT", SIGTERM_NOW: "SIGTERM"}


def stop_signals() -> tuple[signal.Signals, ...]:
    """The signals that a run stops at: SIGINT, SIGTERM and, in a SLURM job, the one that asks it to make way."""
    asked = (signal.Signals[slurm.MAKE_WAY],) if slurm.job_id() else ()
    return (signal.SIGINT, signal.SIGTERM, *asked)


class RunStopped(BaseException):
    """A run ended because somebody asked for it; ``last.ckpt`` holds its exact state.

    Attributes:
        signal: the name of one of ``stop_signals``; None when it was a request.
        step: optimiser steps taken; None outside the training loop.
        pruned: the epoch after which its study gave it up; None when that is not why.
    """

    def __init__(self, by: str | None, step: int | None, pruned: int | None = None) -> None:
        when = "outside the training loop" if step is None else f"after step {step}"
        asked = "request" if pruned is None else "its study"
        super().__init__(f"stopped by {by or asked} {when}")
        self.signal, self.step, self.pruned = by, step, pruned


class RunState(Checkpoint):
    """Keeps ``run.json`` true and honours requests at the next batch, on every process of a run at once.

    A request comes from the run's ``request`` file or, as a stop, from SIGINT or SIGTERM; a second signal ends
    the process at once. Before a stop or a pause takes effect, ``last.ckpt`` is written. A run that SLURM asks to make
    way stops like this too; ``recorded`` puts its job back into the queue.

    It is a ``Checkpoint`` so that Lightning calls it after those that save the best and last weights.

    Args:
        record: the run's record; None on processes other than the first.
        directory: the run's directory.
        config: the resolved config, saved into every checkpoint as plain values.
    """

    def __init__(self, record: RunRecord | None, directory: Path, config: dict[str, Any]) -> None:
        self.record, self.directory, self.config = record, directory, config
        self._signal: str | None = None
        self._pruned: int | None = None
        self._handlers: dict[int, Any] = {}
        self._restored: list[dict[str, Any]] | None = None
        self._ended = False
        self._told = 0.0

    @property
    def last(self) -> Path:
        """Where a stopped run goes on from."""
        return last_checkpoint(self.directory)

    def prune(self, epoch: int) -> None:
        """End the run on every process, as its study's pruner wishes after ``epoch``."""
        self._pruned = epoch

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._tell(trainer, state="running", device=_device_name(trainer))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Only now: Lightning has put its own handler of SIGTERM there, which would end the run without a word.
        for number in stop_signals():
            self._handlers[number] = signal.signal(number, self._on_signal)
        self._tell_batch(trainer)
        # A job that was requeued after its training had stopped early has no epoch left to train.
        trainer.should_stop |= self._ended and slurm.restarts() > 0
        rank = trainer.global_rank
        if self._restored is not None and rank < len(self._restored):
            set_rng_state(self._restored[rank])
        elif trainer.world_size > 1:  # the processes began alike; their noise must differ
            torch.manual_seed(torch.initial_seed() + rank)

    def on_validation_batch_start(self, trainer: Trainer, *arguments: Any) -> None:
        self._beat(trainer)

    def on_test_batch_start(self, trainer: Trainer, *arguments: Any) -> None:
        self._beat(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._beat(trainer)
        # After the last batch the epoch is first brought to its end: validation belongs to it.
        if not trainer.is_last_batch:
            self._honour_requests(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._honour_requests(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._tell(trainer)
        self._release_signals()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self._release_signals()

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["config"] = self.config
        checkpoint["ended"] = trainer.should_stop
        metrics = self.directory / METRICS_FILE
        checkpoint["metrics_size"] = metrics.stat().st_size if metrics.exists() else 0
        states: list[Any] = [rng_state()] * trainer.world_size
        if trainer.world_size > 1:
            torch.distributed.all_gather_object(states, rng_state())
        checkpoint["rng"] = states

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._restored, self._ended = checkpoint.get("rng"), checkpoint.get("ended", False)

    def _tell_batch(self, trainer: Trainer) -> None:
        facts, asked = batch_facts(trainer), asked_learning_rate(trainer)
        self._tell(trainer, batch=facts)
        if (
            self.record is not None
            and asked is not None
            and not isclose(asked, facts["learning_rate"])
        ):
            log.warning(
                "the checkpoint goes on with its learning rate %g, and not with %g, which is asked for here",
                facts["learning_rate"],
                asked,
            )
        if trainer.is_global_zero and facts["global"] != facts["per_process"]:
            log.info(
                "a step sees %(global)d samples: %(processes)d processes × %(per_process)d × %(accumulated)d "
                "accumulated; learning rate %(learning_rate)g (model.lr_scaling=%(lr_scaling)s)",
                facts,
            )

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signal = signal.Signals(number).name
        if self._signal == slurm.MAKE_WAY:  # SLURM may say it again; another signal still counts
            del self._handlers[number]
            signal.signal(number, signal.SIG_IGN)
        else:
            self._release_signals()

    def _honour_requests(self, trainer: Trainer) -> None:
        code = self._agree(trainer)
        if code == PAUSE_NOW:
            code = self._pause(trainer)
        if code >= MAKE_WAY_NOW:
            self._save(trainer)
            by = SIGNALS.get(code)  # whichever of the processes has heard it
            raise RunStopped(by, trainer.global_step, None if by else self._pruned)

    def _save(self, trainer: Trainer) -> None:
        """Write the exact state, with what has been gathered for the next row of metrics written out before."""
        model: Any = trainer.lightning_module
        window = getattr(model, "window", None)
        if window is not None and window.steps:
            window.log(trainer, model.objective, trainer.current_epoch)
        trainer.save_checkpoint(self.last)
        self._tell(trainer)

    def _release_signals(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _agree(self, trainer: Trainer) -> int:
        """The request in force, decided by the first process and told to all."""
        code = NOTHING
        if self._signal:  # may reach any one of the processes
            code = next(code for code, name in SIGNALS.items() if name == self._signal)
        elif self._pruned is not None:
            code = STOP_NOW
        elif trainer.is_global_zero:
            code = CODES.get(pending(self.directory), NOTHING)
        if trainer.world_size > 1:
            vote = torch.tensor(code, device=trainer.strategy.root_device)
            code = int(trainer.strategy.reduce(vote, reduce_op="max"))
        return code

    def _pause(self, trainer: Trainer) -> int:
        self._save(trainer)
        self._tell(trainer, state="paused")
        log.info("paused after step %d", trainer.global_step)
        while (code := self._agree(trainer)) == PAUSE_NOW:
            time.sleep(0.2)
            self._beat(trainer)
        if trainer.is_global_zero:
            self._tell(trainer, state="running")
        return code

    def _beat(self, trainer: Trainer) -> None:
        """A sign of life for readers on other machines."""
        if time.monotonic() - self._told > 1.0:
            self._tell(trainer)

    def _tell(self, trainer: Trainer, **fields: Any) -> None:
        self._told = time.monotonic()
        if self.record is not None:
            self.record.update(progress=_progress(trainer), **fields)


def _progress(trainer: Trainer) -> dict[str, Any]:
    # Not trainer.estimated_stepping_batches: it talks to the other processes, which do not come here.
    step, steps_an_epoch = (
        trainer.global_step,
        trainer.num_training_batches / trainer.accumulate_grad_batches,
    )
    limits = [
        trainer.max_steps if trainer.max_steps > 0 else inf,
        (trainer.max_epochs or -1) * ceil(steps_an_epoch) if steps_an_epoch < inf else inf,
    ]
    total = min(limit for limit in limits if limit > 0)
    return {
        "epoch": trainer.current_epoch,
        "max_epochs": None if trainer.max_epochs == -1 else trainer.max_epochs,
        "step": step,
        "fraction": min(step / total, 1.0),
    }


def _device_name(trainer: Trainer) -> str:
    device = trainer.strategy.root_device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return f"{trainer.world_size} × {name}" if trainer.world_size > 1 else name
