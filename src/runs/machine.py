"""What this machine has left: cores, memory, disk and GPUs. Nothing here imports torch."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from src.utils.cores import cores

NVIDIA_SMI = "nvidia-smi"
QUERY = ("name", "memory.used", "memory.total", "utilization.gpu")
PATIENCE_S = 5.0
MIB = 2**20


@dataclass(frozen=True)
class Gpu:
    """One GPU.

    Attributes:
        name: as its driver says.
        used: memory in bytes; None where the driver does not tell.
        total: memory in bytes; None where the driver does not tell.
        busy: fraction of the last moments that it worked in; None where the driver does not tell.
    """

    name: str
    used: int | None
    total: int | None
    busy: float | None


@dataclass(frozen=True)
class Machine:
    """This machine at one moment; sizes in bytes.

    Attributes:
        cores: how many this process may use.
        load: processes that worked or waited for a core, on average over the last minute.
        disk_free: what is left where the logs lie.
        gpus: as ``gpus``.
        trouble: why the GPUs are not known, in a sentence; None where they are.
    """

    cores: int
    load: float
    memory_used: int
    memory_total: int
    disk_free: int
    disk_total: int
    gpus: tuple[Gpu, ...]
    trouble: str | None = None


def machine(logs: Path) -> Machine:
    """This machine now, and the disk that ``logs`` lies on, or would lie on."""
    there = next(
        folder for folder in (logs.absolute(), *logs.absolute().parents) if folder.exists()
    )
    memory, disk = psutil.virtual_memory(), psutil.disk_usage(str(there))
    found, trouble = gpus()
    used, load = memory.total - memory.available, os.getloadavg()[0]
    return Machine(cores(), load, used, memory.total, disk.free, disk.total, found, trouble)


def gpus() -> tuple[tuple[Gpu, ...], str | None]:
    """The GPUs that NVIDIA's driver knows, and why they are not known, if so; none where there is no driver."""
    command = [NVIDIA_SMI, f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    except FileNotFoundError:
        return (), None
    except (OSError, subprocess.TimeoutExpired) as error:
        return (), f"{NVIDIA_SMI} does not answer: {error}"
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or [f"status {done.returncode}"]
        return (), f"{NVIDIA_SMI}: {said[-1]}"
    return tuple(_parsed(done.stdout)), None


def _parsed(printed: str) -> Iterator[Gpu]:
    for line in printed.splitlines():
        cells = [cell.strip() for cell in line.rsplit(",", len(QUERY) - 1)]
        if len(cells) == len(QUERY):
            used, total, busy = (int(cell) if cell.isdigit() else None for cell in cells[1:])
            yield Gpu(cells[0], _bytes(used), _bytes(total), None if busy is None else busy / 100)


def _bytes(mebibytes: int | None) -> int | None:
    return None if mebibytes is None else mebibytes * MIB


def size_text(number: float) -> str:
    """A number of bytes for people: ``3.4 GB``, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 999.5:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"


def folder_size(folder: Path) -> int:
    """Bytes of all files below ``folder``; what vanishes meanwhile counts nothing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size
            except OSError:  # gone since it was listed
                continue
    return total
