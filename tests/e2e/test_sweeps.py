"""Studies: resumed to the trial after a kill, shared by workers, with trials that fail, and what they leave behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import optuna
import psutil
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from src.runs import list_runs, read_run
from tests import postgres
from tests.e2e.conftest import SMALL, Shell
from tests.e2e.test_endings import wait_for

pytestmark = pytest.mark.slow
PASSWORD = "pa55-of-the-test"


def study_of(directory: Path, storage: str | None = None) -> optuna.Study:
    """The only study of a storage."""
    where = storage or JournalStorage(JournalFileBackend(str(directory / "study.journal")))
    return optuna.load_study(study_name=None, storage=where)


def states(study: optuna.Study) -> list[tuple[int, str]]:
    return [(trial.number, trial.state.name) for trial in study.trials]


def sweep(directory: Path, *arguments: str, search: str = "beta_vae") -> list[str]:
    """A sweep of small, short trials."""
    short = [
        *SMALL[:3],
        "trainer.max_epochs=1",
        "callbacks=minimal",
        "callbacks.checkpoint.monitor=val/elbo",
    ]
    return [
        "-m",
        f"hparams_search={search}",
        "data=digits",
        f"hydra.sweep.dir={directory}",
        *short,
        *arguments,
    ]


def epoch(run: Path) -> int:
    return read_run(run).info["progress"]["epoch"] if (run / "run.json").exists() else -1


class TestTheDocumentedSearch:
    """The command of docs/sweeps.md with shorter trials, killed after five of them and given again."""

    @pytest.fixture(scope="class")
    @staticmethod
    def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
        shell = Shell(tmp_path_factory.mktemp("search"))
        directory = shell.folder / "study"
        command = ["-m", "hparams_search=beta_vae", "data=digits", "hydra.sweeper.n_trials=10"]
        command += ["trainer.max_epochs=20", f"hydra.sweep.dir={directory}"]
        process = shell.start(*command)
        wait_for(lambda: epoch(directory / "5") >= 2, 120)
        process.kill()
        process.wait()
        child = read_run(directory / "5").info["pid"]
        shell(*command, timeout=240)
        shell(*command)  # it reports again and trains nothing
        assert not Path(f"/proc/{child}").exists()
        yield directory
        shell.close()

    def test_it_ends_with_exactly_the_trials_asked_for(self, directory: Path) -> None:
        study = study_of(directory)
        assert [trial.number for trial in study.trials] == list(range(10))
        assert {trial.state.name for trial in study.trials} == {"COMPLETE", "PRUNED"}
        assert len({str(trial.params) for trial in study.trials}) == 10
        assert sorted(run.path.name for run in list_runs(directory)) == sorted(map(str, range(10)))

    def test_the_interrupted_trial_went_on_in_place(self, directory: Path) -> None:
        run = read_run(directory / "5")
        assert run.info["resumed_from"].endswith("5/checkpoints/last.ckpt")
        epochs = [row["epoch"] for row in run.metrics() if "val/elbo" in row["metrics"]]
        assert epochs == list(range(len(epochs)))
        assert all(read_run(directory / str(n)).info["resumed_from"] is None for n in range(5))

    def test_it_beats_the_default_and_prunes(self, directory: Path) -> None:
        found = json.loads((directory / "study.json").read_text())
        default, best = (
            found["default"]["values"]["val/elbo"],
            found["best"][0]["values"]["val/elbo"],
        )
        assert found["default"]["number"] == 0 and best > default + 1
        assert found["states"]["pruned"] >= 1 and found["states"]["complete"] >= 4
        assert sum(found["importances"]["val/elbo"].values()) == pytest.approx(1)
        pruned = [run for run in list_runs(directory) if run.info.get("pruned") is not None]
        assert len(pruned) == found["states"]["pruned"]
        assert all(run.state == "stopped" and not (run.path / "model").exists() for run in pruned)

    def test_the_value_is_the_run_s_own_elbo(self, directory: Path) -> None:
        trial = study_of(directory).best_trial
        rows = [row["metrics"] for row in read_run(directory / str(trial.number)).metrics()]
        elbos = [row["val/elbo"] for row in rows if "val/elbo" in row]
        assert trial.value == pytest.approx(max(elbos))
        assert [trial.intermediate_values[k] for k in range(len(elbos))] == pytest.approx(elbos)
        for row in rows:
            if "val/elbo" in row:
                assert row["val/elbo"] == pytest.approx(
                    -row["val/recon_nll"] - row["val/kl"], abs=1e-3
                )

    def test_pictures_and_a_page_are_there(self, directory: Path) -> None:
        pictures = {file.name for file in (directory / "figures").iterdir()}
        assert pictures == {"history.png", "parallel_coordinates.png", "importances.png"}
        assert (directory / "report.html").read_text().count("Plotly.newPlot") >= 4

    def test_the_dashboard_opens_it(self, directory: Path) -> None:
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        program = Path(sys.executable).with_name("optuna-dashboard")
        command = [
            str(program),
            str(directory / "study.journal"),
            "--host=127.0.0.1",
            f"--port={port}",
        ]
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as server:
            try:
                studies: list[dict] = []

                def answers() -> bool:
                    try:
                        with urllib.request.urlopen(
                            f"http://127.0.0.1:{port}/api/studies"
                        ) as reply:
                            studies.extend(json.load(reply)["study_summaries"])
                    except OSError:
                        return False
                    return True

                wait_for(answers, 30)
                with urllib.request.urlopen(
                    f"http://127.0.0.1:{port}/api/studies/{studies[0]['study_id']}?after=0"
                ) as reply:
                    assert len(json.load(reply)["trials"]) == 10
            finally:
                server.kill()


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """A PostgreSQL server of this module's own."""
    if postgres.binaries() is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    with postgres.server() as url:
        yield url


