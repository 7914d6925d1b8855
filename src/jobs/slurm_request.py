"""What the keys of ``cluster`` ask SLURM for, checked before anything is submitted."""

import math
import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from src.runs.slurm import MAKE_WAY
from src.utils.errors import UserError, nearest

ROOT = Path(__file__).parents[2]
UNITS = {"d": 1440.0, "h": 60.0, "m": 1.0, "s": 1 / 60}
# How an image's Python is called; with pyxis srun starts inside the image.
RUNTIMES = {"apptainer": ["apptainer", "exec"], "singularity": ["singularity", "exec"], "pyxis": []}
COUNTS = ("nodes", "tasks_per_node", "cpus_per_task", "array_parallelism")
# Keys under which submitit knows ours; the rest it knows by the same name.
PLAIN = ("partition", "account", "qos", "constraint", "nodes", "cpus_per_task", "gpus_per_node")
# Python leaves a signal alone that is ignored when it starts: one that comes before the run listens must not end it.
DEAF = ["bash", "-c", 'trap "" USR1; exec "$@"', "--"]


def minutes(time: Any) -> int:
    """A time as SLURM or a person writes it, in minutes, rounded up.

    Raises:
        UserError: it is not one.
    """
    text = str(time).strip().lower()
    if re.fullmatch(r"\d+", text):
        return int(text)
    if re.fullmatch(r"(\d+(\.\d+)?[dhms])+", text):
        parts = re.findall(r"([\d.]+)([dhms])", text)
        return math.ceil(sum(float(number) * UNITS[unit] for number, unit in parts))
    if found := re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text):
        days, *rest = (int(part) if part else 0 for part in found.groups())
        # As sbatch reads it: after days come hours, else two numbers are minutes and seconds.
        short = found[1] is None and found[4] is None
        h, m, s = (0, *rest[:2]) if short else rest
        return math.ceil(days * 1440 + h * 60 + m + s / 60)
    raise UserError(
        f"cluster.time={time} is no time: write minutes such as 90, or 4h, 1d12h, 04:00:00, 1-00:00:00"
    )


def check(cluster: Mapping[str, Any]) -> None:
    """Refuse what SLURM or we could make nothing of, in one sentence.

    Raises:
        UserError: naming the key.
    """
    for key in COUNTS:
        if not isinstance(cluster[key], int) or cluster[key] < 1:
            raise UserError(f"cluster.{key}={cluster[key]} must be a whole number of at least 1")
    if minutes(cluster["time"]) < 1:
        raise UserError(f"cluster.time={cluster['time']} must be at least a minute")
    if not 0 < cluster["signal_s"] < 60 * minutes(cluster["time"]):
        raise UserError(
            f"cluster.signal_s={cluster['signal_s']} must lie between 0 and cluster.time={cluster['time']}: "
            "it is how many seconds before its end a job saves its state"
        )
    runtime = cluster["container_runtime"]
    if runtime not in RUNTIMES:
        raise UserError(
            f"cluster.container_runtime={runtime} is unknown{nearest(runtime, RUNTIMES)}"
        )


def parameters(cluster: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What submitit is to write into the file that sbatch reads.

    Args:
        name: the job's.
    """
    asked = {key: cluster[key] for key in PLAIN if cluster[key] is not None}
    if cluster["mem_gb"] is not None:
        asked["mem"] = f"{math.ceil(cluster['mem_gb'] * 1024)}MB"
    requeue = "requeue" if cluster["max_requeues"] else "no-requeue"
    more = {"signal": f"{MAKE_WAY[3:]}@{cluster['signal_s']}", requeue: True}
    path = f"export PYTHONPATH={shlex.quote(str(ROOT))}${{PYTHONPATH:+:$PYTHONPATH}}"
    return asked | {
        "job_name": re.sub(r"[^\w.-]+", "_", name),
        "time": minutes(cluster["time"]),
        "ntasks_per_node": cluster["tasks_per_node"],
        "array_parallelism": cluster["array_parallelism"],
        "setup": [path, *cluster["setup"]],
        "srun_args": srun_options(cluster),
        "additional_parameters": more | dict(cluster["additional"]),
    }


def srun_options(cluster: Mapping[str, Any]) -> list[str]:
    """What the job's srun is told besides what it inherits from the job."""
    # Since SLURM 22.05 srun inherits no cpus_per_task; a job that starts again goes on with its log.
    options = [f"--cpus-per-task={cluster['cpus_per_task']}", "--open-mode=append"]
    if cluster["container"] and cluster["container_runtime"] == "pyxis":
        mounts = ",".join(
            f"{place}:{place}" for place in dict.fromkeys((str(ROOT), str(Path.cwd())))
        )
        options += [f"--container-image={cluster['container']}", f"--container-mounts={mounts}"]
        options += [f"--container-workdir={Path.cwd()}", *cluster["container_options"]]
    return options


def python(cluster: Mapping[str, Any]) -> str:
    """The shell's words that start Python on a node."""
    if not cluster["container"]:
        return shlex.join([*DEAF, sys.executable])
    inside = [cluster["container_python"]]
    if runtime := RUNTIMES[cluster["container_runtime"]]:
        inside = [*runtime, *cluster["container_options"], cluster["container"], *inside]
    return shlex.join([*DEAF, *inside])


def check_machine() -> None:
    """Refuse to submit from where there is no SLURM, or without submitit.

    Raises:
        UserError: with what to do about it.
    """
    try:
        import submitit  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(
            "cluster=slurm needs submitit: pip install -c constraints.txt -e .[slurm]"
        ) from error
    missing = [tool for tool in ("sbatch", "srun", "squeue") if shutil.which(tool) is None]
    if missing:
        raise UserError(
            f"cluster=slurm needs a machine that can submit: {missing[0]} is not found here; "
            "leave cluster=slurm out to run on this machine"
        )
