"""What the trackers were told, read back from the files they wrote; and trainings whose trackers fail."""

import csv
import json
import socket
import sqlite3
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from src.runs import Run, read_run
from tests.e2e.conftest import SMALL, Shell
from tests.e2e.wandb_server import WandbServer

pytestmark = pytest.mark.slow
TARGET = "src.callbacks.trackers.mlflow.MLflowRunLogger"
# Without the classifier that samples are compared by, which takes longer than these trainings.
QUICK = [*SMALL, "features=none"]


def wandb_records(path: Path) -> Iterator[Any]:
    """The records of a .wandb file: protobuf in LevelDB's log framing."""
    from wandb.proto import wandb_internal_pb2

    content, position, part = path.read_bytes(), 7, b""
    assert struct.unpack("<4sHB", content[:7])[:2] == (b":W&B", 0xBEE1)
    while position + 7 <= len(content):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        _, size, kind = struct.unpack("<IHB", content[position : position + 7])
        part += content[position + 7 : position + 7 + size]
        position += 7 + size
        if kind in (1, 4):  # a whole record, or the last part of one
            record = wandb_internal_pb2.Record()
            record.ParseFromString(part)
            part = b""
            yield record


class WandbFile:
    """What one .wandb file says of its run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}
        self.history: list[dict[str, Any]] = []
        self.exits: list[int] = []
        self.artifacts: dict[str, Any] = {}
        for record in wandb_records(path):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                self.run = record.run
                self.config |= _items(record.run.config.update)
            elif kind == "config":
                self.config |= _items(record.config.update)
            elif kind == "summary":
                self.summary |= _items(record.summary.update)
            elif kind == "history":
                self.history.append(_items(record.history.item))
            elif kind == "exit":
                self.exits.append(record.exit.exit_code)
            elif kind == "artifact":
                self.artifacts[record.artifact.type] = record.artifact


def _items(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def wandb_files(run: Path) -> list[WandbFile]:
    """The files of a run's sittings, oldest first; the leftovers of an attempt to be online are none."""
    return [WandbFile(file) for file in sorted(run.rglob("offline-run-*/*.wandb"))]


def told_values(run: Run, name: str) -> list[float]:
    """A metric as the run's own log has it."""
    return [row["metrics"][name] for row in run.metrics() if name in row["metrics"]]


def test_wandb_offline_holds_metrics_config_figures_results_and_the_model(shell: Shell) -> None:
    arguments = ["model=beta_vae", "data=digits", "logger=wandb", "trainer.max_epochs=3"]
    shell(f"hydra.run.dir={shell.folder}/run", *arguments, *QUICK)
    run = read_run(shell.folder / "run")
    (found,) = wandb_files(run.path)
    told = [row["val/loss"] for row in found.history if "val/loss" in row]
    assert told == pytest.approx(told_values(run, "val/loss"))
    assert found.config["model"]["objective"]["beta"] == 4.0
    assert (found.run.display_name, found.run.job_type) == ("beta_vae_digits", "train")
    assert not found.run.run_group and list(found.run.tags) == ["dev"]
    files = found.path.parent / "files"
    images = [
        name for row in found.history for name in row.get("figures/reconstructions/filenames", [])
    ]
    assert images and all((files / name).exists() for name in images)
    nll = run.results["metrics"]["test/nll"]["value"]
    assert found.summary["test/nll"] == pytest.approx(nll)
    assert found.summary["optimized/val/loss"] == pytest.approx(run.info["optimized"]["val/loss"])
    (table,) = [row["results/path"] for row in found.history if "results/path" in row]
    rows = {row[0]: row for row in json.loads((files / table).read_text())["data"]}
    assert rows["test/nll"][2] == pytest.approx(nll)
    model = found.artifacts["model"]
    assert {entry.path for entry in model.manifest.contents} == {"config.yaml", "model.safetensors"}
    metadata = json.loads(model.metadata)
    assert metadata["model"] == "beta_vae" and metadata["metrics"]["test/nll"] == pytest.approx(nll)
    assert found.exits == [0] and run.info["trackers"] == {"wandb": "ok"}


