"""Objectives with a critic: who learns from which loss, and that the critic finds what there is to find."""

import pytest
import torch
from torch import nn

from src.models.objectives import VAEGAN, FactorVAE
from src.models.objectives.critics import shuffled
from src.models.objectives.frozen import frozen


def grads(module: nn.Module) -> list[torch.Tensor]:
    return [p.grad.clone() for p in module.parameters() if p.grad is not None]


@pytest.mark.parametrize("name", ["factor_vae", "aae", "vae_gan"])
def test_one_backward_pass_gives_each_side_the_gradient_of_its_own_loss(tiny_vae, name):
    model = tiny_vae(f"model={name}")
    x = torch.rand(8, 1, 8, 8)
    critic = model.objective.critic_parameters()
    others = [p for p in model.parameters() if all(p is not own for own in critic)]

    def gradients(which: str) -> list[torch.Tensor | None]:
        torch.manual_seed(1)
        draw, terms = model.step(x)
        # The critic's loss draws noise of its own: both come in the same order as in a training step.
        critic_loss = model.objective.critic_loss(draw)
        loss = {"model": terms.loss, "critic": critic_loss, "both": terms.loss + critic_loss}[which]
        return list(torch.autograd.grad(loss, [*critic, *others], allow_unused=True))

    both, alone, judged = (gradients(which) for which in ("both", "model", "critic"))
    count = len(critic)
    assert all(g is None for g in alone[:count]) and all(g is None for g in judged[count:])
    for expected, found in zip(judged[:count] + alone[count:], both, strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ["factor_vae", "aae", "vae_gan"])
def test_a_batch_of_one_teaches_without_failing(tiny_vae, name):
    """What is left over of an epoch may be one sample."""
    model = tiny_vae(f"model={name}")
    loss, _ = model.losses(torch.rand(1, 1, 8, 8))
    loss.backward()
    assert torch.isfinite(loss)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_a_vae_gan_keeps_the_adversarial_gradient_from_the_encoder(tiny_vae):
    model = tiny_vae("model=vae_gan", "model.objective.gamma=0.0", "model.objective.beta=0.0")
    x = torch.rand(8, 1, 8, 8)
    encoder = [*model.latent.encoder.parameters(), *model.latent.posterior.parameters()]
    decoder = [*model.latent.decoder.parameters()]

    def gradients(objective: nn.Module) -> list[torch.Tensor]:
        torch.manual_seed(1)
        return list(
            torch.autograd.grad(objective(model.latent.infer(x)).loss, [*encoder, *decoder])
        )

    def of_features() -> list[torch.Tensor]:
        torch.manual_seed(1)
        draw = model.latent.infer(x)
        judge = frozen(model.objective.critic)
        difference = judge(draw.px.mean[0])[1] - judge(x)[1].detach()
        squares = difference.square()
        loss = 0.5 * squares.sum(-1).mean() / squares.detach().mean()  # σ² is the batch's
        return list(torch.autograd.grad(loss, encoder))

    found = gradients(model.objective)
    # γ = 0: the decoder hears the critic's verdict alone, the encoder the features alone.
    for expected, gradient in zip(of_features(), found[: len(encoder)], strict=True):
        torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=1e-4)
    assert sum(float(g.abs().sum()) for g in found[len(encoder) :]) > 0


def test_shuffling_keeps_the_marginals_and_breaks_what_ties_them():
    z = torch.randn(5000, 1).repeat(1, 3)
    mixed = shuffled(z)
    torch.testing.assert_close(mixed.sort(0).values, z.sort(0).values)
    assert torch.corrcoef(mixed.T)[0, 1].abs() < 0.06 < torch.corrcoef(z.T)[0, 1]


def test_the_critic_of_factor_vae_estimates_the_total_correlation():
    class Body(nn.Module):
        """Products and squares of two codes: enough for the exact log-ratio of Gaussians."""

        out_features = 3

        def forward(self, z):
            return torch.stack([z[:, 0] * z[:, 1], z[:, 0] ** 2, z[:, 1] ** 2], 1)

    rho = 0.8
    objective = FactorVAE(Body(), {"lr": 1e-2})
    optimizer = torch.optim.Adam(objective.critic_parameters(), 2e-2)
    for _ in range(800):
        e = torch.randn(2000, 2)
        z = torch.stack([e[:, 0], rho * e[:, 0] + (1 - rho**2) ** 0.5 * e[:, 1]], 1)
        joint, other = z.chunk(2)
        loss = objective.tell_apart(joint, shuffled(other))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    exact = -0.5 * torch.log(torch.tensor(1 - rho**2))  # mutual information of two Gaussians
    assert abs(float(objective.critic(z)[0].mean()) - float(exact)) < 0.08


def test_the_critic_has_its_own_learning_rate(tiny_vae):
    model = tiny_vae("model=factor_vae", "model.objective.critic_optimizer.lr=0.007")
    first, second = model.configure_optimizers().param_groups
    assert (first["lr"], second["lr"]) == (1e-3, 0.007)
    assert len(first["params"]) + len(second["params"]) == len([*model.parameters()])
    assert isinstance(model.objective, FactorVAE) and not isinstance(model.objective, VAEGAN)
