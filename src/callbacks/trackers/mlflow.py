"""MLflow, in a local SQLite file or on a server."""

import inspect
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import MLFlowLogger

from src.callbacks.trackers.dialect import Dialect, self_contained
from src.callbacks.trackers.facts import RunFacts
from src.runs.record import RESULTS_FILE
from src.utils.errors import UserError, nearest

# With its own seven retries of two minutes a silent server would hold a run up for a quarter of an hour.
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}
# MLflow's own limits.
KEY_LENGTH, VALUE_LENGTH, BATCH = 250, 6000, 100
STATES = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}


class MLflowRunLogger(Dialect, MLFlowLogger):
    """MLflow with the model and the figures as artifacts, and a run that a resumed run goes on in.

    Args:
        tracking_uri: null is ``mlflow.db`` in the run's directory, in a multirun in the sweep's.
        artifact_location: null is ``mlflow/`` beside a local file, and a server's own choice.
        tags: words for the run.
        model_artifact: hand the exported model over as an artifact.
        kwargs: of Lightning's ``MLFlowLogger``: experiment_name, run_name, synchronous, …
    """

    def __init__(
        self,
        tracking_uri: str | None = None,
        artifact_location: str | None = None,
        tags: list[str] | None = None,
        model_artifact: bool = True,
        **kwargs: Any,
    ) -> None:
        try:
            import mlflow  # noqa: F401
        except ModuleNotFoundError as error:
            raise UserError(
                "logger=mlflow needs MLflow: pip install -c constraints.txt -e .[mlflow]"
            ) from error
        known = inspect.signature(MLFlowLogger).parameters
        for key in kwargs.keys() - known.keys():
            raise UserError(
                f"'logger.mlflow.{key}' is not a setting of MLflow{nearest(key, known)}"
            )
        for name, value in PATIENCE.items():
            os.environ.setdefault(name, value)
        # Every retry would leave a warning of its own.
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
        self._uri, self._artifacts, self._words = tracking_uri, artifact_location, tags or []
        self._model_artifact, self._kwargs = model_artifact, kwargs

    def start(self, facts: RunFacts) -> None:
        uri = self._uri or f"sqlite:///{facts.place / 'mlflow.db'}"
        local = uri.startswith("sqlite:")
        artifacts = self._artifacts or (str(facts.place / "mlflow") if local else None)
        runs = facts.memory.get("mlflow", {})
        settings = {"run_name": facts.title, "run_id": runs.get(uri), **self._kwargs}
        # Only now, because it opens the store, and which one depends on the sweep that the run belongs to.
        super().__init__(
            tracking_uri=uri,
            artifact_location=artifacts,
            tags=_tags(facts, self._words),
            **settings,
        )
        self._open(facts)
        facts.remember("mlflow", {**runs, uri: self.run_id})

    def _open(self, facts: RunFacts) -> None:
        from mlflow.exceptions import MlflowException

        resumed = self._run_id is not None
        try:
            client = self.experiment
        except MlflowException as error:
            if not resumed or error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            resumed, self._run_id = False, None  # somebody has deleted it
            client = self.experiment
        if resumed:
            client.update_run(self.run_id, status="RUNNING")
        known = client.get_run(self.run_id).data.params if resumed else {}
        told = dict(_flat(facts.config))
        self._log_params({key: value for key, value in told.items() if key not in known})
        for key, value in told.items():  # MLflow keeps the first value of a parameter for ever
            if known.get(key, value) != value:
                client.set_tag(self.run_id, f"resumed/{key}"[:KEY_LENGTH], value)

    def _log_params(self, params: dict[str, str]) -> None:
        from mlflow.entities import Param

        rows = [Param(key, value) for key, value in params.items()]
        for start in range(0, len(rows), BATCH):
            self.experiment.log_batch(self.run_id, params=rows[start : start + BATCH])

    def log_figure(self, key: str, path: Path, step: int) -> None:
        if path.suffix == ".png":
            self.experiment.log_artifact(self.run_id, str(path), "figures")
        else:
            self.experiment.log_text(self.run_id, self_contained(path), f"figures/{path.name}")

    def log_results(self, results: dict[str, Any], step: int) -> None:
        self.experiment.log_dict(self.run_id, results, RESULTS_FILE)

    def log_model(self, directory: Path, metadata: dict[str, Any]) -> None:
        if self._model_artifact:
            self.experiment.log_artifacts(self.run_id, str(directory), "model")
            self.experiment.log_dict(self.run_id, metadata, "model/metadata.json")

    def end(self, status: str) -> None:
        self.finalize(STATES[status])


def _tags(facts: RunFacts, words: list[str]) -> dict[str, str]:
    job: dict[str, Any] = {"group": facts.group, "study": facts.study}
    job |= {"trial" if facts.study else "job": facts.number}
    told = {key: str(value) for key, value in job.items() if value is not None}
    return told | {"tags": ", ".join(words), "directory": str(facts.directory)}


def _flat(config: Any, prefix: str = "") -> Iterable[tuple[str, str]]:
    """``model/latent_dim``: ``16`` and so on, no longer than MLflow takes."""
    if isinstance(config, dict) and config:
        for key, value in config.items():
            yield from _flat(value, f"{prefix}/{key}" if prefix else str(key))
    else:
        yield prefix[:KEY_LENGTH], str(config)[:VALUE_LENGTH]