def test_two_workers_on_postgresql_run_each_trial_once(
    shell: Shell, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = shell.folder / "study"
    monkeypatch.setenv("STUDY_PASSWORD", PASSWORD)
    url = database.replace("lab@", "lab:${oc.env:STUDY_PASSWORD}@")
    command = sweep(
        directory,
        f"hydra.sweeper.storage='{url}'",
        "hydra.sweeper.n_trials=9",
        "trainer.max_epochs=3",
    )
    workers = [shell.start(*command) for _ in range(2)]
    printed = [worker.communicate(timeout=120)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], "\n".join(printed)[-3000:]
    study = study_of(directory, database)
    assert states(study) == [(number, "COMPLETE") for number in range(9)]
    assert len({str(trial.params) for trial in study.trials}) == 9
    started = [[n for n in range(9) if f"trial {n}: " in text] for text in printed]
    assert sorted(sum(started, [])) == list(range(9)) and all(started)
    assert (directory / "study.json").exists()
    # psycopg was given the password; nothing that was written has it.
    for file in directory.rglob("*"):
        assert file.is_dir() or PASSWORD.encode() not in file.read_bytes(), file
    assert PASSWORD not in "".join(printed)


def test_trials_that_fail_are_recorded_and_cost_nothing_but_themselves(shell: Shell) -> None:
    directory = shell.folder / "study"
    # 10¹⁰ units are more than any machine of ours has memory for; then a trial that is killed, and one that ends well.
    process = shell.start(
        "-m",
        "hydra/sweeper=study",
        "hydra/launcher=processes",
        "hydra/sweeper/sampler=grid",
        f"hydra.sweep.dir={directory}",
        *SMALL,
        "callbacks=minimal",
        "model.decoder.width=choice(10000000000,32)",
        "trainer.max_epochs=choice(1,100000)",
    )

    def kill_the_long_one() -> bool:
        for run in list_runs(directory):
            if (
                run.state == "running"
                and epoch(run.path) > 2
                and run.info["progress"]["max_epochs"] == 100000
            ):
                os.kill(run.info["pid"], signal.SIGKILL)
                return True
        return False

    wait_for(kill_the_long_one, 90)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0, printed[-3000:]
    errors = {
        (
            trial.params["model.decoder.width"],
            trial.params["trainer.max_epochs"],
        ): trial.user_attrs.get("error", "")
        for trial in study_of(directory).trials
    }
    assert len(errors) == 4
    assert all("alloc" in errors[10000000000, epochs] for epochs in (1, 100000)), errors
    assert "SIGKILL" in errors[32, 100000] and errors[32, 1] == ""
    assert json.loads((directory / "study.json").read_text())["states"] == {
        "fail": 3,
        "complete": 1,
    }


def test_ctrl_c_ends_a_sweep_at_once_and_its_trial_goes_on(shell: Shell) -> None:
    directory = shell.folder / "study"
    storage = f"sqlite:///{shell.folder}/study.db"
    command = sweep(directory, f"hydra.sweeper.storage={storage}", "hydra.sweeper.n_trials=1")
    command.append("trainer.max_epochs=150")
    process = shell.start(*command)
    wait_for(lambda: epoch(directory / "0") > 3, 60)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    printed, _ = process.communicate(timeout=30)
    assert process.returncode == 130 and time.monotonic() - began < 10, printed[-3000:]
    assert states(study_of(directory, storage)) == [(0, "RUNNING")]
    assert read_run(directory / "0").state == "stopped"
    assert epoch(directory / "0") < 150
    shell(*command)
    assert states(study_of(directory, storage)) == [(0, "COMPLETE")]
    assert read_run(directory / "0").info["resumed_from"] and epoch(directory / "0") == 150


def test_slurm_ends_a_worker_whose_trial_saves_its_state(shell: Shell) -> None:
    directory = shell.folder / "study"
    step = {"JOB_ID": "1", "STEP_ID": "0", "STEP_NUM_TASKS": "1", "PROCID": "0"}
    shell.environment |= {f"SLURM_{name}": value for name, value in step.items()}
    process = shell.start(*sweep(directory, "trainer.max_epochs=100000"))
    wait_for(lambda: epoch(directory / "0") > 3, 60)
    last = directory / "0" / "checkpoints" / "last.ckpt"
    before = last.stat().st_mtime_ns
    worker = psutil.Process(process.pid)
    for one in [*worker.children(recursive=True), worker]:  # as SLURM does, so that all hear it
        one.terminate()
    printed, _ = process.communicate(timeout=30)
    assert process.returncode == 143, printed[-3000:]
    run = read_run(directory / "0")
    assert (run.state, run.info["stopped_by"]) == ("stopped", "SIGTERM")
    assert last.stat().st_mtime_ns > before
    assert states(study_of(directory)) == [(0, "RUNNING")]


def test_a_pruned_trial_of_two_processes_ends_on_both(shell: Shell) -> None:
    directory = shell.folder / "study"
    always = "+hydra.sweeper.pruner={_target_: optuna.pruners.ThresholdPruner, lower: 1e9}"
    printed = shell(
        *sweep(
            directory,
            "trainer=ddp_cpu",
            "trainer.max_epochs=50",
            "hydra/sweeper/pruner=none",
            always,
            "hydra.sweeper.n_trials=1",
        ),
        status=1,
    )
    assert "none of the study's 1 trials came to an end" in printed.splitlines()[-1]
    run = read_run(directory / "0")
    assert (run.state, run.info["pruned"], run.info["device"]) == ("stopped", 0, "2 × cpu")
    assert states(study_of(directory)) == [(0, "PRUNED")]
    assert list(study_of(directory).trials[0].intermediate_values) == [0]


def test_two_metrics_give_a_pareto_front(shell: Shell) -> None:
    directory = shell.folder / "study"
    shell(
        *sweep(
            directory,
            "hydra.sweeper.n_trials=4",
            "hydra.sweeper.n_jobs=2",
            search="rate_distortion",
        )
    )
    study, found = study_of(directory), json.loads((directory / "study.json").read_text())
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 4
    assert [row["number"] for row in found["best"]] == [trial.number for trial in study.best_trials]
    assert found["metrics"] == {"val/recon_nll": "minimize", "val/kl": "minimize"}
    assert (directory / "figures" / "pareto_front.png").exists()
    rows = [
        row["metrics"] for row in read_run(directory / "0").metrics() if "val/kl" in row["metrics"]
    ]
    assert study.trials[0].values == pytest.approx([rows[-1]["val/recon_nll"], rows[-1]["val/kl"]])


def test_a_multirun_over_values_can_use_one_process_for_all_its_jobs(shell: Shell) -> None:
    shell(
        "-m",
        "seed=1,2",
        "hydra/launcher=processes",
        f"hydra.sweep.dir={shell.folder}/sweep",
        *SMALL,
        "trainer.max_epochs=1",
        "logger=none",
        "callbacks=minimal",
        "test=false",
    )
    first, second = (read_run(shell.folder / "sweep" / str(job)) for job in range(2))
    assert first.state == second.state == "finished"
    assert first.info["pid"] == second.info["pid"]
    assert "seed: 2" in (second.path / "config.yaml").read_text()


REFUSED: list[tuple[list[str], str]] = [
    (["hydra.sweeper.direction=maximise"], "direction=maximise is unknown; nearest: 'maximize'"),
    (["hydra/sweeper/sampler=tpee"], "has no option 'tpee'; nearest: 'tpe'"),
    (["hydra/sweeper/sampler=grid"], "a grid needs values"),
    (
        ["optimized_metric=val/elbow"],
        "optimized_metric='val/elbow' is not logged; nearest: 'val/elbo'",
    ),
    (["optimized_metric=[val/kl,val/mse]"], "direction has 1 for optimized_metric=val/kl,val/mse"),
    (
        ["optimized_metric=[val/kl,val/mse]", "hydra.sweeper.direction=[minimize,minimize]"],
        "cannot prune",
    ),
    (["hydra.sweeper.storage=postgresql+psycopg://nobody@127.0.0.1:1/x"], "cannot be reached"),
    (["hydra.sweeper.storage=postgresql+psycopg://u:s3cret@127.0.0.1:1/x"], "u:***@127.0.0.1"),
    (
        ["model.objective.betta=interval(0,1)"],
        "no setting 'model.objective.betta'; nearest: 'model.objective.beta'",
    ),
]


@pytest.mark.parametrize(("arguments", "sentence"), REFUSED, ids=[" ".join(a) for a, _ in REFUSED])
def test_what_cannot_be_is_one_sentence_and_uses_up_no_trial(
    arguments: list[str], sentence: str, shell: Shell
) -> None:
    directory = shell.folder / "study"
    printed = shell(*sweep(directory, *arguments), status=1)
    last = printed.splitlines()[-1]
    assert last.startswith("error: ") and sentence in last and "s3cret" not in printed
    kept = [file.read_bytes() for file in shell.folder.rglob("*") if file.is_file()]
    assert not any(b"s3cret" in content for content in kept)
    begun = (directory / "study.journal").exists()
    # Only a trial finds out what is logged; the mended command goes on with it.
    left = [(0, "RUNNING")] if "is not logged" in sentence else []
    assert (states(study_of(directory)) if begun else []) == left


def test_a_command_without_a_search_space_is_refused(shell: Shell) -> None:
    last = shell(
        "-m", "hydra/sweeper=study", f"hydra.sweep.dir={shell.folder}", status=1
    ).splitlines()[-1]
    assert last.startswith("error: there is nothing to search")


def test_all_trials_failing_is_one_sentence(shell: Shell) -> None:
    command = sweep(shell.folder / "study", "model.optimizer.lr=-1", "hydra.sweeper.n_trials=2")
    last = shell(*command, status=1).splitlines()[-1]
    assert "none of the study's 2 trials" in last and "Invalid learning rate" in last


def test_a_study_is_not_mixed_with_another(shell: Shell, run_file: Callable[[Path], dict]) -> None:
    directory = shell.folder / "study"
    shell(*sweep(directory, "hydra.sweeper.n_trials=1"))
    last = shell(
        *sweep(directory, "hydra.sweeper.n_trials=2", "data.batch_size=64"), status=1
    ).splitlines()[-1]
    assert "begun with data.batch_size=nothing, and now it is 64" in last
    assert run_file(directory / "0")["optimized"].keys() == {"val/elbo"}
