"""Densities of the data themselves: exact, started at their fit, and models like every other."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture
from torch import Tensor

from src.datamodules.base import ArrayDataModule
from src.models.networks import StandardiseDecoder, StandardiseEncoder
from src.models.networks.background import teach
from src.models.objectives import ELBO
from src.models.priors import GaussianMixturePrior, StandardNormal
from src.models.vae import VAE
from src.utils.build import build
from src.utils.errors import UserError

SHAPE, SIZE = (3, 3), 9


def poses(n: int, seed: int) -> Tensor:
    """Correlated rotation vectors (n, 3, 3), small enough to be canonical; two clusters."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(9))
    z = torch.randn(n, SIZE, generator=generator) + 3.0 * (torch.arange(n)[:, None] % 2)
    return (0.08 * z @ mixing).view(n, *SHAPE)


class Poses(ArrayDataModule):
    def __init__(self) -> None:
        super().__init__("toy", SHAPE, "vector", "rotation")

    def load(self) -> dict[str, Any]:
        return {s: {"x": poses(600, i).numpy()} for i, s in enumerate(("train", "val", "test"))}


@pytest.fixture(scope="module")
def data() -> Poses:
    found = Poses()
    found.setup()
    return found


def density(prior: Any = None, whiten: bool = False, shape: tuple[int, ...] = SHAPE) -> VAE:
    part = {"_target_": "src.models.latents.IdentityLatent"}
    exact = {"_target_": "src.models.likelihoods.ExactLikelihood", "shape": shape}
    point = {"_target_": "src.models.posteriors.PointPosterior"}
    size = shape[0] * shape[1]
    kind = "rotation" if shape[1] == 3 else "real"
    encoder = StandardiseEncoder(shape, kind, whiten)
    return VAE(
        shape, encoder, StandardiseDecoder(size, shape), point, prior, exact, part, ELBO()
    ).eval()


def taught(data: Poses, prior: Any, whiten: bool = False) -> VAE:
    model = density(prior, whiten)
    teach(model, data, "fit")
    return model


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
@pytest.mark.parametrize("components", [1, 3])
def test_a_mixture_of_gaussians_is_scipys(components, covariance):
    prior = GaussianMixturePrior(4, components, covariance).double()
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    z = torch.randn(5, 7, 4, dtype=torch.float64)
    factors = prior.factors()
    assert (factors.triu(1) == 0).all() and (factors.diagonal(dim1=-2, dim2=-1) > 0).all()
    weights = torch.ones(1) if prior.logits is None else prior.logits.softmax(0)
    expected = sum(
        w * multivariate_normal(m, L @ L.T).pdf(z.numpy())
        for w, m, L in zip(
            weights.tolist(), prior.means.detach(), factors.detach().numpy(), strict=True
        )
    )
    torch.testing.assert_close(prior().log_prob(z).exp(), torch.as_tensor(expected))
    assert prior().sample((6,)).shape == (6, 4)


@pytest.mark.parametrize("whiten", [True, False])
def test_one_gaussian_starts_at_the_maximum_of_the_likelihood(data, whiten):
    model = taught(data, GaussianMixturePrior(SIZE), whiten)
    train, test = (data.floats(s).flatten(1).double().numpy() for s in ("train", "test"))
    best = GaussianMixture(1, reg_covar=0).fit(train)
    found = model.log_likelihood(data.floats("test"), 1)
    expected = torch.as_tensor(best.score_samples(test)).float()
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=1e-4)


def test_a_diagonal_gaussian_knows_each_number_by_itself(data):
    model = taught(data, GaussianMixturePrior(SIZE, covariance="diagonal"))
    train = data.floats("train")
    apart = torch.distributions.Normal(train.mean(0), train.std(0, unbiased=False))
    x = data.floats("test")
    torch.testing.assert_close(
        -model.energy(x), apart.log_prob(x).sum((1, 2)), atol=1e-3, rtol=1e-4
    )
    full = taught(data, GaussianMixturePrior(SIZE))
    assert full.energy(x).mean() < model.energy(x).mean() - 1


def test_a_mixture_starts_better_than_one_gaussian_where_there_are_clusters(data):
    x = data.floats("test")
    one = taught(data, GaussianMixturePrior(SIZE)).energy(x).mean()
    assert taught(data, GaussianMixturePrior(SIZE, 2)).energy(x).mean() < one - 0.5


