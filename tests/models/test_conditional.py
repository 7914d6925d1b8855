"""A latent whose parts are told the label: who sees it, what no label means, and what is learned of it."""

import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch.distributions import kl_divergence

from src.datamodules import DigitsDataModule
from src.models.networks import LabelEmbedding
from src.models.networks.condition import UNKNOWN
from src.models.priors import ConditionalNormal
from src.utils.build import build
from src.utils.errors import UserError


@pytest.fixture
def model(tiny_vae):
    """A conditional VAE whose prior is no longer the N(0, I) that it starts from."""
    model = tiny_vae("model=conditional_vae").eval()
    with torch.no_grad():
        for parameter in model.latent.prior.parameters():
            parameter.copy_(0.3 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("k", [1, 5])
def test_every_sample_is_decoded_with_the_label_of_its_data_point(model, k):
    x, c = torch.rand(6, *model.shape), torch.arange(6)
    draw = model.latent.infer(x, c, k)
    assert draw.z.shape == (k, 6, 4)
    assert draw.log_px.shape == draw.log_qz.shape == draw.log_pz.shape == (k, 6)
    for sample in range(k):
        for point in range(6):
            label = c[point : point + 1]
            apart = model.decode(draw.z[sample, point : point + 1], label).mean
            torch.testing.assert_close(apart[0], draw.px.mean[sample, point])
            prior = model.prior(label).log_prob(draw.z[sample, point])
            torch.testing.assert_close(prior[0], draw.log_pz[sample, point])


def test_every_part_is_told_the_label(model):
    x, z = torch.rand(1, *model.shape).expand(10, -1, -1, -1), torch.randn(1, 4).expand(10, 4)
    c = torch.arange(10)
    for found in (model.encode(x, c).mean, model.prior(c).mean, model.decode(z, c).mean):
        distances = torch.cdist(found.flatten(1), found.flatten(1)) + torch.eye(10)
        assert (distances > 1e-4).all()


def test_no_label_is_a_class_of_its_own(model):
    x, unknown = torch.rand(6, *model.shape), torch.full((6,), UNKNOWN)
    torch.testing.assert_close(model.encode(x).mean, model.encode(x, unknown).mean)
    torch.testing.assert_close(model.energy(x), model.energy(x, unknown))
    torch.testing.assert_close(model.prior().mean.expand(6, 4), model.prior(unknown).mean)
    assert (model.energy(x) != model.energy(x, torch.zeros(6, dtype=torch.long))).all()
    assert model.sample(5).shape == model.sample(5, torch.arange(5)).shape == (5, *model.shape)
    assert torch.isfinite(model.log_likelihood(x, 9)).all()
    assert torch.isfinite(model.log_likelihood(x, 9, torch.arange(6))).all()
    assert model.interpolate(x, x.flip(0), 3).shape == (3, 6, *model.shape)


def test_training_hides_labels_from_all_parts_alike_and_evaluation_none():
    condition = LabelEmbedding(4, width=2, dropout=0.3)
    labels = torch.randint(4, (100_000,))
    hidden = condition.forget(labels)
    lost = hidden == UNKNOWN
    assert float(lost.float().mean()) == pytest.approx(0.3, abs=0.01)
    assert torch.equal(hidden[~lost], labels[~lost])
    assert torch.equal(condition.eval().forget(labels), labels)


def test_a_draw_tells_which_labels_were_hidden(model):
    x, c = torch.rand(64, *model.shape), torch.randint(10, (64,))
    draw = model.train().latent.infer(x, c)
    assert (draw.c == UNKNOWN).any() and (draw.c != UNKNOWN).any()
    torch.testing.assert_close(draw.q.mean, model.encode(x, draw.c).mean)
    torch.testing.assert_close(draw.p.mean, model.prior(draw.c).mean)


def test_the_prior_starts_as_the_standard_normal_and_stays_a_density():
    prior = ConditionalNormal(1, 3).double()
    e = torch.randn(5, 3, dtype=torch.float64)
    assert (prior(e).mean == 0).all() and (prior(e).stddev == 1).all()
    with torch.no_grad():
        prior.gaussian.head.weight.copy_(0.5 * torch.randn(2, 3))
    grid = torch.linspace(-60, 60, 20_001, dtype=torch.float64)
    densities = prior(e).log_prob(grid[:, None, None]).exp()
    mass = torch.trapezoid(densities, grid, dim=0)
    torch.testing.assert_close(mass, torch.ones(5, dtype=torch.float64), atol=1e-5, rtol=0)
    assert (prior(e).mean.flatten().diff() != 0).all()


def test_the_kl_to_the_prior_of_a_class_is_the_monte_carlo_one(model):
    x, c = torch.rand(4, *model.shape), torch.arange(4)
    with torch.no_grad():
        q, p = model.encode(x, c), model.prior(c)
        z = q.sample((100_000,))
        noisy = (q.log_prob(z) - p.log_prob(z)).mean(0)
    torch.testing.assert_close(kl_divergence(q, p), noisy, atol=0.03, rtol=0.01)


def test_every_parameter_learns(tiny_vae):
    model = tiny_vae("model=conditional_vae")
    loss = model.training_step(
        {"x": torch.rand(64, *model.shape), "label": torch.randint(10, (64,))}, 0
    )
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and (parameter.grad != 0).any(), name


@pytest.fixture(scope="module")
def digits(compose_config):
    data = build(compose_config().data)
    data.setup()
    return data


def test_samples_of_a_class_look_like_it(tiny_config, digits):
    model = build(tiny_config("model=conditional_vae", "model.latent_dim=6"))
    x, label = digits.floats("train"), digits.labels("train")
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(150):
        optimizer.zero_grad()
        model.step(x, label)[1].loss.backward()
        optimizer.step()
    wanted = torch.arange(10).repeat_interleave(20)
    with torch.no_grad():
        drawn = model.eval().sample(200, wanted)
    judge = KNeighborsClassifier(5).fit(x.flatten(1).numpy(), label.numpy())
    assert (judge.predict(drawn.flatten(1).numpy()) == wanted.numpy()).mean() > 0.5


def test_labels_must_be_those_that_the_data_announces(compose_config, tiny_vae, digits):
    assert set(digits.labels("train").tolist()) == set(range(digits.classes))
    with pytest.raises(UserError, match=r"data.classes=9 asks for labels 0 to 8"):
        build(compose_config("data.classes=9").data).setup()
    unlabelled = DigitsDataModule(name="digits", shape=(1, 8, 8), kind="image")
    unlabelled.setup()
    assert unlabelled.classes is None
    with pytest.raises(UserError, match="needs data with labels"):
        tiny_vae("model=conditional_vae", "data.classes=null")


def test_bad_settings_and_a_missing_condition_are_named():
    with pytest.raises(UserError, match="dropout=2"):
        LabelEmbedding(3, dropout=2)
    with pytest.raises(UserError, match="model/latent=conditional"):
        ConditionalNormal(2, 3)()


def test_sizes_follow_the_width_of_the_condition(tiny_config):
    config = tiny_config("model=conditional_vae", "model.latent.condition.width=7")
    assert config["decoder"]["latent_dim"] == config["latent_dim"] + 7
    ladder = tiny_config("model=nvae_small", "model.latent.lower=[5,3,2]")
    assert ladder["decoder"]["latent_dim"] == ladder["latent_dim"] + 10


def test_a_label_that_no_class_has_is_refused(tiny_vae):
    model = tiny_vae("model=conditional_vae").eval()
    for label in (10, -2):
        with pytest.raises(UserError, match="one of 0 to 9, or -1"):
            model.sample(1, torch.tensor([label]))
    assert model.sample(1, torch.tensor([-1])).shape == (1, 1, 8, 8)
