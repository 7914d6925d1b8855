"""Objectives that add penalties to the reconstruction: closed forms, exact mixtures, and what vanishes when."""

from itertools import combinations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from src.models.distributions import Delta
from src.models.draw import Draw
from src.models.networks.spectral import normalise_spectra
from src.models.objectives import (
    MMDRegularised,
    MomentMatching,
    MutualInformationMachine,
    Regularised,
    TotalCorrelation,
)
from src.models.objectives.matching import squared_mmd
from src.models.objectives.total_correlation import aggregate_shares, cross_densities
from src.models.priors import StandardNormal
from src.utils.errors import UserError

# Product grid: every combination of the coordinates, so that the aggregate posterior is factorised.
GRID = torch.cartesian_prod(torch.tensor([-2.0, 0.0, 1.5]), torch.tensor([-1.0, 0.3, 1.0, 4.0]))
LINE = torch.linspace(-3, 3, 12)[:, None].expand(-1, 2)


def gaussian(mean: Tensor, sigma: Tensor | float = 0.3) -> Independent:
    return Independent(Normal(mean, torch.as_tensor(sigma).expand_as(mean)), 1)


def draw_of(q, k: int = 3, x: Tensor | None = None) -> Draw:
    z = q.rsample((k,))
    x = torch.ones_like(q.mean) if x is None else x
    return Draw(
        x=x, z=z, q=q, p=StandardNormal(q.event_shape[0])(), px=Independent(Normal(z, 0.5), 1)
    )


def aggregate(q: Independent) -> MixtureSameFamily:
    return MixtureSameFamily(Categorical(torch.ones(q.batch_shape)), q)


# β-TCVAE.


@pytest.mark.parametrize("num_train", [0, 12, 1000])
def test_the_three_parts_add_up_to_the_kl(num_train):
    draw, objective = (
        draw_of(gaussian(torch.randn(12, 5), torch.rand(12, 5) + 0.1)),
        TotalCorrelation(),
    )
    objective.num_train.fill_(num_train)
    values = objective(draw).values
    names = "mutual_information", "total_correlation", "dimension_kl"
    total = torch.stack([values[name] for name in names]).sum(0)
    torch.testing.assert_close(total, (draw.log_qz - draw.log_pz).mean(0), atol=1e-4, rtol=1e-4)


def test_a_batch_that_is_the_data_set_gives_the_exact_parts():
    q = gaussian(torch.randn(7, 3), torch.rand(7, 3) + 0.2)
    draw = draw_of(q)
    values = TotalCorrelation()(draw).values
    log_qz = aggregate(q).log_prob(draw.z)
    marginals = [
        aggregate(gaussian(q.mean[:, d : d + 1], q.stddev[:, d : d + 1])) for d in range(3)
    ]
    product = torch.stack([m.log_prob(draw.z[..., d, None]) for d, m in enumerate(marginals)]).sum(
        0
    )
    torch.testing.assert_close(values["mutual_information"], (draw.log_qz - log_qz).mean(0))
    torch.testing.assert_close(values["total_correlation"], (log_qz - product).mean(0))
    torch.testing.assert_close(values["dimension_kl"], (product - draw.log_pz).mean(0))


def test_the_total_correlation_of_a_factorised_aggregate_is_zero():
    values = {
        name: TotalCorrelation()(draw_of(gaussian(m))) for name, m in (("g", GRID), ("l", LINE))
    }
    assert values["g"].values["total_correlation"].abs().max() < 1e-5
    assert values["l"].means["total_correlation"] > 1


def test_the_estimate_of_the_aggregate_is_unbiased_over_the_batches():
    means, z = torch.randn(6, 2, dtype=torch.float64), torch.randn(2, dtype=torch.float64)
    exact = aggregate(gaussian(means, 0.7)).log_prob(z).exp()
    estimates = []
    for others in combinations(range(1, 6), 2):  # with the sample's own posterior, the first
        batch = gaussian(means[[0, *others]], 0.7)
        log_densities = cross_densities(batch, z.expand(1, 3, 2)).sum(-1)[0, 0]
        shares = aggregate_shares(3, torch.tensor(6.0, dtype=torch.float64))
        torch.testing.assert_close(shares.exp().sum(1), torch.ones(3, dtype=torch.float64))
        estimates.append((log_densities + shares[0]).exp().sum())
    torch.testing.assert_close(torch.stack(estimates).mean(), exact)


def test_each_part_has_its_weight():
    draw, objective = draw_of(gaussian(LINE)), TotalCorrelation(0.5, 7.0, 2.0)
    terms = objective(draw)
    parts = [terms.means[n] for n in ("mutual_information", "total_correlation", "dimension_kl")]
    expected = 0.5 * parts[0] + 7 * parts[1] + 2 * parts[2]
    loss = terms.loss
    torch.testing.assert_close(loss, terms.means["recon_nll"] + expected)
    objective.set_weight("total_correlation", 0.0)
    torch.testing.assert_close(loss - objective(draw).loss, 7 * parts[1])


