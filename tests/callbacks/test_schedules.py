"""Schedules of a weight and of a temperature at known points, and in a real training."""

from math import cos, pi
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from src.callbacks.schedules import AnnealTemperature, ScheduleWeight
from src.utils.build import build, build_each
from src.utils.errors import UserError


@pytest.mark.parametrize(
    ("shape", "points"),
    [
        ("linear", {0: 0, 1: 0.25, 2: 0.5, 3: 0.75, 4: 1, 5: 1, 400: 1}),
        ("cosine", {0: 0, 1: (1 - cos(pi / 4)) / 2, 2: 0.5, 3: (1 + cos(pi / 4)) / 2, 4: 1, 9: 1}),
        ("cyclical", {0: 0, 0.5: 0.25, 1: 0.5, 2: 1, 3: 1, 3.99: 1, 4: 0, 5: 0.5, 6: 1, 41: 0.5}),
    ],
)
def test_known_points(shape, points):
    schedule = ScheduleWeight(duration=4, shape=shape)
    assert {at: schedule.fraction(at) for at in points} == pytest.approx(points)


def test_the_shapes_rise_and_the_cycles_repeat():
    grid = [number / 10 for number in range(200)]
    for shape in ("linear", "cosine"):
        values = [ScheduleWeight(duration=7, shape=shape).fraction(at) for at in grid]
        assert values == sorted(values)
    cyclical = ScheduleWeight(duration=7, shape="cyclical")
    assert [cyclical.fraction(at) for at in grid] == pytest.approx(
        [cyclical.fraction(at + 7) for at in grid], abs=1e-9
    )


@pytest.mark.parametrize("shape", ["linear", "cosine", "cyclical"])
def test_no_duration_leaves_the_weight_alone(tiny_vae, shape):
    schedule, model = ScheduleWeight(duration=0, shape=shape), tiny_vae("model.objective.beta=3")
    assert schedule.fraction(0) == schedule.fraction(100) == 1
    schedule.on_train_batch_start(SimpleNamespace(global_step=0), model, None, 0)
    assert model.objective.weight("kl") == 3


@pytest.mark.parametrize(
    ("unit", "accumulate", "step", "fraction"),
    [("step", 1, 3, 0.75), ("step", 5, 3, 0.75), ("epoch", 1, 20, 0.5), ("epoch", 5, 4, 0.5)],
)
def test_steps_and_epochs_are_those_of_the_optimiser(tiny_vae, unit, accumulate, step, fraction):
    model, schedule = tiny_vae("model.objective.beta=2"), ScheduleWeight(duration=4, unit=unit)
    trainer = SimpleNamespace(
        global_step=step, num_training_batches=10, accumulate_grad_batches=accumulate
    )
    schedule.on_train_batch_start(trainer, model, None, 0)
    assert model.objective.weight("kl") == pytest.approx(2 * fraction)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shape": "linera"}, "not 'linera' in 'epochs'"),
        ({"unit": "batch"}, "not 'linear' in 'batchs'"),
        ({"duration": -1}, "'kl' is -1; it cannot be negative"),
    ],
)
def test_impossible_schedules_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        ScheduleWeight(**settings)


class Weights(Callback):
    """Notes the weight in force in every training batch and every validation."""

    def __init__(self) -> None:
        self.training, self.validation = [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.training.append(float(pl_module.objective.weight("kl")))

    def on_validation_end(self, trainer, pl_module):
        self.validation.append(float(pl_module.objective.weight("kl")))


def fit(
    compose_config, model, *callbacks: Callback, epochs: int = 2, start: str | None = None
) -> Trainer:
    data = build(compose_config("data=digits").data)
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    limits = {
        "max_epochs": epochs,
        "limit_train_batches": 4,
        "limit_val_batches": 1,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 1,
    }
    trainer = Trainer(
        accelerator="cpu",
        use_distributed_sampler=False,
        callbacks=list(callbacks),
        **quiet,
        **limits,
    )
    trainer.fit(model, datamodule=data, ckpt_path=start, weights_only=start is not None)
    return trainer


def test_a_training_is_warmed_up_and_its_validation_is_not(compose_config, tiny_vae):
    seen = Weights()
    fit(compose_config, tiny_vae("model.objective.beta=4"), ScheduleWeight(duration=1.5), seen)
    assert seen.training == pytest.approx([4 * min(step / 6, 1) for step in range(8)])
    assert seen.validation == [4, 4]


def test_a_weight_that_the_objective_lacks_is_named(compose_config, tiny_vae):
    with pytest.raises(UserError, match="ELBO has no weight 'kll' to schedule; nearest: 'kl'"):
        fit(compose_config, tiny_vae(), ScheduleWeight(weight="kll", duration=1))


def test_the_shipped_callback_schedules_the_kl(compose_config):
    schedule = build(compose_config("callbacks.kl_warmup.duration=10").callbacks.kl_warmup)
    assert torch.tensor(schedule.fraction(5)) == 0.5 and schedule.weight == "kl"


class Temperatures(Callback):
    """Notes the temperature in force in every training batch."""

    def __init__(self) -> None:
        self.seen = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen.append(float(pl_module.latent.posterior.temperature))


def test_the_temperature_falls_by_the_same_factor_in_every_step(compose_config, tiny_vae):
    noted, model = Temperatures(), tiny_vae("model=gumbel_vae")
    fit(compose_config, model, AnnealTemperature(start=2.0, end=0.5), noted)
    assert noted.seen == pytest.approx([2.0 * 0.25 ** (step / 8) for step in range(8)])
    assert float(model.latent.posterior.temperature) == noted.seen[-1]


def test_a_resumed_training_goes_on_with_the_temperature(compose_config, tiny_vae, tmp_path):
    def anneal() -> AnnealTemperature:
        return AnnealTemperature(start=1.0, end=0.2, duration=10, unit="step")

    whole, first, second = Temperatures(), Temperatures(), Temperatures()
    fit(compose_config, tiny_vae("model=gumbel_vae"), anneal(), whole, epochs=3)
    half = fit(compose_config, tiny_vae("model=gumbel_vae"), anneal(), first, epochs=1)
    half.save_checkpoint(tmp_path / "half.ckpt")
    fit(
        compose_config,
        tiny_vae("model=gumbel_vae"),
        anneal(),
        second,
        epochs=3,
        start=str(tmp_path / "half.ckpt"),
    )
    assert first.seen + second.seen == whole.seen
    assert whole.seen[-1] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"end": 0.0}, "end=0.0 and a duration=None must be positive"),
        ({"duration": 0}, "duration=0 must be positive"),
        ({"unit": "batch"}, "unit='batch' is unknown; choices: epoch, step"),
    ],
)
def test_impossible_temperatures_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        AnnealTemperature(**settings)


