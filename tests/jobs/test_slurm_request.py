"""What the keys of ``cluster`` become, and what is refused before anything is submitted."""

import json
import shlex
import signal
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from src.jobs.array_sweep import worker_arguments
from src.jobs.slurm_queue import earlier
from src.jobs.slurm_request import check, check_machine, minutes, parameters, python
from src.jobs.slurm_task import JobFailed, run_command
from src.runs.record import RunRecord
from src.runs.slurm import JOBS_FILE
from src.utils.errors import UserError
from src.utils.main import CONF, register_resolvers, with_own_files


def cluster(*overrides: str) -> dict[str, Any]:
    """``cluster=slurm`` with some keys changed."""
    register_resolvers()
    with initialize_config_dir(str(CONF)):
        cfg = compose("config", overrides=["cluster=slurm", *overrides])
    return OmegaConf.to_container(cfg.cluster, resolve=True)  # type: ignore[return-value]


@pytest.mark.parametrize(
    "time, expected",
    [(90, 90), ("90", 90), ("4h", 240), ("90m", 90), ("1d12h", 2160), ("1.5h", 90), ("30s", 1), ("90:30", 91)]
    + [("04:00:00", 240), ("1-0", 1440), ("1-00:00:00", 1440), ("2-03:30", 3090)],
)  # fmt: skip
def test_times_are_read_as_sbatch_or_a_person_writes_them(time: Any, expected: int) -> None:
    assert minutes(time) == expected


@pytest.mark.parametrize(
    "override, sentence",
    [
        ("cluster.time=soon", "cluster.time=soon is no time"),
        ("cluster.time=0", "cluster.time=0 must be at least a minute"),
        ("cluster.nodes=0", "cluster.nodes=0 must be a whole number"),
        ("cluster.tasks_per_node=two", "cluster.tasks_per_node=two must be a whole number"),
        ("cluster.signal_s=14400", "cluster.signal_s=14400 must lie between 0 and cluster.time=4h"),
        ("cluster.container_runtime=pyxi", "nearest: 'pyxis'"),
    ],
)
def test_what_slurm_could_make_nothing_of_is_refused(override: str, sentence: str) -> None:
    with pytest.raises(UserError) as error:
        check(cluster(override))
    assert sentence in str(error.value)


def test_keys_become_options_of_sbatch() -> None:
    asked = parameters(
        cluster(
            "cluster.time=1-00:00:00",
            "cluster.mem_gb=1.5",
            "cluster.account=lab",
            "cluster.signal_s=60",
        )
        | {"setup": ["module load cuda"], "additional": {"mail-type": "END"}},
        "beta vae",
    )
    assert asked["time"] == 1440 and asked["mem"] == "1536MB" and asked["account"] == "lab"
    assert asked["job_name"] == "beta_vae" and asked["setup"][-1] == "module load cuda"
    assert asked["additional_parameters"] == {
        "signal": "USR1@60",
        "requeue": True,
        "mail-type": "END",
    }
    assert "partition" not in asked and "gpus_per_node" not in asked
    assert (
        "no-requeue" in parameters(cluster("cluster.max_requeues=0"), "x")["additional_parameters"]
    )


def test_a_container_is_entered_by_the_command_or_by_srun() -> None:
    check(cluster())
    image = {"container": "/images/lab.sif", "container_options": ["--nv"]}
    inside = shlex.split(python(cluster() | image))
    assert inside[-5:] == ["apptainer", "exec", "--nv", "/images/lab.sif", "python3"]
    pyxis = cluster() | image | {"container_runtime": "pyxis"}
    assert shlex.split(python(pyxis))[-1] == "python3" and "apptainer" not in python(pyxis)
    options = parameters(pyxis, "x")["srun_args"]
    assert "--container-image=/images/lab.sif" in options and "--nv" in options


def test_the_command_ignores_the_signal_until_the_run_listens() -> None:
    words = shlex.split(python(cluster()))
    assert words[:2] == ["bash", "-c"] and words[2].startswith('trap "" USR1')


def test_a_machine_that_cannot_submit_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="sbatch is not found here"):
        check_machine()
    monkeypatch.setitem(__import__("sys").modules, "submitit", None)
    with pytest.raises(UserError, match=r"pip install .* -e \.\[slurm\]"):
        check_machine()


@pytest.mark.parametrize(
    "overrides, launcher, sweeper",
    [
        (["cluster=slurm"], "SlurmLauncher", "BasicSweeper"),
        (["hparams_search=beta_vae", "cluster=slurm"], "SlurmLauncher", "StudySweeper"),
        (
            ["cluster=slurm_array_sweep", "hparams_search=beta_vae"],
            "ProcessLauncher",
            "ArraySweeper",
        ),
    ],
)
def test_the_cluster_has_the_last_word_on_where_jobs_run(
    overrides: list[str], launcher: str, sweeper: str
) -> None:
    register_resolvers()
    with initialize_config_dir(str(CONF)):
        cfg = compose("config", overrides=[*overrides, "cluster.nodes=2"], return_hydra_config=True)
    assert cfg.hydra.launcher._target_.endswith(f".{launcher}")
    assert cfg.hydra.sweeper._target_.endswith(f".{sweeper}")
    assert (cfg.trainer.num_nodes, cfg.trainer.devices) == (2, 1)


def test_a_cluster_is_for_multiruns() -> None:
    from src.experiment.assembly import check_root

    register_resolvers()
    with initialize_config_dir(str(CONF)):
        cfg = compose("config", overrides=["cluster=slurm"])
    with pytest.raises(UserError, match="add -m"):
        check_root(cfg)


