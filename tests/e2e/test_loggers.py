"""What the trackers were told, read back from the files they wrote."""

import csv
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from src.runs import read_run
from tests.e2e.conftest import SMALL, Shell

pytestmark = pytest.mark.slow


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


def test_wandb_offline_holds_metrics_config_and_images(shell: Shell) -> None:
    arguments = ["model=beta_vae", "data=digits", "logger=wandb", "trainer.max_epochs=3"]
    shell(f"hydra.run.dir={shell.folder}/run", *arguments, *SMALL)
    run = read_run(shell.folder / "run")
    (file,) = run.path.rglob("*.wandb")
    config: dict[str, Any] = {}
    history: list[dict[str, Any]] = []
    exits = []
    for record in wandb_records(file):
        kind = record.WhichOneof("record_type")
        if kind in ("run", "config"):
            updates = (record.run.config if kind == "run" else record.config).update
            config |= {
                item.key or "/".join(item.nested_key): json.loads(item.value_json)
                for item in updates
            }
        elif kind == "history":
            history.append(
                {
                    item.key or "/".join(item.nested_key): json.loads(item.value_json)
                    for item in record.history.item
                }
            )
        elif kind == "exit":
            exits.append(record.exit.exit_code)
    told = [row["val/loss"] for row in history if "val/loss" in row]
    assert told == pytest.approx(
        [row["metrics"]["val/loss"] for row in run.metrics() if "val/loss" in row["metrics"]]
    )
    assert any("test/nll" in row for row in history)
    assert "beta_vae" in json.dumps(config) and "4.0" in json.dumps(config)
    images = [name for row in history for name in row.get("figures/reconstructions/filenames", [])]
    assert images and all((file.parent / "files" / name).exists() for name in images)
    assert exits == [0]


def test_tensorboard_and_csv_agree_with_the_runs_own_log(trained: Path) -> None:
    own = [
        row["metrics"]["val/loss"]
        for row in read_run(trained).metrics()
        if "val/loss" in row["metrics"]
    ]
    events = EventAccumulator(str(trained / "tensorboard")).Reload()
    assert [event.value for event in events.Scalars("val/loss")] == pytest.approx(own)
    assert {"figures/reconstructions", "figures/samples"} <= set(events.Tags()["images"])
    (table,) = trained.glob("csv/*/metrics.csv")
    with open(table) as file:
        told = [float(row["val/loss"]) for row in csv.DictReader(file) if row["val/loss"]]
    assert told == pytest.approx(own)


def test_mlflow_holds_metrics_parameters_and_figures(shell: Shell) -> None:
    mlflow = pytest.importorskip("mlflow")
    run = shell.train("logger=mlflow", "trainer.max_epochs=2")
    client = mlflow.MlflowClient(f"sqlite:///{run}/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "vae_digits"]
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.data.metrics["test/nll"] == pytest.approx(
        read_run(run).results["metrics"]["test/nll"]["value"]
    )
    assert found.data.params["model/latent_dim"] == "4"
    assert list(Path(run / "mlflow").rglob("reconstructions.png"))
