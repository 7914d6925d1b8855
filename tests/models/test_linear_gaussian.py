"""A VAE whose evidence is known exactly: x = W z + b + ε with Gaussian z and ε."""

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal, kl_divergence

from src.models.likelihoods import GaussianLikelihood
from src.models.objectives import ELBO
from src.models.priors import StandardNormal
from src.models.vae import VAE

W = torch.tensor([[1.0, 0.3], [-0.4, 0.8], [0.5, 0.5]], dtype=torch.float64)
B = torch.tensor([0.2, -0.1, 0.4], dtype=torch.float64)
SIGMA = 0.5
COVARIANCE = torch.linalg.inv(torch.eye(2) + W.T @ W / SIGMA**2)  # of p(z | x)


def posterior_mean(x: Tensor) -> Tensor:
    return (x - B) @ W @ COVARIANCE / SIGMA**2


class Exact(nn.Module):
    """p(z | x) itself, a Gaussian with correlations."""

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Distribution:
        return MultivariateNormal(posterior_mean(x), COVARIANCE)


class Rough(nn.Module):
    """A factorised guess: moved and too wide, so that importance weights vary."""

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Distribution:
        return Independent(Normal(posterior_mean(x) + 0.2, 1.3 * COVARIANCE.diagonal().sqrt()), 1)


class Decoder(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return (z @ W.T + B)[:, None]


def vae(posterior: nn.Module, k: int = 1) -> VAE:
    parts = {
        "encoder": nn.Identity(),
        "decoder": Decoder(),
        "prior": StandardNormal(2),
        "objective": ELBO(num_samples=k),
    }
    likelihood = GaussianLikelihood((3,), scale="fixed", sigma=SIGMA)
    return (
        VAE(
            (3,),
            posterior=posterior,
            likelihood=likelihood,
            latent={"_target_": "src.models.latents.FlatLatent"},
            **parts,
        )
        .double()
        .eval()
    )


@pytest.fixture
def x() -> Tensor:
    return (
        torch.randn(64, 2, dtype=torch.float64) @ W.T
        + B
        + SIGMA * torch.randn(64, 3, dtype=torch.float64)
    )


def evidence(x: Tensor) -> Tensor:
    return MultivariateNormal(B, W @ W.T + SIGMA**2 * torch.eye(3)).log_prob(x)


@pytest.mark.parametrize("k", [1, 5, 20])
def test_at_the_true_posterior_every_bound_is_the_evidence(x, k):
    model = vae(Exact(), k)
    draw, terms = model.step(x)
    # Sample by sample where all three densities are of the same sample …
    exact = evidence(x).expand(k, -1)
    torch.testing.assert_close(draw.log_px + draw.log_pz - draw.log_qz, exact)
    torch.testing.assert_close(model.log_likelihood(x, k), evidence(x))
    # … and in the mean with the KL in closed form.
    many = vae(Exact(), 4000).step(x)[1].values
    gap = -(many["recon_nll"] + many["kl"]) - evidence(x)
    assert gap.abs().max() < 0.3 and gap.mean().abs() < 0.03
    assert terms.values["kl"].shape == (64,)


def test_elsewhere_the_elbo_misses_the_evidence_by_the_kl_to_the_true_posterior(x):
    x = x[:8]
    q = Rough()(x)
    gap = kl_divergence(MultivariateNormal(q.mean, torch.diag_embed(q.variance)), Exact()(x))
    terms = vae(Rough(), 100_000).step(x)[1].values
    elbo = -(terms["recon_nll"] + terms["kl"])
    assert (elbo < evidence(x)).all() and gap.min() > 0.1
    torch.testing.assert_close(elbo, evidence(x) - gap, atol=0.03, rtol=0)


def test_the_importance_weighted_bound_rises_with_k_to_the_evidence(x):
    model, many = vae(Rough()), x.repeat(20, 1)
    bounds = [float(model.log_likelihood(many, k).mean()) for k in (1, 4, 16, 128)]
    exact = float(evidence(many).mean())
    assert (
        bounds[0] < bounds[1] - 0.05
        and bounds[1] < bounds[2] - 0.01
        and bounds[2] < bounds[3]
        and bounds[0] < exact - 0.2
    )
    assert bounds[3] == pytest.approx(exact, abs=0.01)


def test_the_bound_does_not_depend_on_how_k_is_sliced(x):
    # 11 samples are drawn as 8 + 3; their weights must be averaged as one.
    model = vae(Rough())
    torch.manual_seed(1)
    log_w = torch.cat(
        [
            d.log_px + d.log_pz - d.log_qz
            for d in (model.latent.infer(x, k=8), model.latent.infer(x, k=3))
        ]
    )
    torch.manual_seed(1)
    torch.testing.assert_close(model.log_likelihood(x, 11), log_w.exp().mean(0).log())


def test_the_energy_is_the_negative_elbo_at_the_posterior_mean(x):
    q = Rough()(x)
    error = x - q.mean @ W.T - B
    nll = (
        0.5 * (error / SIGMA) ** 2
        + torch.tensor(SIGMA).log()
        + 0.5 * torch.tensor(2 * torch.pi).log()
    ).sum(-1)
    kl = (0.5 * (q.mean.square() + q.variance - 1) - q.stddev.log()).sum(-1)
    torch.testing.assert_close(vae(Rough()).energy(x), nll + kl, rtol=1e-6, atol=1e-6)