def test_keys_of_this_machine_count_where_jobs_are_submitted_and_nowhere_else(
    tmp_path: Path,
) -> None:
    from src.experiment.assembly import check_root

    (tmp_path / "local").mkdir()
    own = "# @package _global_\ncluster:\n  partition: gpu\n  cpus_per_task: 3\n"
    (tmp_path / "local" / "default.yaml").write_text(own)
    here = f"hydra.searchpath=[file://{tmp_path}]"
    register_resolvers()
    with initialize_config_dir(str(CONF)):
        check_root(compose("config", overrides=[here]))
    asked = parameters(cluster(here), "x")
    assert (asked["partition"], asked["cpus_per_task"]) == ("gpu", 3)
    assert parameters(cluster(here, "cluster.partition=cpu"), "x")["partition"] == "cpu"


@pytest.mark.parametrize(
    "given, launcher",
    [
        (["model.latent_dim=choice(4,8)"], "ProcessLauncher"),
        (["hparams_search=beta_vae", "hydra/launcher=basic"], "BasicLauncher"),
    ],
)
def test_a_worker_runs_the_study_where_it_is(given: list[str], launcher: str) -> None:
    array = ["cluster=slurm_array_sweep", "cluster.workers=2", "hydra.sweep.dir=elsewhere"]
    arguments = worker_arguments(["-m", *array, *given], Path("/study"), {"max_requeues": 7})
    register_resolvers()
    with initialize_config_dir(str(CONF)):
        overrides = [one for one in arguments if one != "-m" and "choice(" not in one]
        cfg = compose("config", overrides=overrides, return_hydra_config=True)
    assert set(given) <= set(arguments) and cfg.cluster == {"max_requeues": 7}
    assert cfg.hydra.sweeper._target_.endswith(".StudySweeper")
    assert cfg.hydra.launcher._target_.endswith(f".{launcher}")
    assert cfg.hydra.sweep.dir == "/study"


def test_a_worker_is_run_by_the_python_it_finds_itself_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handlers = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGCONT)}
    node = tmp_path / "python"
    node.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/said; exit 3\n')
    node.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(node))
    try:
        with pytest.raises(JobFailed, match="status 3"):
            run_command(["-u", "run_experiment.py"])
    finally:
        for one, handler in handlers.items():
            signal.signal(one, handler)
    assert (tmp_path / "said").read_text() == "-u run_experiment.py\n"


@pytest.mark.parametrize("then, adopted", [("CANCELLED", False), ("PENDING", True)])
def test_a_job_that_is_just_ending_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: str, adopted: bool
) -> None:
    said = iter(["COMPLETING", then])
    monkeypatch.setattr("src.runs.slurm.job_states", lambda ids: {one: next(said) for one in ids})
    jobs = {"job 0": {"job_id": "12", "directory": str(tmp_path / "0")}}
    (tmp_path / JOBS_FILE).write_text(json.dumps(jobs))
    found = earlier(tmp_path, ["job 0", "job 1"])
    assert {name: job.state for name, job in found.items()} == ({"job 0": then} if adopted else {})


def in_step(monkeypatch: pytest.MonkeyPatch, tasks: int, rank: int = 0, restarts: int = 0) -> None:
    """What srun tells a process of step 0 of job 12."""
    step = {"STEP_ID": 0, "STEP_NUM_TASKS": tasks, "PROCID": rank, "RESTART_COUNT": restarts}
    for name, value in ({"JOB_ID": 12} | step).items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))


def test_processes_that_srun_starts_share_a_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert with_own_files(["model=vae"]) == ["model=vae"]
    in_step(monkeypatch, tasks=2)
    place = "hydra.run.dir=${paths.log_dir}/${name}/slurm_12_0"
    assert with_own_files(["model=vae"]) == ["model=vae", place]
    in_step(monkeypatch, tasks=2, rank=1)
    second = with_own_files(["hydra.run.dir=x"])
    assert second == ["hydra.run.dir=x", "hydra.output_subdir=null", "hydra.job.name=run_rank1"]
    with pytest.raises(UserError, match="use -m cluster=slurm"):
        with_own_files(["-m", "seed=1,2"])


def test_a_command_that_srun_starts_alone_finds_its_directory_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_step(monkeypatch, tasks=1)
    # A worker of a study, a rank that rank 0 starts, and an evaluation stay where they are.
    for given in (["-m", "seed=1,2"], ["--config-path=x", "hydra.run.dir=x"]):
        assert with_own_files(given) == given
    assert with_own_files(["run=x"], "evaluate") == ["run=x"]

    def start(seed: int, restarts: int) -> str:
        """A command of the step, which leaves its record where it is told to."""
        in_step(monkeypatch, tasks=1, restarts=restarts)
        given = with_own_files([f"seed={seed}", "name=x", f"paths.log_dir={tmp_path}"])
        monkeypatch.setattr("sys.argv", ["run_experiment.py", *given])
        with initialize_config_dir(str(CONF)):
            cfg = compose("config", overrides=given, return_hydra_config=True)
        run = Path(cfg.hydra.run.dir)
        RunRecord(run, command=" ".join(["python", "run_experiment.py", *given]))
        return run.name

    register_resolvers()
    # One after another in one shell: the second does not write over the first.
    assert [start(seed, 0) for seed in (1, 2, 2)] == ["slurm_12_0", "slurm_12_0_2", "slurm_12_0_3"]
    # Started again, each goes on where it was.
    assert [start(seed, 1) for seed in (2, 1, 2)] == ["slurm_12_0_2", "slurm_12_0", "slurm_12_0_3"]
    assert start(3, 1) == "slurm_12_0_4"


def test_the_scripts_are_sound_shell() -> None:
    import subprocess

    folder = Path(__file__).parents[2] / "scripts"
    for name in ("slurm_local.sh", "train.sbatch"):
        subprocess.run(["bash", "-n", folder / name], check=True)
