"""Models of sequences from the command line: training, many processes, pretrained parts, comparison."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from src.runs import load_model, read_run
from tests.e2e.conftest import Shell

pytestmark = pytest.mark.slow
FEW = ["data.characters.train=16", "data.characters.val=4", "data.characters.test=5"]
SHORT = ["trainer.max_epochs=3", "data.batch_size=16", "logger=none", "importance_samples=2"]
WITHOUT_NOISE = [
    "model=hybrid",
    "model/posterior=delta",
    "model/prior=none",
    "model/metric=none",
    "model/objective=reconstruction",
    "callbacks.kl_warmup=null",
    "model.objective.terms.loop=0",
]
METRIC = [
    "callbacks.metric.first_epoch=1",
    "callbacks.metric.every_n_epochs=1",
    "model.metric.centroids=8",
]


@pytest.fixture(scope="module")
def flow_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Riemannian flow VAE, trained for three epochs with all figures."""
    shell = Shell(tmp_path_factory.mktemp("flow"))
    level = "callbacks.figures.level=full"
    run = shell.train("model=riemannian_flow", *FEW, *SHORT, *METRIC, level)
    shell.close()
    return run


def test_the_model_picks_its_data_and_records_what_sequences_are_about(flow_run: Path) -> None:
    run = read_run(flow_run)
    assert run.state == "finished"
    assert "cyclic_sprites" in (flow_run / "config.yaml").read_text()
    found = run.results["metrics"]
    for name in (
        "nll",
        "cyclicity_error",
        "latent_cyclicity_error",
        "loop",
        "interpolation_mse_linear",
        "interpolation_mse_geodesic",
        "off_data_mse_geodesic",
        "sample_frechet",
        "coverage_mse",
        "mig",
        "factor_accuracy",
        "metric_log10_condition",
    ):
        assert isinstance(found[f"test/{name}"]["value"], float), name  # NaN is written as null
    assert found["test/cyclicity_error"]["value"] > 0
    assert found["test/cyclicity_error"]["baselines"]["the data"] == 0
    assert found["test/interpolation_mse_linear"]["baselines"]["neighbour mean"] > 0
    # Loaded again, the model has the metric that it was tested with.
    model = load_model(flow_run)
    assert model.latent.metric.is_fitted and float(model.latent.prior.log_z) != 0


def test_no_logged_scalar_is_a_constant(flow_run: Path) -> None:
    rows = [row["metrics"] for row in read_run(flow_run).metrics()]
    for name in (
        "val/cyclicity_error",
        "val/metric_log10_condition",
        "val/metric_half_logdet_inverse",
    ):
        values = [row[name] for row in rows if name in row]
        assert len(values) == 3 and len(set(values)) == 3, name


def test_all_figures_of_the_level_are_there(flow_run: Path) -> None:
    names = {path.name for path in (flow_run / "figures").iterdir()}
    assert {
        "reconstructions.png",
        "samples.png",
        "cyclicity.png",
        "trajectories.png",
        "jacobians.png",
        "magnification.png",
        "geodesics.png",
        "metric_eigenvalues.png",
        "metric_over_time.png",
        "logdet_over_time.png",
        "interpolations.png",
        "sequences.html",
        "latent_trajectories.html",
        "metric_slider.html",
        "plotly.min.js",
    } <= names


def test_parts_are_exported_and_another_training_starts_from_them(
    flow_run: Path, shell: Shell
) -> None:
    printed = shell(f"run={flow_run}", "format=parts", script="scripts/export.py")
    export = flow_run / "export"
    assert all(
        str(export / f"{part}.safetensors") in printed for part in ("encoder", "decoder", "metric")
    )
    start = [
        f"model.pretrained.encoder={export / 'encoder.safetensors'}",
        f"model.pretrained.decoder={flow_run}",
        f"model.pretrained.metric={export / 'metric.safetensors'}",
        "callbacks.metric=null",
        "trainer.max_epochs=1",
        "model.optimizer.lr=0",
    ]
    run = shell.train(
        "model=hybrid", *FEW, *SHORT, "model.metric.centroids=8", *start, name="second"
    )
    before = load_file(flow_run / "model" / "model.safetensors")
    after = load_file(run / "model" / "model.safetensors")
    shared = [
        name
        for name in after
        if name.startswith(
            ("latent.encoder", "latent.decoder", "latent.posterior", "latent.metric")
        )
    ]
    assert len(shared) > 10
    for name in shared:
        assert torch.equal(before[name], after[name]), name
    # The portable model does not ask for the files it once started from.
    assert "pretrained" not in (run / "model" / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.pretrained.encoder=nowhere", "there is no such file"),
        ("model.pretrained.metric=setup.cfg", "neither .safetensors nor .pt"),
        ("+model.pretrained.encodr=x", "encoder"),
    ],
)
def test_a_part_that_is_not_there_is_refused(shell: Shell, setting: str, message: str) -> None:
    printed = shell("model=hybrid", *FEW, *SHORT, setting, status=1)
    assert "error: " in printed and message in printed and "Traceback" not in printed


