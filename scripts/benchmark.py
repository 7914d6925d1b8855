"""How fast a training step is, how soon a config is composed and a page is there, measured in one run.

``python scripts/benchmark.py`` lists the benchmarks; ``--write`` puts a table into docs/benchmarks.md.
"""

import argparse
import importlib
import logging
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from rich.console import Console
from rich.table import Table as RichTable

from src.experiment.assembly import quiet_libraries
from src.runs.record import write_atomic
from src.utils.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
# A header, and rows of as many cells.
Table = tuple[list[str], list[list[str]]]


def configuration(runs: int = 9) -> Table:
    """Wall time of composing and printing the config over that of importing Hydra."""
    commands = {
        "python -c 'import hydra'": [sys.executable, "-c", "import hydra"],
        "run_experiment.py --cfg job": [sys.executable, "run_experiment.py", "--cfg", "job"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(runs):
        for name, command in commands.items():
            start = time.perf_counter()
            subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
            seconds[name].append(time.perf_counter() - start)
    base, ours = (median(values) for values in seconds.values())
    ratio = ours / base
    target = "≤ 2.00, missed" if ratio > 2 else "≤ 2.00"
    row = ["--cfg job", f"{1e3 * base:.0f}", f"{1e3 * ours:.0f}", f"{ratio:.2f}", target]
    return ["configuration", "import hydra, ms", "ours, ms", "ratio", "target"], [row]


def elsewhere(module: str, function: str, says: str) -> Callable[[], Table]:
    """A benchmark of ``scripts/<module>.py``, imported when it is asked for; on one thread of ours."""

    def benchmark() -> Table:
        torch.set_num_threads(1)
        table: Callable[[], Table] = getattr(importlib.import_module(module), function)
        return table()

    benchmark.__doc__ = says
    return benchmark


BENCHMARKS: dict[str, Callable[[], Table]] = {
    "training": elsewhere(
        "training_benchmark",
        "training",
        "A training step of ours against a bare PyTorch loop that runs by itself.",
    ),
    "one_process": elsewhere(
        "training_benchmark",
        "one_process",
        "The same against a bare loop inside our process, where it gains by our memory settings.",
    ),
    "configuration": configuration,
    "geometry": elsewhere(
        "geometry_benchmark",
        "table",
        "Latent geometry, the flow chain and their training step over the plain way of writing them.",
    ),
    "zoo": elsewhere(
        "zoo_benchmark", "table", "A training step of our variants against Pythae's own models."
    ),
    "scaling": elsewhere(
        "jobs_benchmark", "scaling", "Two processes of a training on the CPU against one."
    ),
    "trials": elsewhere(
        "jobs_benchmark",
        "trials",
        "What a trial of a study costs beside its training, against a process of its own.",
    ),
    "collecting": elsewhere(
        "collecting_benchmark",
        "collecting",
        "Episodes of Atari recorded, against emulators that nobody records.",
    ),
    "batches": elsewhere(
        "recordings_benchmark",
        "batches",
        "Batches of frames from the mapped file of some recordings against the same from memory.",
    ),
    "opening": elsewhere(
        "recordings_benchmark",
        "opening",
        "Opening a recording of 100,000 frames against one of 1,000.",
    ),
    "app": elsewhere(
        "app_benchmark",
        "table",
        "How soon the web app answers in a browser, and what its memory does, in seconds and MB.",
    ),
}


def write_page(name: str, header: list[str], rows: list[list[str]]) -> None:
    """Replace the table of one benchmark in docs/benchmarks.md."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    lines = ["| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *rows]]
    where = f"torch {torch.__version__}, {os.cpu_count()} cores, {platform.machine()}"
    before, rest = PAGE.read_text().split(begin)
    after = rest.split(end)[1]
    table = "\n".join([begin, "", *lines, "", f"Measured with {where}.", "", end])
    write_atomic(PAGE, before + table + after)


def main() -> None:
    """Run the benchmarks that are named, or say which there are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="*", help=f"one or more of {', '.join(BENCHMARKS)}")
    parser.add_argument("--write", action="store_true", help="put the tables into docs")
    arguments = parser.parse_args()
    if not arguments.name:
        for name, benchmark in BENCHMARKS.items():
            print(f"{name:15}{benchmark.__doc__}")
    quiet_libraries()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    for name in arguments.name:
        if name not in BENCHMARKS:
            parser.error(f"there is no benchmark '{name}'; choices: {', '.join(BENCHMARKS)}")
    for name in arguments.name:
        try:
            header, rows = BENCHMARKS[name]()
        except UserError as error:
            sys.exit(f"error: {error}")
        table = RichTable(*header, title=name)
        for row in rows:
            table.add_row(*row)
        Console(width=140).print(table)
        if arguments.write:
            write_page(name, header, rows)


if __name__ == "__main__":
    main()
