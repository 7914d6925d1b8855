"""Schedules of a weight at known points, and in a real training."""

from math import cos, pi
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from src.callbacks.schedules import ScheduleWeight
from src.utils.build import build
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


def fit(compose_config, tiny_vae, *callbacks: Callback) -> None:
    data = build(compose_config("data=digits").data)
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    limits = {
        "max_epochs": 2,
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
    trainer.fit(tiny_vae("model.objective.beta=4"), datamodule=data)


def test_a_training_is_warmed_up_and_its_validation_is_not(compose_config, tiny_vae):
    seen = Weights()
    fit(compose_config, tiny_vae, ScheduleWeight(duration=1.5), seen)
    assert seen.training == pytest.approx([4 * min(step / 6, 1) for step in range(8)])
    assert seen.validation == [4, 4]


def test_a_weight_that_the_objective_lacks_is_named(compose_config, tiny_vae):
    with pytest.raises(UserError, match="ELBO has no weight 'kll' to schedule; nearest: 'kl'"):
        fit(compose_config, tiny_vae, ScheduleWeight(weight="kll", duration=1))


def test_the_shipped_callback_schedules_the_kl(compose_config):
    schedule = build(compose_config("callbacks.kl_warmup.duration=10").callbacks.kl_warmup)
    assert torch.tensor(schedule.fraction(5)) == 0.5 and schedule.weight == "kl"
