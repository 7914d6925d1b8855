"""The benchmarks run and measure; what they measure is never asserted."""

import math
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMES = [
    "training",
    "one_process",
    "configuration",
    "geometry",
    "zoo",
    "scaling",
    "trials",
    "collecting",
    "batches",
    "opening",
    "app",
]


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("one_process", [False, True])
def test_a_tiny_training_is_timed_on_both_sides(one_process: bool) -> None:
    code = (
        "import sys; sys.path.insert(0, 'scripts'); import training_benchmark as b\n"
        "w = b.Workload('tiny', (), (1, 8, 8), 8, steps=20, chunk=5, chunks=6, target=0.9)\n"
        f"t = b.time_training(w, {one_process})\n"
        "print(t.ratio, len(t.ours), len(t.bare), len(t.row()) == len(b.HEADER))"
    )
    done = run_python(code)
    assert done.returncode == 0, done.stderr[-2000:]
    ratio, ours, bare, fits = done.stdout.split()
    assert math.isfinite(float(ratio)) and float(ratio) > 0
    assert int(ours) == int(bare) == 6 and fits == "True"


def test_the_bare_loops_of_poses_compute_what_ours_do() -> None:
    code = (
        "import sys; sys.path.insert(0, 'scripts'); import training_benchmark as b, torch\n"
        "from src.models.networks.background import teach\n"
        "for model, bare in (('hand_standard', b.BarePoses), ('hand_so3', b.BareRotations)):\n"
        "    w = b.Workload('t', (f'model={model}',), (30, 3), 8, 20, 5, 6, 0.9, bare)\n"
        "    with b.composed(w) as cfg:\n"
        "        data = b.build(cfg.data); data.splits = b.synthetic(w)\n"
        "        x = data.splits['train']['x'] = data.floats('train') / 10\n"
        "        torch.manual_seed(0); loop = bare.of(cfg, data)\n"
        "        torch.manual_seed(0); latent = b.build(cfg.model).latent; teach(latent, data, 'fit')\n"
        "    own = latent.likelihood.correlation.weight; torch.nn.init.normal_(own, std=0.1)\n"
        "    loop.correlation.data.copy_(own)\n"
        "    z = torch.randn(len(x), 24); ours = -latent.decode(z).log_prob(x).mean()\n"
        "    if model == 'hand_standard': ours -= latent.likelihood.standardise.std.log().sum()\n"
        "    theirs = loop.recon_nll(loop.decoder(z), loop.made(loop.x))\n"
        "    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-2)\n"
        "    assert loop.steps(2) > 0"
    )
    done = run_python(code)
    assert done.returncode == 0, done.stderr[-2000:]


def test_without_a_name_the_benchmarks_are_listed() -> None:
    command = [sys.executable, "scripts/benchmark.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in done.stdout.splitlines()] == NAMES
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    for name in NAMES:
        assert page.count(f"<!-- {name} -->") == page.count(f"<!-- /{name} -->") == 1


def test_both_sides_of_the_geometry_compute_the_same() -> None:
    code = (
        "import sys; sys.path[:0] = ['.', 'scripts']; import geometry_benchmark as g, torch\n"
        "m, z = g.metric_of(20), g.points_of(30)\n"
        "assert torch.allclose(g.plain_inverse(m, z), m.inverse(z), atol=1e-4)\n"
        "p = g.plain_quantities(m.inverse(z), z); o = g.one_factor(m.inverse(z), z)\n"
        "assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in zip(p, o))\n"
        "own = g.PlainFittedMetric(m)()\n"
        "assert torch.allclose(own.half_logdet_inverse(z), m.half_logdet_inverse(z), atol=1e-2)\n"
        "ratio, details = g.chain_directions()\n"
        "assert ratio > 0 and details['plain_ms'] > 0 and len(g.ROWS) == 8"
    )
    done = run_python(code)
    assert done.returncode == 0, done.stderr[-2000:]


def test_without_pythae_the_zoo_says_how_to_install_it() -> None:
    code = (
        "import sys; sys.path.insert(0, 'scripts'); sys.modules['pythae'] = None; import benchmark\n"
        "sys.argv = ['benchmark.py', 'zoo']; benchmark.main()"
    )
    done = run_python(code)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "error: the zoo is compared with Pythae" in done.stderr and ".[pythae]" in done.stderr


def test_our_side_of_the_zoo_takes_steps_and_every_row_has_its_config() -> None:
    code = (
        "import sys; sys.path[:0] = ['.', 'scripts']; import zoo_benchmark as z, torch\n"
        "assert all((z.CONF / 'model' / f'{row.ours}.yaml').exists() for row in z.ROWS)\n"
        "model, x = z.our_model(next(row for row in z.ROWS if row.ours == 'vamp')), z.pictures()\n"
        "assert len(model.latent.prior.inputs) == 50\n"
        "z.CHUNK = 0.0; ours, bare = (z.Chunks(step(model), x) for step in (z.our_step, z.bare_step))\n"
        "first = ours.loss; [ours.time() for _ in range(20)]; bare.time()\n"
        "assert ours.loss < first and len(ours.spent) == 20 and bare.spent[0] > 0"
    )
    done = run_python(code)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_step_of_pythaes_own_model_is_timed_beside_ours() -> None:
    pytest.importorskip("pythae")
    code = (
        "import sys; sys.path[:0] = ['.', 'scripts']; import zoo_benchmark as z\n"
        "z.ROUNDS = 3\n"
        "rows = {row.ours: z.cells(row) for row in z.ROWS if row.ours in ('piwae', 'aae', 'rq_vae')}\n"
        "assert all(len(cells) == len(z.HEADER) for cells in rows.values())\n"
        "assert float(rows['aae'][6]) > 0 and 'not in Pythae' in rows['rq_vae'][2]"
    )
    done = run_python(code)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
def test_processes_and_trials_are_measured_from_their_runs() -> None:
    code = (
        "import sys; sys.path[:0] = ['.', 'scripts']; import jobs_benchmark as j\n"
        "j.NETWORKS = {'tiny': ((1, 8, 8), 8, ())}; j.EPOCHS = 3\n"
        "header, ((name, one, two, ratio, _),) = j.scaling(rounds=1, batches=6)\n"
        "assert abs(float(two) / float(one) - float(ratio)) < 0.02\n"
        "header, rows = j.trials(number=2, alone=1)\n"
        "assert all(float(row[1]) > 0 for row in rows[:3]) and float(rows[-1][-1]) > 0"
    )
    done = run_python(code)
    assert done.returncode == 0, done.stderr[-2000:]


def test_recordings_are_measured_against_memory_and_against_emulators() -> None:
    code = (
        "import sys; sys.path[:0] = ['.', 'scripts']\n"
        "import collecting_benchmark as c, recordings_benchmark as r\n"
        "for header, rows in (r.batches(200, 8, 2, 4), r.opening(20, 60, 3), c.collecting(2, 2, 2)):\n"
        "    assert rows and all(len(row) == len(header) for row in rows)"
    )
    done = run_python(code)
    assert done.returncode == 0, done.stderr[-2000:]