def test_sequences_are_refused_where_pictures_are_given(shell: Shell) -> None:
    printed = shell("model=riemannian_flow", "data=digits", status=1)
    assert "takes sequence data, not 'image'" in printed and "cyclic_sprites" in printed


@pytest.mark.parametrize("name", ["hvae", "rhvae"])
def test_a_hamiltonian_model_is_tested_and_evaluated_again(shell: Shell, name: str) -> None:
    run = shell.train(f"model={name}", "trainer.max_epochs=1", "logger=none", "callbacks=default")
    before = read_run(run).results["metrics"]
    shell(f"run={run}", "importance_samples=4", script="scripts/evaluate.py")
    after = read_run(run).results["metrics"]
    assert before["test/mse"]["value"] == pytest.approx(after["test/mse"]["value"], rel=1e-5)
    assert before["test/nll"]["value"] == pytest.approx(after["test/nll"]["value"], rel=1e-3)


def test_a_sequence_model_without_a_prior_is_tested(shell: Shell) -> None:
    run = shell.train(*WITHOUT_NOISE, *FEW, *SHORT, "trainer.max_epochs=1")
    found = read_run(run).results["metrics"]
    assert "test/nll" not in found and "test/interpolation_mse_linear" in found


def test_a_resumed_riemannian_training_is_bit_equal(shell: Shell) -> None:
    common = ["model=riemannian_flow", *FEW, *SHORT, *METRIC, "callbacks=minimal", "test=false"]
    common += ["callbacks.metric.until=1", "model/scheduler=none"]
    whole = shell.train(*common, "trainer.max_epochs=4", name="whole")
    half = shell.train(*common, "trainer.max_epochs=2", name="half")
    shell(f"ckpt_path={half}/checkpoints/last.ckpt", "trainer.max_epochs=4")
    one, other = (
        torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for run in (whole, half)
    )
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def losses(run: Path) -> list[float]:
    rows = [row["metrics"] for row in read_run(run).metrics()]
    return [row["val/loss"] for row in rows if "val/loss" in row]


def test_two_processes_learn_what_one_does_with_the_same_global_batch(shell: Shell) -> None:
    common = [*FEW, *SHORT, "callbacks=minimal", "test=false"]
    one = shell.train(*WITHOUT_NOISE, *common, "data.batch_size=16", name="one")
    two = shell.train(*WITHOUT_NOISE, *common, "data.batch_size=8", "trainer=ddp", name="two")
    # Nothing but the order of summation differs.
    assert losses(two) == pytest.approx(losses(one), rel=1e-4)


def test_two_processes_train_the_riemannian_model_as_well_as_one(shell: Shell) -> None:
    common = ["model=riemannian_flow", *FEW, *SHORT, *METRIC, "callbacks=minimal", "test=false"]
    one = losses(shell.train(*common, "data.batch_size=16", name="one"))
    two = losses(shell.train(*common, "data.batch_size=8", "trainer=ddp", name="two"))
    # The processes draw other noise: after three epochs within 3 % of what the loss has fallen by.
    assert abs(two[-1] - one[-1]) < 0.03 * (one[0] - one[-1])


def test_runs_are_compared_over_their_seeds(shell: Shell) -> None:
    sweep = shell.folder / "sweep"
    small = ["model.encoder.out_features=16", "model.decoder.width=16", "model.latent_dim=4"]
    shell(
        "-m",
        "experiment=riemannian_study",  # here of fewer models and seeds
        "hydra.sweeper.params.model='vanilla_sequence,hybrid'",
        "hydra.sweeper.params.seed='0,1'",
        f"hydra.sweep.dir={sweep}",
        "callbacks=minimal",
        "trainer.max_epochs=1",
        "+data.characters={train:16,val:4,test:5}",
        *[s for s in SHORT[1:] if not s.startswith("logger")],
        *small,
        timeout=280,
    )
    output = shell.folder / "comparison"
    shell(f"runs={sweep}", f"output={output}", script="scripts/compare.py")
    table = (output / "table.md").read_text()
    assert "hybrid (n=2)" in table and "vanilla_sequence (n=2)" in table and " ± " in table
    values = [
        json.loads((sweep / str(job) / "results.json").read_text())["metrics"]["test/mse"]["value"]
        for job in (0, 1)
    ]
    row = next(line for line in table.splitlines() if line.startswith("| `mse`"))
    assert f"{sum(values) / 2:.3g}"[:5] in row
    assert (output / "reconstructions.png").exists() and (output / "samples.png").exists()
    printed = shell("runs=docs", script="scripts/compare.py", status=1)
    assert "no finished run" in printed
