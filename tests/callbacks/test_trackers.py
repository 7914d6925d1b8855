"""The guard around trackers, and what they are told."""

import sys
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import OmegaConf

from src.callbacks.endings import closed
from src.callbacks.run_state import RunStopped
from src.callbacks.trackers import RunFacts, Tracker, open_trackers
from src.callbacks.trackers.dialect import Dialect, results_table, self_contained
from src.callbacks.trackers.tensorboard import TensorBoardRunLogger
from src.evaluation.animations import save_html
from src.utils.errors import UserError


class Fragile(Dialect):
    """Keeps what it was told, and raises where it is asked to."""

    def __init__(self, breaks: str = "", error: Exception | None = None) -> None:
        super().__init__()
        self.breaks, self.error = breaks, error or OSError("no route")
        self.told: list[str] = []

    name, version = "fragile", "0"

    def _do(self, what: str) -> None:
        self.told.append(what)
        if what == self.breaks:
            raise self.error

    def start(self, facts: RunFacts) -> str | None:
        self._do("start")
        return None

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self._do("metrics")

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None: ...

    def log_figure(self, key: str, path: Path, step: int) -> None:
        self._do("figure")

    def log_results(self, results: dict[str, Any], step: int) -> None:
        self._do("results")

    def end(self, status: str) -> None:
        self._do(status)

    def abandon(self) -> None:
        self._do("abandon")
        raise OSError("nor a way back")


def facts(directory: Path, config: dict[str, Any] | None = None, **root: Any) -> RunFacts:
    """The facts of a run that Hydra did not start."""
    cfg = {"name": "run", "ckpt_path": None, "paths": {"log_dir": "logs"}} | root
    return RunFacts.of(OmegaConf.create(cfg), config or {"seed": 0}, directory)


def tracker(logger: Logger, directory: Path, told: list[str]) -> Tracker:
    """A guarded logger, and where it is told what became of it."""
    return Tracker("fragile", lambda: logger, facts(directory), lambda _, state: told.append(state))