def test_every_score_of_a_density_is_its_log_density(data):
    model = taught(data, GaussianMixturePrior(SIZE, 2))
    x = data.floats("test", 50)
    bound = model.log_likelihood(x, 1)
    for other in (
        model.log_likelihood(x, 17),
        -model.energy(x),
        -model.energy(x, mode="elbo", k=3),
        -model.energy(x, mode="iwae", k=3),
    ):
        torch.testing.assert_close(other, bound, atol=1e-4, rtol=1e-5)
    loss, terms = model.losses(x)
    torch.testing.assert_close(loss, -bound.mean())
    torch.testing.assert_close(terms["recon_nll"], model.latent.encoder.log_volume())


@pytest.mark.parametrize("whiten", [True, False])
def test_a_density_integrates_to_one_in_the_units_of_the_data(whiten):
    prior = GaussianMixturePrior(2, 2)
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model = density(prior, whiten, shape=(1, 2))
    factor = torch.tensor([[0.3, 0.0], [-0.4 if whiten else 0.0, 2.0]])
    model.latent.encoder.factor.copy_(factor)
    axis = torch.linspace(-8, 8, 801)
    grid = torch.cartesian_prod(axis * 0.4, axis * 3)[:, None]
    mass = model.log_likelihood(grid, 1).exp().sum() * (16 / 800) ** 2 * 0.4 * 3
    assert float(mass.detach()) == pytest.approx(1, abs=1e-3)


def test_nothing_is_lost_between_a_pose_and_its_code(data):
    model = taught(data, StandardNormal(SIZE), whiten=True)
    x = data.floats("test")
    torch.testing.assert_close(model.reconstruct(x), x, atol=1e-5, rtol=1e-5)
    codes = model.encode(data.floats("train")).mean
    torch.testing.assert_close(codes.T @ codes / len(codes), torch.eye(SIZE), atol=1e-2, rtol=0)
    assert model.sample(4).shape == (4, *SHAPE)
    assert model.decode(codes.view(2, -1, SIZE)).log_prob(x).shape == (2, 300)


def test_an_energy_is_that_of_the_rotation_whatever_its_vector(data):
    model = taught(data, GaussianMixturePrior(SIZE))
    x = data.floats("test", 20)
    length = x.norm(dim=-1, keepdim=True)
    turned = x * (1 - 2 * torch.pi / length)
    torch.testing.assert_close(model.energy(turned), model.energy(x), atol=2e-3, rtol=1e-4)


def test_what_was_learned_once_stays(data):
    model = taught(data, GaussianMixturePrior(SIZE, 2))
    before = deepcopy(model.state_dict())
    other = Poses()
    other.load = lambda: {s: {"x": 2 * poses(600, 7).numpy()} for s in ("train", "val", "test")}
    other.setup()
    teach(model, other, "fit")
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_numbers_that_never_change_are_no_trouble():
    data = Poses()
    still = poses(300, 0)
    still[:, 1] = 0.2
    data.load = lambda: {s: {"x": still.numpy()} for s in ("train", "val", "test")}
    data.setup()
    for whiten in (True, False):
        model = taught(data, GaussianMixturePrior(SIZE), whiten)
        assert torch.isfinite(model.energy(still)).all()
        torch.testing.assert_close(model.reconstruct(still), still, atol=1e-5, rtol=0)


def test_bf16_autocast_changes_no_density(data):
    for whiten in (True, False):
        model = taught(data, GaussianMixturePrior(SIZE, 2), whiten)
        x = data.floats("test", 50)
        exact = model.energy(x)
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(model.energy(x), exact, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize(
    "override",
    [
        "model/encoder=mlp",
        "model/decoder=mlp",
        "model/posterior=diagonal_gaussian",
        "model/likelihood=gaussian",
        "model/latent=flat",
        "model/objective=iwae",
        "model/metric=fitted",
    ],
)
def test_the_parts_of_a_density_go_together(compose_config, override):
    config = compose_config("model=gaussian_pose", override)
    with pytest.raises(UserError, match="one density of x itself.*choose model=gaussian_pose"):
        build(config.model)


def test_a_code_of_another_size_is_refused(compose_config):
    with pytest.raises(UserError, match=r"model.latent_dim=24: the code.*of 90 numbers"):
        build(compose_config("model=gaussian_pose", "model.latent_dim=24").model)
    with pytest.raises(UserError, match="covariance='ful' is unknown; nearest: 'full'"):
        GaussianMixturePrior(3, covariance="ful")  # type: ignore[arg-type]
