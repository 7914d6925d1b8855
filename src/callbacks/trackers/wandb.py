"""Weights & Biases: offline or online, and offline where online cannot be."""

import inspect
import os
import secrets
import sys
import threading
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger

from src.callbacks.trackers.dialect import Dialect, results_table, self_contained
from src.callbacks.trackers.facts import RunFacts, without_credentials
from src.utils.errors import UserError, nearest

# Seconds; the environment's WANDB_INIT_TIMEOUT and WANDB_FINISH_TIMEOUT win.
TIMEOUTS = {"init_timeout": 10.0, "finish_timeout": 60.0}
LAST_WORDS = 5.0  # seconds that W&B has after a failure
OFFLINE = ("offline", "dryrun", "disabled")


class WandbRunLogger(Dialect, WandbLogger):
    """W&B with everything it writes kept inside the run, and an id that a resumed run has again.

    Args:
        save_dir: the run's directory.
        offline: write files only; ``wandb sync`` sends them later. WANDB_MODE=offline wins over ``false``.
        id: of the W&B run; made for the run where none is given.
        group: the study's name or the multirun's directory where none is given.
        model_artifact: hand the exported model over as an artifact.
        kwargs: of Lightning's ``WandbLogger`` and of ``wandb.init``: project, name, tags, notes, …
    """

    def __init__(
        self,
        save_dir: str,
        offline: bool = True,
        id: str | None = None,
        group: str | None = None,
        model_artifact: bool = True,
        **kwargs: Any,
    ) -> None:
        folder = Path(save_dir).absolute()
        for name in ("CACHE", "CONFIG", "DATA"):
            os.environ[f"WANDB_{name}_DIR"] = str(folder / "wandb")
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        os.environ.setdefault("WANDB_SILENT", "true")
        try:
            import wandb
        except ModuleNotFoundError as error:
            raise UserError(
                "logger=wandb needs W&B: pip install -c constraints.txt -e ."
            ) from error
        known = {
            *inspect.signature(WandbLogger).parameters,
            *inspect.signature(wandb.init).parameters,
        }
        for key in kwargs.keys() - known:
            raise UserError(f"'logger.wandb.{key}' is not a setting of W&B{nearest(key, known)}")
        self._model_artifact = model_artifact
        self._given_id, self._remedy = id, ""
        environment = os.environ.get("WANDB_MODE", "online")
        mode = "offline" if offline else "online"
        super().__init__(
            save_dir=str(folder),
            group=group,
            mode=environment if environment in OFFLINE else mode,
            **{**kwargs, "settings": {**_timeouts(), **(kwargs.get("settings") or {})}},
        )

    def start(self, facts: RunFacts) -> str | None:
        own_id = self._given_id or facts.memory.get("wandb") or secrets.token_hex(6)
        facts.remember("wandb", own_id)
        self._id = self._wandb_init["id"] = own_id
        self._wandb_init["group"] = self._wandb_init["group"] or facts.group
        kind = "trial" if facts.study else "train"
        self._wandb_init["job_type"] = self._wandb_init.get("job_type") or kind
        self._wandb_init["name"] = self._wandb_init["name"] or facts.title
        note = self._open()
        self.log_hyperparams(facts.config)
        return note

    def log_figure(self, key: str, path: Path, step: int) -> None:
        import wandb

        if path.suffix == ".png":
            self.log_image(key, [str(path)], step)
        else:
            page = wandb.Html(self_contained(path), inject=False)
            self.experiment.log({key: page, "trainer/global_step": step})

    def log_results(self, results: dict[str, Any], step: int) -> None:
        columns, rows = results_table(results)
        self.log_table("results", columns, rows, step=step)
        values = {name: row["value"] for name, row in results.get("metrics", {}).items()}
        self.experiment.summary.update(values)

    def log_model(self, directory: Path, metadata: dict[str, Any]) -> None:
        import wandb

        if self._model_artifact:
            artifact = wandb.Artifact(f"model-{self.version}", type="model", metadata=metadata)
            artifact.add_dir(str(directory))
            self.experiment.log_artifact(artifact)

    def end(self, status: str) -> None:
        if self._experiment is not None:
            self.finalize("success" if status == "finished" else "failed")
            self.experiment.summary.update({"state": status})
            self.experiment.finish(exit_code=int(status == "failed"))

    def remedy(self) -> str:
        return self._remedy

    def abandon(self) -> None:
        _let_go()

    def _open(self) -> str | None:
        """Open the run; offline where the server cannot be had."""
        note, arguments = None, sys.argv
        sys.argv = without_credentials(arguments)  # W&B keeps the command
        try:
            # An offline run cannot ask the server for an earlier one; the id is what joins the two.
            self._wandb_init["resume"] = "allow" if self._wandb_init["mode"] == "online" else None
            _ = self.experiment
        # No key, no route, no answer: whatever it is, files can be written.
        except Exception as error:
            if self._wandb_init["mode"] != "online":
                raise
            note = f"offline: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
            _let_go()
            self._wandb_init |= {"mode": "offline", "resume": None}
            _ = self.experiment
        finally:
            sys.argv = arguments
        self._remedy = f"; send it later with wandb sync {Path(self.experiment.dir).parent}"
        return note and note + self._remedy


def _let_go() -> None:
    """End W&B's own process: it would hold the id, make this one wait at its end and give its run to the next job."""
    import psutil
    import wandb
    from wandb.sdk.lib import module

    theirs = [child for child in psutil.Process().children() if child.name() == "wandb-core"]
    # It closes its file at once, and then goes on trying to send for as long as finish_timeout.
    impatience = threading.Timer(LAST_WORDS, lambda: [process.kill() for process in theirs])
    impatience.daemon = True
    impatience.start()
    try:
        wandb.teardown()
    except SystemExit:  # it hands on how its process has ended, which is not how ours ends
        pass
    finally:
        impatience.cancel()
        module.unset_globals()


def _timeouts() -> dict[str, Any]:
    """Settings that keep a server which does not answer from holding the run up."""
    found = {key: s for key, s in TIMEOUTS.items() if f"WANDB_{key.upper()}" not in os.environ}
    return {**found, "finish_timeout_raises": True}