def test_a_temperature_needs_relaxed_samples_and_an_end(compose_config, tiny_vae):
    with pytest.raises(UserError, match="needs a posterior with relaxed samples"):
        fit(compose_config, tiny_vae(), AnnealTemperature())
    endless = SimpleNamespace(estimated_stepping_batches=float("inf"))
    with pytest.raises(UserError, match="sets no end"):
        AnnealTemperature().on_fit_start(endless, tiny_vae("model=gumbel_vae"))
    AnnealTemperature(duration=3).on_fit_start(endless, tiny_vae("model=gumbel_vae"))


def test_a_temperature_needs_relaxed_samples(tiny_vae):
    """LFQ has a temperature too, of another kind."""
    for name in ("vae", "lfq_vae"):
        with pytest.raises(UserError, match="posterior with relaxed samples"):
            AnnealTemperature(duration=3).on_fit_start(SimpleNamespace(), tiny_vae(f"model={name}"))


def test_a_weight_that_the_objective_lacks_is_named_before_anything_is_trained(tiny_vae):
    with pytest.raises(UserError, match="no weight 'kl' to schedule"):
        ScheduleWeight(duration=3).on_fit_start(SimpleNamespace(), tiny_vae("model=beta_tc_vae"))
    ScheduleWeight(duration=0).on_fit_start(SimpleNamespace(), tiny_vae("model=beta_tc_vae"))


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("disentangled_beta_vae", {"weight": "capacity", "duration": 50, "shape": "linear"}),
        ("cyclical_vae", {"weight": "kl", "duration": 25, "shape": "cyclical"}),
        ("ladder_vae", {"weight": "kl", "duration": 30, "shape": "linear"}),
        ("nvae_small", {"weight": "kl", "duration": 30, "shape": "linear"}),
        ("vae", {"weight": "kl", "duration": 0, "shape": "linear"}),
    ],
)
def test_a_variant_brings_its_warm_up_and_the_command_line_wins(compose_config, model, settings):
    chosen = [f"model={model}"]
    warmup = compose_config(*chosen).callbacks.kl_warmup
    assert {key: warmup[key] for key in settings} == settings
    assert isinstance(build(warmup), ScheduleWeight)
    assert (
        compose_config(*chosen, "callbacks.kl_warmup.duration=7").callbacks.kl_warmup.duration == 7
    )
    # No callbacks are no callbacks: what is left names no class, and nothing is built of it.
    assert build_each(compose_config(*chosen, "callbacks=none").callbacks) == []


@pytest.mark.parametrize(("model", "name"), [("gumbel_vae", "temperature")])
def test_a_variant_brings_its_schedule_with_it(compose_config, model, name):
    chosen = [f"model={model}"]
    assert name in compose_config(*chosen).callbacks and name not in compose_config().callbacks
    assert "checkpoint" in compose_config(*chosen).callbacks
    assert [*compose_config(*chosen, "callbacks=none").callbacks] == [name]
    assert compose_config(*chosen, f"callbacks.{name}=null").callbacks[name] is None
    assert compose_config(*chosen, f"callbacks.{name}.duration=7").callbacks[name].duration == 7


def test_the_capacity_rises_to_its_target(compose_config, tiny_vae):
    config = compose_config("model=disentangled_beta_vae", "callbacks.kl_warmup.duration=2")
    model, schedule = tiny_vae("model=disentangled_beta_vae"), build(config.callbacks.kl_warmup)
    trainer = SimpleNamespace(global_step=5, num_training_batches=10, accumulate_grad_batches=1)
    schedule.on_train_batch_start(trainer, model, None, 0)
    assert float(model.objective.weight("capacity")) == pytest.approx(25 / 4)