def test_tensorboard_and_csv_agree_with_the_runs_own_log(trained: Path) -> None:
    own = told_values(read_run(trained), "val/loss")
    events = EventAccumulator(str(trained / "tensorboard")).Reload()
    assert [event.value for event in events.Scalars("val/loss")] == pytest.approx(own)
    assert {"figures/reconstructions", "figures/samples"} <= set(events.Tags()["images"])
    (table,) = trained.glob("csv/*/metrics.csv")
    with open(table) as file:
        told = [float(row["val/loss"]) for row in csv.DictReader(file) if row["val/loss"]]
    assert told == pytest.approx(own)


def hparams_table(folder: Path) -> list[dict[str, Any]]:
    """The rows of TensorBoard's HPARAMS tab, as its own plugin makes them from the files below ``folder``."""
    from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.context import RequestContext
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.hparams import api_pb2, list_session_groups
    from tensorboard.plugins.hparams.backend_context import Context

    files = EventMultiplexer()
    files.AddRunsFromDirectory(str(folder))
    files.Reload()
    provider = MultiplexerDataProvider(files, str(folder))
    context, request = Context(TBContext(data_provider=provider)), RequestContext()
    runs = context.hparams_metadata(request, "")
    nothing = context.hparams_from_data_provider(request, "", None)
    experiment = context.experiment_from_metadata(request, "", True, runs, nothing)
    columns = [api_pb2.ColParams(metric=info.name) for info in experiment.metric_infos]
    columns += [api_pb2.ColParams(hparam=info.name) for info in experiment.hparam_infos]
    asked = api_pb2.ListSessionGroupsRequest(
        slice_size=100, allowed_statuses=[0, 1, 2, 3], col_params=columns
    )
    groups = list_session_groups.Handler(request, context, "", asked).run().session_groups
    return [
        {name: value.number_value or value.string_value for name, value in group.hparams.items()}
        | {value.name.tag: value.value for value in group.metric_values}
        | {"status": group.sessions[0].status}
        for group in groups
    ]