def test_a_batch_of_one_is_possible():
    for objective in (TotalCorrelation(), MomentMatching(), MMDRegularised()):
        assert torch.isfinite(objective(draw_of(gaussian(torch.randn(1, 3)), k=1)).loss)


# DIP-VAE.


def test_dip_is_zero_at_an_identity_covariance():
    means = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    for total, q in (
        (False, gaussian(means, 0.9)),
        (True, gaussian(0.6 * means, 0.8)),  # 0.6² + 0.8² = 1
    ):
        values = MomentMatching(total=total)(draw_of(q)).means
        assert float(values["dip_off_diagonal"]) == 0 and abs(values["dip_diagonal"]) < 1e-6


@pytest.mark.parametrize("total", [False, True])
def test_dip_is_what_the_covariance_says(total):
    mean, sigma = torch.randn(9, 3), torch.rand(9, 3)
    terms = MomentMatching(2.0, 5.0, total)(draw_of(gaussian(mean, sigma)))
    covariance = np.cov(mean.T.numpy(), bias=True)
    off = np.square(covariance).sum() - np.square(np.diag(covariance)).sum()
    added = np.square(sigma.numpy()).mean(0) if total else 0
    diagonal = np.square(np.diag(covariance) + added - 1).sum()
    torch.testing.assert_close(terms.means["dip_off_diagonal"], torch.tensor(off).float())
    torch.testing.assert_close(terms.means["dip_diagonal"], torch.tensor(diagonal).float())
    elbo = terms.means["recon_nll"] + terms.means["kl"]
    torch.testing.assert_close(terms.loss, elbo + torch.tensor(2 * off + 5 * diagonal).float())


# InfoVAE and WAE-MMD.


@pytest.mark.parametrize("kernel", ["imq", "rbf"])
def test_mmd_is_what_the_sums_over_pairs_say(kernel):
    a, b, scales = torch.randn(3, 2), torch.randn(4, 2), (0.5, 2.0)

    def k(u: Tensor, v: Tensor) -> Tensor:
        squares = (u - v).square().sum()
        return torch.stack(
            [c / (c + squares) if kernel == "imq" else (-squares / c).exp() for c in (2.0, 8.0)]
        ).mean()

    expected = (
        sum(k(a[i], a[j]) for i in range(3) for j in range(3) if i != j) / 6
        + sum(k(b[i], b[j]) for i in range(4) for j in range(4) if i != j) / 12
        - 2 * sum(k(u, v) for u in a for v in b) / 12
    )
    torch.testing.assert_close(squared_mmd(a, b, kernel, scales), expected)


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_mmd_is_unbiased(shift):
    # E exp(−‖a − b‖²/C) for a − b ~ N(δ, 2I) in D dimensions is (1 + 4/C)^(−D/2) exp(−‖δ‖²/(C + 4)).
    dim, width = 3, 6.0
    offset = torch.full((dim,), shift)
    closed = (
        2
        * (1 + 4 / width) ** (-dim / 2)
        * (1 - float((-offset.square().sum() / (width + 4)).exp()))
    )
    found = torch.stack(
        [
            squared_mmd(torch.randn(20, dim), torch.randn(20, dim) + offset, "rbf", [1.0])
            for _ in range(3000)
        ]
    )
    error = float(found.std()) / len(found) ** 0.5
    assert abs(float(found.mean()) - closed) < 4 * error
    assert (closed > 20 * error) == (shift > 0)


def test_the_mmd_term_compares_with_the_prior_and_drops_the_kl_where_asked():
    close, far = (draw_of(Delta(shift + torch.randn(500, 2)), k=1) for shift in (0.0, 2.0))
    objective = MMDRegularised(mmd=3.0)
    assert abs(objective(close).means["mmd"]) < 0.01 and objective(far).means["mmd"] > 0.3
    terms = objective(far)
    assert set(terms.values) == {"recon_nll", "mmd"} and not objective.needs_density
    torch.testing.assert_close(terms.loss, terms.means["recon_nll"] + 3 * terms.means["mmd"])
    with_kl = MMDRegularised(beta=0.5, mmd=3.0)(draw_of(gaussian(LINE)))
    means = with_kl.means
    torch.testing.assert_close(
        with_kl.loss, means["recon_nll"] + 0.5 * means["kl"] + 3 * means["mmd"]
    )


def test_equal_points_spoil_no_gradient():
    points = torch.zeros(4, 2, requires_grad=True)
    squared_mmd(points, torch.randn(4, 2), "imq", [1.0]).backward()
    assert torch.isfinite(points.grad).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"kernel": "gauss"}, "choices: imq, rbf"), ({"scales": [1.0, 0.0]}, "positive")],
)
def test_impossible_kernels_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        MMDRegularised(**settings)


