"""Poses of which some joints are unknown or noisy, mended with a model, and what simpler priors make of them.

Poses are (B, 30, 3) rotation vectors in radians. Joints are known by a mask (30,) or (B, 30).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from src.datamodules.hand_anatomy import FINGERS, JOINTS, SIDES
from src.evaluation.poses import PoseGaussian, mean_pose
from src.models.geometry import rotations
from src.utils.errors import UserError, nearest


@dataclass(frozen=True)
class Completion:
    """What a completion has found.

    Attributes:
        poses: (B, 30, 3), every joint the model's, also those that were known.
        energies: the model's energy of them, (B,) nats.
        objective: what was minimised, (B,) nats.
    """

    poses: Tensor
    energies: Tensor
    objective: Tensor


def complete(
    model: Any,
    x: Tensor,
    known: Tensor,
    sigma: float = 0.03,
    weight: float = 1.0,
    steps: int = 150,
    restarts: int = 4,
) -> Completion:
    """The most plausible poses that fit what is known of x (B, 30, 3), found in the latent space.

    Minimises Σ θ²/2σ² over the known joints, θ being the angle between what the model decodes and what is known, plus
    ``weight`` times −log p(z), over z by L-BFGS. The starts are codes of x with its unknown joints taken from the pose
    at the prior's mean, that mean itself, and codes of x with joints of samples; of each pose the best result is kept.
    Unknown joints are not looked at.

    Args:
        model: of poses, with a prior over R^D.
        known: (30,) or (B, 30) bool.
        sigma: how far off the known joints may be, in radians.
        weight: of the prior.
        steps: iterations at most.
        restarts: how many starts.

    Raises:
        UserError: x or known is of another shape, or a number makes no sense.
        NotImplementedError: the codes lie on a manifold or a grid, where there are no such steps.
    """
    _check(model, x, known, sigma, weight, steps, restarts)
    known = known.expand(x.shape[:2]).to(x.device)
    target = rotations.exp(torch.where(known[..., None], x, 0))

    def objective(z: Tensor) -> Tensor:
        off = rotations.squared_distance(rotations.exp(model.decode(z).mean), target)
        data = (off * known).sum(-1) / (2 * sigma**2)
        return data - weight * model.prior().log_prob(z)

    with torch.no_grad():
        starts = _starts(model, x, known, restarts)
    # One after the other, so that a start that leads nowhere costs the others no line search.
    z = torch.stack([_descend(objective, start, steps) for start in starts])
    with torch.no_grad():
        values = objective(z)
        best = values.nan_to_num(torch.inf).argmin(0)
        rows = torch.arange(len(x), device=x.device)
        found = model.decode(z[best, rows]).mean
        return Completion(found, model.energy(found), values[best, rows])


def _starts(model: Any, x: Tensor, known: Tensor, restarts: int) -> Tensor:
    """(R, B, D): a code of x filled from the pose at the prior's mean, that mean, codes of x filled from samples."""
    prior, samples = model.prior(), max(0, restarts - 2) * len(x)
    centre = prior.mean.expand(len(x), -1)
    others = [model.decode(centre).mean]
    if samples:
        others.append(model.decode(prior.sample((samples,))).mean)
    others = torch.cat(others).unflatten(0, (-1, len(x)))
    codes = model.encode(torch.where(known[..., None], x, others).flatten(0, 1)).mean
    codes = codes.unflatten(0, (-1, len(x)))
    return torch.cat([codes[:1], centre[None], codes[1:]])[:restarts]


@torch.enable_grad()
def _descend(objective: Any, start: Tensor, steps: int) -> Tensor:
    """L-BFGS on z alone, all poses at once: their energies are far too ill-conditioned for gradient steps."""
    z = start.detach().clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [z], max_iter=steps, history_size=20, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        total = objective(z).sum()
        (z.grad,) = torch.autograd.grad(total, z)
        return total.detach()

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return z.detach()