def test_the_runs_of_a_multirun_belong_together_in_every_tracker(shell: Shell) -> None:
    mlflow = pytest.importorskip("mlflow")
    sweep = shell.folder / "sweep"
    points = ["model=beta_vae", "model.objective.beta=1,2", "trainer.max_epochs=1"]
    trackers = ["logger=many", f"+logger.mlflow={{_target_: {TARGET}, experiment_name: betas}}"]
    shell("-m", f"hydra.sweep.dir={sweep}", *points, *QUICK, *trackers, timeout=200)
    runs = [read_run(sweep / number) for number in "01"]
    nll = [run.results["metrics"]["test/nll"]["value"] for run in runs]

    found = [wandb_files(run.path)[0] for run in runs]
    assert {file.run.run_group for file in found} == {"sweep"}
    assert [file.run.display_name for file in found] == ["beta_vae_digits 0", "beta_vae_digits 1"]
    assert [file.config["job"]["number"] for file in found] == [0, 1]
    assert len({file.run.run_id for file in found}) == 2

    table = sorted(hparams_table(sweep), key=lambda row: row["model.objective.beta"])
    assert [row["model.objective.beta"] for row in table] == [1, 2]
    assert [row["test/nll"] for row in table] == pytest.approx(nll, rel=1e-5)
    assert [(row["model"], row["status"]) for row in table] == [
        ("beta_vae", 1)
    ] * 2  # STATUS_SUCCESS

    client = mlflow.MlflowClient(f"sqlite:///{sweep}/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "betas"]
    told = client.search_runs([experiment.experiment_id], order_by=["tags.job"])
    assert [run.data.tags["job"] for run in told] == ["0", "1"]
    assert [run.data.params["model/objective/beta"] for run in told] == ["1", "2"]
    assert [run.data.metrics["test/nll"] for run in told] == pytest.approx(nll)
    for run in told:
        assert run.info.status == "FINISHED" and run.data.tags["group"] == "sweep"
        artifacts = {file.path for file in client.list_artifacts(run.info.run_id, "model")}
        assert artifacts == {"model/model.safetensors", "model/config.yaml", "model/metadata.json"}
        figures = {file.path for file in client.list_artifacts(run.info.run_id, "figures")}
        assert "figures/reconstructions.png" in figures


def test_a_resumed_run_is_the_same_run_for_its_trackers(shell: Shell) -> None:
    mlflow = pytest.importorskip("mlflow")
    run = shell.train(
        "features=none",
        "logger=wandb",
        f"+logger.mlflow={{_target_: {TARGET}}}",
        "trainer.max_epochs=1",
    )
    shell(f"ckpt_path={run}/checkpoints/last.ckpt", "trainer.max_epochs=2")
    first, second = wandb_files(run)
    assert first.run.run_id == second.run.run_id
    assert told_values(read_run(run), "val/loss") == pytest.approx(
        [row["val/loss"] for file in (first, second) for row in file.history if "val/loss" in row]
    )
    client = mlflow.MlflowClient(f"sqlite:///{run}/mlflow.db")
    (found,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert len(client.get_metric_history(found.info.run_id, "val/loss")) == 2
    assert found.info.status == "FINISHED"
    assert found.data.params["trainer/max_epochs"] == "1"
    assert found.data.tags["resumed/trainer/max_epochs"] == "2"


@pytest.fixture
def wandb_server(shell: Shell) -> Iterator[WandbServer]:
    """A W&B server of the test's own, to which the shell's runs go."""
    with WandbServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        shell.environment |= {
            "WANDB_MODE": "online",
            "WANDB_BASE_URL": server.address,
            "WANDB_API_KEY": "a" * 40,
            "WANDB_FINISH_TIMEOUT": "5",
        }
        yield server
        server.released.set()
        server.shutdown()


def test_wandb_online_gets_the_same_run_again_when_it_is_resumed(
    shell: Shell, wandb_server: WandbServer
) -> None:
    arguments = [
        "features=none",
        "logger=wandb",
        "logger.wandb.offline=false",
        "logger.wandb.group=mine",
    ]
    run = shell.train(*arguments, "trainer.max_epochs=1")
    shell(f"ckpt_path={run}/checkpoints/last.ckpt", "trainer.max_epochs=2")
    ((run_id, told),) = wandb_server.runs.items()
    assert (told["groupName"], told["displayName"], told["jobType"]) == (
        "mine",
        "vae_digits",
        "train",
    )
    sent = [row["val/loss"] for row in wandb_server.rows[run_id] if "val/loss" in row]
    assert sent == pytest.approx(told_values(read_run(run), "val/loss")) and len(sent) == 2
    assert "model" in wandb_server.artifacts
    assert read_run(run).info["trackers"] == {"wandb": "ok"}


def test_a_wandb_server_that_falls_silent_does_not_end_a_training(
    shell: Shell, wandb_server: WandbServer
) -> None:
    arguments = [
        "features=none",
        "logger=wandb",
        "logger.wandb.offline=false",
        "trainer.max_epochs=60",
    ]
    process, directory = shell.start(*shell.arguments(*arguments)), shell.directory("run")
    until = time.monotonic() + 60
    while not (directory / "metrics.jsonl").exists() and time.monotonic() < until:
        time.sleep(0.05)
    wandb_server.silent.set()
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 0, printed[-3000:]
    run = read_run(directory)
    assert run.state == "finished" and run.results["metrics"]
    told = run.info["trackers"]["wandb"]
    assert told.startswith("failed: ") and "wandb sync" in told
    (file,) = [WandbFile(path) for path in directory.rglob("run-*/*.wandb")]
    sent = [row["val/loss"] for row in file.history if "val/loss" in row]
    assert sent == pytest.approx(told_values(run, "val/loss"))  # and can be sent later
    assert (directory / "run.log").read_text().count("tracker wandb") == 1


@pytest.fixture
def silence() -> Iterator[int]:
    """The port of a server that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        yield server.getsockname()[1]


@pytest.fixture
def refusal() -> int:
    """A port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.mark.parametrize("kind", ["refusal", "silence"])
def test_trackers_that_cannot_be_reached_do_not_end_a_training(
    shell: Shell, kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"http://127.0.0.1:{request.getfixturevalue(kind)}"
    for name, value in {
        "WANDB_BASE_URL": address,
        "WANDB_API_KEY": "a" * 40,
        "WANDB_INIT_TIMEOUT": "3",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "2",
    }.items():
        monkeypatch.setenv(name, value)
    shell.environment["WANDB_MODE"] = "online"
    directory = shell.directory("run")
    directory.mkdir()
    (directory / "tensorboard").write_text("in the way")
    server = f"+logger.mlflow={{_target_: {TARGET}, tracking_uri: '{address}'}}"
    board = (
        "+logger.tensorboard={_target_: src.callbacks.trackers.tensorboard.TensorBoardRunLogger, "
    )
    board += f"save_dir: '{directory}', name: tensorboard, version: ''}}"
    wandb = ["features=none", "logger=wandb", "logger.wandb.offline=false", "trainer.max_epochs=2"]
    run = read_run(shell.train(*wandb, server, board))
    assert run.state == "finished" and run.results["metrics"]
    told = run.info["trackers"]
    assert told["wandb"].startswith("offline: CommError") and "wandb sync" in told["wandb"]
    assert told["mlflow"].startswith("failed: MlflowException")
    assert told["tensorboard"].startswith("failed: FileExistsError")
    log = (directory / "run.log").read_text()
    assert all(log.count(f"tracker {name}") == 1 for name in told)
    (file,) = wandb_files(directory)
    assert [row["val/loss"] for row in file.history if "val/loss" in row] == pytest.approx(
        told_values(run, "val/loss")
    )


def test_trackers_that_break_on_the_way_do_not_end_a_training(shell: Shell) -> None:
    pytest.importorskip("mlflow")
    arguments = shell.arguments(
        "features=none",
        "logger=wandb",
        f"+logger.mlflow={{_target_: {TARGET}}}",
        "trainer.max_epochs=100",
    )
    process, directory = shell.start(*arguments), shell.directory("run")
    until = time.monotonic() + 60
    while not (directory / "metrics.jsonl").exists() and time.monotonic() < until:
        time.sleep(0.05)
    for child in psutil.Process(process.pid).children(recursive=True):
        if child.name() == "wandb-core":
            child.kill()
    with sqlite3.connect(directory / "mlflow.db", timeout=30) as database:
        database.execute("DROP TABLE metrics")
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 0, printed[-3000:]
    run = read_run(directory)
    assert run.state == "finished" and run.results["metrics"]
    assert len(told_values(run, "val/loss")) == 100
    assert run.info["trackers"]["wandb"].startswith("failed: Connection")
    assert "no such table" in run.info["trackers"]["mlflow"]
    log = (directory / "run.log").read_text()
    assert log.count("tracker wandb failed") == log.count("tracker mlflow failed") == 1


def test_a_misspelt_setting_of_a_tracker_is_refused_before_the_training(shell: Shell) -> None:
    printed = shell(*shell.arguments("logger=wandb", "+logger.wandb.notess=x"), status=1)
    assert "error: 'logger.wandb.notess' is not a setting of W&B; nearest: 'notes'" in printed
    assert "epoch 1" not in printed