# RAE.


def test_small_codes_and_small_parameters(tiny_vae):
    model = tiny_vae(
        "model=rae_l2", "model.objective.embedding=0.3", "model.objective.decoder_l2=0.2"
    )
    draw, terms = model.step(torch.rand(5, 1, 8, 8))
    size = sum(float(p.detach().square().sum()) for p in model.latent.decoder.parameters())
    embedding = 0.5 * draw.z[0].square().sum(1)
    torch.testing.assert_close(terms.values["embedding"], embedding)
    assert float(terms.means["decoder_l2"].detach()) == pytest.approx(size)
    expected = float((terms.means["recon_nll"] + 0.3 * embedding.mean()).detach()) + 0.2 * size
    assert float(terms.loss.detach()) == pytest.approx(expected)


@pytest.mark.parametrize("network", ["mlp", "resnet"])
@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_the_gradient_penalty_is_the_squared_jacobian_in_expectation(tiny_vae, network, likelihood):
    overrides = f"model/decoder={network}", f"model/likelihood={likelihood}"
    model = tiny_vae("model=rae_gp", *overrides).eval()
    x = torch.rand(1, 1, 8, 8)
    with torch.inference_mode():  # as Lightning evaluates
        found = model.step(x.expand(4000, -1, -1, -1))[1].values["gradient_penalty"]
    z = model.encode(x).mean.detach()
    jacobian = torch.autograd.functional.jacobian(lambda z: model.decode(z).mean, z)
    error = float(found.std()) / len(found) ** 0.5
    exact = float(jacobian.square().sum())
    assert abs(float(found.mean()) - exact) < 4 * error and exact > 20 * error


def spectral_norms(network: nn.Module) -> Tensor:
    weights = []
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            weights.append(layer.weight.flatten(1))
        elif isinstance(layer, nn.ConvTranspose2d):
            weights.append(layer.weight.transpose(0, 1).flatten(1))
    return torch.stack([torch.linalg.matrix_norm(weight, 2) for weight in weights])


@pytest.mark.parametrize("network", ["mlp", "conv", "resnet"])
def test_spectral_normalisation_reaches_every_layer_and_lasts(tiny_vae, network):
    model = tiny_vae("model=rae_sn", f"model/decoder={network}")
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    x = torch.rand(16, 1, 8, 8)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        losses.append(model.step(x)[1].loss)
        losses[-1].backward()
        optimizer.step()
    norms = spectral_norms(model.latent.decoder.eval())
    # The power iteration follows the weights a step behind.
    assert len(norms) >= 3 and (norms - 1).abs().max() < 0.05
    assert losses[-1] < losses[0] - 1


def test_a_layer_that_starts_at_zero_gets_a_direction():
    network = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 3))
    nn.init.zeros_(network[1].weight)
    normalise_spectra(network)
    assert torch.isfinite(network(torch.randn(2, 4))).all()
    torch.testing.assert_close(spectral_norms(network), torch.ones(2), atol=1e-3, rtol=0)


def test_only_the_spectral_objective_touches_the_decoder(tiny_vae):
    for name, touched in (("rae_l2", False), ("rae_gp", False), ("rae_sn", True)):
        state = tiny_vae(f"model={name}").latent.decoder.state_dict()
        assert any("parametrizations" in key for key in state) == touched


def test_a_regularised_autoencoder_needs_neither_prior_nor_density():
    draw = draw_of(Delta(torch.randn(5, 2)), k=1)
    draw.p = None
    terms = Regularised(embedding=2.0)(draw)
    torch.testing.assert_close(
        terms.loss, terms.means["recon_nll"] + draw.z.square().sum(-1).mean()
    )


# A-MIM.


def test_mim_charges_for_the_entropy_that_the_elbo_rewards():
    sigma = torch.full((6, 2), 0.4, requires_grad=True)
    draw = draw_of(gaussian(torch.randn(6, 2), sigma), k=20_000)
    terms = MutualInformationMachine(20_000)(draw)
    expected = -0.5 * (draw.log_px + draw.log_pz + draw.log_qz).mean()
    torch.testing.assert_close(terms.loss, expected)
    torch.testing.assert_close(
        terms.values["kl"], (draw.log_qz - draw.log_pz).mean(0), atol=1e-4, rtol=0
    )
    # −E log q = D (½ log 2πe) + Σ log σ, whose derivative is 1/σ; a wider posterior costs.
    (gradient,) = torch.autograd.grad(terms.values["encoder_nll"].sum(), sigma)
    torch.testing.assert_close(gradient, torch.full((6, 2), 2.5), atol=1e-3, rtol=0)
