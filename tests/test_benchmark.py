"""The benchmarks run and measure; what they measure is never asserted."""

import math
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("one_process", [False, True])
def test_a_tiny_training_is_timed_on_both_sides(one_process: bool) -> None:
    code = (
        "import sys; sys.path.insert(0, 'scripts'); import benchmark as b\n"
        "w = b.Workload('tiny', (), (1, 8, 8), 8, steps=20, chunk=5, chunks=6, target=0.9)\n"
        f"t = b.time_training(w, {one_process})\n"
        "print(t.ratio, len(t.ours), len(t.bare), len(t.row()) == len(b.HEADER))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    ratio, ours, bare, fits = done.stdout.split()
    assert math.isfinite(float(ratio)) and float(ratio) > 0
    assert int(ours) == int(bare) == 6 and fits == "True"


def test_without_a_name_the_benchmarks_are_listed() -> None:
    command = [sys.executable, "scripts/benchmark.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        "training",
        "one_process",
        "configuration",
    ]
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    for name in ("training", "one_process", "configuration"):
        assert page.count(f"<!-- {name} -->") == page.count(f"<!-- /{name} -->") == 1
