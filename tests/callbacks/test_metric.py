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


def trainer(epoch: int, fn: str = "fit", data: object = None, max_epochs: int = 20):
    strategy = SimpleNamespace(broadcast=lambda value: value)
    return SimpleNamespace(
        state=SimpleNamespace(fn=fn),
        current_epoch=epoch,
        max_epochs=max_epochs,
        is_global_zero=True,
        datamodule=data,
        strategy=strategy,
    )


def test_the_schedule_of_a_fitted_metric(tiny_vae):
    model = tiny_vae("model=hybrid", SHAPE)
    callback = RefreshMetric(first_epoch=3, every_n_epochs=4, until=0.6)
    due = [epoch + 1 for epoch in range(20) if callback._due(trainer(epoch), model.latent)]
    assert due == [3, 7, 11]


def test_a_short_training_gets_its_metric_once(tiny_vae):
    model = tiny_vae("model=hybrid", SHAPE)
    callback = RefreshMetric(first_epoch=3, every_n_epochs=2, until=0.5)
    due = [e + 1 for e in range(5) if callback._due(trainer(e, max_epochs=5), model.latent)]
    assert due == [3]


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
        assert not torch.equal(kept, model.latent.metric.kept_centroids) or epoch > 0
    assert model.latent.metric.kept_matrices.abs().sum() > 0
    assert float(model.latent.metric.kept_regularization) == pytest.approx(0.01)


@pytest.mark.parametrize("setting", ["first_epoch", "every_n_epochs"])
def test_an_impossible_schedule_is_refused(setting):
    with pytest.raises(UserError, match=setting):
        RefreshMetric(**{setting: 0})