@pytest.mark.parametrize("breaks", ["start", "metrics", "figure", "results", "finished"])
def test_whatever_a_tracker_raises_turns_it_off_and_nothing_else(
    breaks: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logger, states = Fragile(breaks), []
    guarded = tracker(logger, tmp_path, states)
    with closed([guarded]):
        guarded.log_hyperparams({})
        for _ in range(2):
            guarded.log_metrics({"loss": 1.0}, 1)
            guarded.log_figure("f", tmp_path / "f.png", 1)
            guarded.log_results({}, 1)
    assert logger.told.count(breaks) == 1
    assert logger.told[-2:] == [breaks, "abandon"]  # and is asked nothing any more
    assert states[-1] == "failed: OSError: no route"
    assert caplog.text.count("tracker fragile failed") == 1


@pytest.mark.parametrize("error", [RunStopped("SIGINT", None), UserError("a wrong setting")])
def test_a_stop_and_a_users_mistake_pass_through(error: Exception, tmp_path: Path) -> None:
    guarded = tracker(Fragile("metrics", error), tmp_path, [])
    with pytest.raises(type(error)):
        guarded.log_metrics({"loss": 1.0}, 1)


def test_a_client_that_wraps_every_exception_does_not_swallow_a_stop(tmp_path: Path) -> None:
    class Wrapping(Fragile):
        def log_metrics(self, metrics: Any, step: int | None = None) -> None:
            try:
                raise RunStopped(
                    "SIGINT", None
                )  # as a signal's handler does in the middle of a request
            except Exception as error:
                raise OSError("the request failed") from error

    states: list[str] = []
    with pytest.raises(RunStopped):
        tracker(Wrapping(), tmp_path, states).log_metrics({"loss": 1.0}, 1)
    assert not [state for state in states if state.startswith("failed")]


@pytest.mark.parametrize(
    ("error", "status"),
    [(None, "finished"), (RunStopped(None, 1), "stopped"), (ValueError("NaN"), "failed")],
)
def test_trackers_are_told_how_a_run_ended(
    error: Exception | None, status: str, tmp_path: Path
) -> None:
    logger = Fragile()
    try:
        with closed([tracker(logger, tmp_path, [])]):
            if error:
                raise error
    except (RunStopped, ValueError):
        pass
    assert logger.told == [status]


def test_only_the_first_process_opens_trackers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = f"{TensorBoardRunLogger.__module__}.TensorBoardRunLogger"
    cfg = OmegaConf.create({"tensorboard": {"_target_": target, "save_dir": str(tmp_path)}})
    assert len(open_trackers(cfg, facts(tmp_path), None)) == 1
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    assert open_trackers(cfg, facts(tmp_path), None) == []


def test_a_wrong_setting_is_the_users_to_mend(tmp_path: Path) -> None:
    target = "src.callbacks.trackers.wandb.WandbRunLogger"
    cfg = OmegaConf.create({"wandb": {"_target_": target, "save_dir": str(tmp_path), "grop": "x"}})
    with pytest.raises(
        UserError, match="'logger.wandb.grop' is not a setting of W&B; nearest: 'group'"
    ):
        open_trackers(cfg, facts(tmp_path), None)
    cfg = OmegaConf.create({"csv": {"_target_": "lightning.pytorch.loggers.CSVLogger"}})
    with pytest.raises(UserError, match="logger.csv: .*save_dir"):
        open_trackers(cfg, facts(tmp_path), None)


def test_trackers_are_told_no_passwords(tmp_path: Path) -> None:
    told = facts(
        tmp_path,
        {"logger": {"mlflow": {"tracking_uri": "http://me:secret@host/x"}}, "uris": ["a://b@c"]},
    )
    assert told.config["logger"]["mlflow"]["tracking_uri"] == "http://***@host/x"
    assert told.config["uris"] == ["a://***@c"]
    told = facts(
        tmp_path, {"logger": {"comet": {"api_key": "k", "token": None}}, "x": "a://b:p@s@c/d"}
    )
    assert told.config["logger"]["comet"] == {"api_key": "***", "token": None}
    assert told.config["x"] == "a://***@c/d"


def test_a_resumed_run_remembers_and_a_new_one_in_its_place_does_not(tmp_path: Path) -> None:
    facts(tmp_path).remember("wandb", "abc")
    assert facts(tmp_path, ckpt_path="last.ckpt").memory["wandb"] == "abc"
    assert "wandb" not in facts(tmp_path).memory
    (tmp_path / "trackers.json").write_text("{")
    assert "wandb" not in facts(tmp_path, ckpt_path="last.ckpt").memory


def test_a_page_is_handed_over_with_its_script(tmp_path: Path) -> None:
    from plotly.graph_objects import Figure

    save_html(Figure(), tmp_path / "page.html")
    page = self_contained(tmp_path / "page.html")
    assert "plotly.min.js" not in page.replace((tmp_path / "plotly.min.js").read_text(), "")
    assert (tmp_path / "plotly.min.js").read_text() in page


def test_the_table_of_results_has_a_column_for_every_baseline() -> None:
    rows = {
        "test/mse": {"value": 0.1, "unit": "1", "baselines": {"PCA-4": 0.2}},
        "test/kl": {"value": 3.0, "unit": "nats", "baselines": {}},
    }
    columns, table = results_table({"metrics": rows})
    assert columns == ["metric", "unit", "this model", "PCA-4"]
    assert table == [["test/mse", "1", 0.1, 0.2], ["test/kl", "nats", 3.0, None]]


def test_mlflow_takes_long_and_many_parameters(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    from src.callbacks.trackers.mlflow import MLflowRunLogger

    config = {"long": "x" * 7000, "many": {f"key{i}": i for i in range(250)}}
    logger = MLflowRunLogger(experiment_name="x")
    logger.start(facts(tmp_path, config))
    logger.end("failed")
    run = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").get_run(logger.run_id)
    assert len(run.data.params) == 251 and run.data.params["many/key249"] == "249"
    assert run.data.params["long"] == "x" * 6000
    assert run.info.status == "FAILED"


def test_wandb_shows_pages_and_marks_a_failed_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from plotly.graph_objects import Figure

    from src.callbacks.trackers.wandb import WandbRunLogger
    from tests.e2e.test_loggers import WandbFile

    monkeypatch.setattr("os.environ", dict(__import__("os").environ))
    save_html(Figure(), tmp_path / "page.html")
    command = ["run_experiment.py", "hydra.sweeper.storage=postgresql://me:s3cret@host/x"]
    monkeypatch.setattr("sys.argv", command)
    logger = WandbRunLogger(save_dir=str(tmp_path), project="x", name=None)
    logger.start(facts(tmp_path))
    assert sys.argv is command
    logger.log_figure("figures/page", tmp_path / "page.html", 3)
    logger.end("failed")
    (found,) = [WandbFile(file) for file in tmp_path.rglob("*.wandb")]
    (row,) = found.history
    page = found.path.parent / "files" / row["figures/page/path"]
    assert row["figures/page/_type"] == "html-file" and page.read_text() == self_contained(
        tmp_path / "page.html"
    )
    assert row["trainer/global_step"] == 3
    assert found.exits == [1] and found.summary["state"] == "failed"
    kept = [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
    assert any(b"hydra.sweeper.storage" in content for content in kept)
    assert not any(b"s3cret" in content for content in kept)