def _check(
    model: Any, x: Tensor, known: Tensor, sigma: float, weight: float, steps: int, restarts: int
) -> None:
    shape = tuple(model.shape)
    if len(shape) != 2 or shape[1] != 3 or x.dim() != 3 or tuple(x.shape[1:]) != shape:
        raise UserError(
            f"poses are completed by a model of joints [J, 3]: the model's shape is {list(shape)}, the poses' "
            f"{list(x.shape)}"
        )
    if known.dtype != torch.bool or known.shape not in (x.shape[1:2], x.shape[:2]):
        raise UserError(
            f"known must be bool of shape {list(x.shape[1:2])} or {list(x.shape[:2])}, not "
            f"{list(known.shape)} of {known.dtype}"
        )
    if not bool(x[known.expand(x.shape[:2])].isfinite().all()):
        raise UserError("a known joint of a pose to complete is NaN or infinite")
    if not sigma > 0 or not weight >= 0 or steps < 1 or restarts < 1:
        raise UserError(
            f"sigma={sigma} must be positive, weight={weight} not negative, steps={steps} and restarts={restarts} at "
            "least 1"
        )
    if getattr(model.latent.posterior, "support", "euclidean") != "euclidean":
        raise NotImplementedError("poses are completed in a Euclidean latent space")


@torch.no_grad()
def residual(model: Any, x: Tensor) -> float:
    """What reconstructions of poses (B, 30, 3) leave: the root mean square of the angle about one axis, radians."""
    decoded = model.reconstruct(x.to(model.device)).cpu()
    angles = rotations.distance(rotations.exp(decoded), rotations.exp(x))
    return float((angles.square().mean() / 3).sqrt())


def baselines(train: Tensor, x: Tensor, known: Tensor, sigma: float) -> dict[str, Tensor]:
    """What needs no model, each (B, 30, 3).

    The mean pose; the mean of a full-covariance Gaussian of the pose given what is known to within ``sigma``; the
    training pose that is nearest in what is known.

    Args:
        train: (N, 30, 3).
        x, known, sigma: see ``complete``.
    """
    known = known.expand(x.shape[:2])
    return {
        "mean pose": mean_pose(train).to(x).expand_as(x),
        "Gaussian": conditional_mean(PoseGaussian.fit(train), x, known, sigma),
        "nearest training pose": nearest_poses(train, x, known),
    }


def conditional_mean(gaussian: PoseGaussian, x: Tensor, known: Tensor, sigma: float) -> Tensor:
    """E[pose | known numbers + N(0, σ²)] of a Gaussian of the 90 numbers, (B, 30, 3), in closed form."""
    covariance = (gaussian.axes * gaussian.variances) @ gaussian.axes.T
    seen = known.repeat_interleave(3, 1).double()
    # An unseen number gets a variance of its own and no covariance, and then counts for nothing.
    noise = torch.diag_embed(seen * sigma**2 + (1 - seen))
    system = seen[:, :, None] * covariance * seen[:, None] + noise
    off = seen * (x.flatten(1).double() - gaussian.mean)
    weights = torch.linalg.solve(system, off) * seen
    return (gaussian.mean + weights @ covariance).view(x.shape).to(x)


def nearest_poses(train: Tensor, x: Tensor, known: Tensor) -> Tensor:
    """Of train (N, 30, 3), those whose known joints are nearest in squared chordal distance, (B, 30, 3)."""
    rows = rotations.exp(x).flatten(2) * known[..., None]
    # The matrices of rotations are all of the same length, so that the nearest has the largest product.
    return train[(rows.flatten(1) @ rotations.exp(train).flatten(1).T).argmax(1)]


def hidden_joints(name: str, size: int, seed: int = 0) -> Tensor:
    """Which joints of ``size`` poses a named gap hides, (size, 30) bool.

    Args:
        name: none, a finger of both hands, fingertips (the last joint of every finger), left, right, or random and a
            percentage, such as random60, drawn for every pose.
        seed: of what is drawn.
    """
    number = name.removeprefix("random")
    if number != name and number.isdigit() and 0 < int(number) < 100:
        share = torch.rand(size, 30, generator=torch.Generator().manual_seed(seed))
        count = max(1, round(30 * int(number) / 100))
        return share.argsort(1).argsort(1) < count
    known = ("none", "fingertips", *SIDES, *FINGERS)
    if name not in known:
        raise UserError(f"hidden='{name}' is unknown{nearest(name, [*known, 'random60'])}")
    tips = name == "fingertips"
    mask = [
        name in (side, joint[:-1]) or (tips and joint.endswith("3"))
        for side in SIDES
        for joint in JOINTS
    ]
    return torch.tensor(mask).expand(size, -1)


def with_noise(x: Tensor, sigma: float, seed: int = 0) -> Tensor:
    """Every joint of x turned by a small rotation, N(0, σ²) radians an axis, canonical."""
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)).to(x)
    turned = rotations.exp(x) @ rotations.exp(sigma * noise)
    return rotations.log(turned) if sigma else x
