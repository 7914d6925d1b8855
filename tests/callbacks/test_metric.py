"""When the latent metric is refreshed, and from what."""

from types import SimpleNamespace

import pytest
import torch

from src.callbacks.metric import RefreshMetric
from src.utils.errors import UserError

SHAPE = "data.shape=[4,3,8,8]"


class Data:
    """Forty sequences, sorted: the second half is brighter."""

    eval_batch_size = 7

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.x = torch.rand(40, *shape) * torch.linspace(0.1, 1, 40).view(-1, *[1] * len(shape))
        self.seen: list[int] = []

    def spread(self, split: str, count: int) -> torch.Tensor:
        return torch.linspace(0, 39, min(40, count)).round().long()

    def rows(self, split: str, rows: torch.Tensor) -> torch.Tensor:
        assert split == "train"
        self.seen += rows.tolist()
        return self.x[rows]


def trainer(
    epoch: int, fn: str = "fit", data: object = None, max_epochs: int = 20, last: bool = True
):
    strategy = SimpleNamespace(broadcast=lambda value: value)
    return SimpleNamespace(
        state=SimpleNamespace(fn=fn),
        current_epoch=epoch,
        max_epochs=max_epochs,
        is_last_batch=last,
        is_global_zero=True,
        datamodule=data,
        strategy=strategy,
    )


def test_the_schedule_of_a_fitted_metric(tiny_vae):
    model = tiny_vae("model=hybrid", SHAPE)
    callback = RefreshMetric(first_epoch=3, every_n_epochs=4, until=0.6)
    assert refreshed(model, callback, range(20), max_epochs=20) == [3, 7, 11]


@pytest.mark.parametrize(
    ("max_epochs", "interval", "expected"),
    [
        (1, 1, [1]),
        (4, 1, [2]),
        (5, 1, [2]),
        (20, 4, [8, 12]),
        (10, 2, [6]),
        (-1, 5, [5, 10, 15, 20]),
    ],
)
def test_no_training_goes_without_its_metric(tiny_vae, max_epochs, interval, expected):
    model = tiny_vae("model=hybrid", SHAPE)
    epochs = range(interval - 1, max_epochs if max_epochs > 0 else 20, interval)
    assert refreshed(model, RefreshMetric(), epochs, max_epochs) == expected


def test_validations_within_an_epoch_refresh_once(tiny_vae):
    model = tiny_vae("model=hybrid", SHAPE)
    callback, data, made = RefreshMetric(first_epoch=2, every_n_epochs=1), Data(model.shape), []
    for epoch in range(4):
        for quarter in range(4):
            model.latent.metric.fitted.fill_(False)
            at = trainer(epoch, data=data, max_epochs=20, last=quarter == 3)
            callback.on_validation_start(at, model)
            if bool(model.latent.metric.fitted):
                made.append((epoch, quarter))
    assert made == [(1, 3), (2, 3), (3, 3)]


def test_a_resumed_schedule_goes_on(tiny_vae):
    model = tiny_vae("model=hybrid", SHAPE)
    before, after = RefreshMetric(first_epoch=1, every_n_epochs=4), RefreshMetric(1, 4)
    assert refreshed(model, before, range(3), 20) == [1]
    after.load_state_dict(before.state_dict())
    assert refreshed(model, after, range(3, 10), 20) == [5, 9]


def refreshed(model, callback, epochs, max_epochs):
    """After which epochs the metric changes, validated after each of ``epochs`` (counted from 0)."""
    data, changed = Data(model.shape), []
    for epoch in epochs:
        model.latent.metric.fitted.fill_(False)
        at = trainer(epoch, data=data, max_epochs=max_epochs)
        callback.on_validation_start(at, model)
        if bool(model.latent.metric.fitted):
            changed.append(epoch + 1)
    return changed


def test_a_metric_that_was_brought_stays(tiny_vae):
    model = tiny_vae("model=hybrid", SHAPE, "model.pretrained.metric=somewhere")
    model.latent.metric.fit(torch.randn(50, 4))
    brought = model.latent.metric.centroids.clone()
    RefreshMetric(first_epoch=1).on_validation_start(trainer(0, data=Data(model.shape)), model)
    assert torch.equal(model.latent.metric.centroids, brought)


def test_a_collapsed_posterior_leaves_the_metric_as_it_was(tiny_vae, caplog):
    model = tiny_vae("model=hybrid", SHAPE)
    data = Data(model.shape)
    data.x = torch.zeros_like(data.x)  # every code is the same
    RefreshMetric(first_epoch=1).on_validation_start(trainer(0, data=data), model)
    assert not model.latent.metric.is_fitted and "not refreshed" in caplog.text


def test_a_refresh_changes_metric_prior_and_kl_and_leaves_the_mode_alone(tiny_vae):
    model = tiny_vae("model=riemannian_flow", SHAPE, "model.metric.centroids=5")
    x = torch.rand(3, *model.shape)
    before = model.step(x)[0].q.covariance_matrix
    data = Data(model.shape)
    RefreshMetric(first_epoch=1, points=20).on_validation_start(trainer(0, data=data), model)
    assert model.training and model.latent.training
    assert model.latent.metric.is_fitted and float(model.latent.prior.log_z) != 0
    assert len(data.seen) == 20 and max(data.seen) == 39  # spread over the whole split
    assert not torch.allclose(model.step(x)[0].q.covariance_matrix, before)


def test_nothing_happens_without_a_metric_or_outside_a_fit(tiny_vae):
    callback = RefreshMetric(first_epoch=1)
    plain = tiny_vae("model=vae")
    callback.on_validation_start(trainer(0, data=None), plain)
    model = tiny_vae("model=hybrid", SHAPE)
    callback.on_validation_start(trainer(0, fn="validate", data=Data(model.shape)), model)
    assert not model.latent.metric.is_fitted


def test_a_learned_metric_is_refreshed_every_time(tiny_vae):
    model = tiny_vae("model=rhvae", "model.metric.centroids=12")
    data = Data(model.shape)
    for epoch in (0, 19):
        kept = model.latent.metric.kept_centroids.clone()
        RefreshMetric(first_epoch=5).on_validation_start(trainer(epoch, data=data), model)
        assert not torch.equal(kept, model.latent.metric.kept_centroids)
        model.latent.posterior.head.bias.data += 0.5  # as training would
    assert model.latent.metric.kept_matrices.abs().sum() > 0
    assert float(model.latent.metric.kept_regularization) == pytest.approx(0.01)


@pytest.mark.parametrize("setting", ["first_epoch", "every_n_epochs", "until"])
def test_an_impossible_schedule_is_refused(setting):
    with pytest.raises(UserError, match=setting):
        RefreshMetric(**{setting: 0})
