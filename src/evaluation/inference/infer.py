"""What a trained model makes of samples: codes, reconstructions, and how plausible they are to it.

Everything here is on the CPU, without gradients and with the same noise every time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from src.evaluation.inference.fitting import Expected
from src.evaluation.opened import OpenedRun
from src.evaluation.poses import joint_errors
from src.evaluation.units import unit_of
from src.models.distributions import divergence_at_mean, factorised_kl
from src.models.energy import Energy, energy, importance_bound, split_energy
from src.models.meters import psnr
from src.runs.loading import CALIBRATION, WEIGHTS, energy_of
from src.utils.seeding import isolated_rng

# Numbers of data and samples at once, and of held-out data that an energy is compared with.
CHUNK, ROWS = 2**21, 512
COMPARED, COMPARED_ROWS = 2**23, 1000


@dataclass(frozen=True)
class Inference:
    """What a model makes of B samples.

    Attributes:
        x, y: samples and reconstructions, the likelihood's mean at the posterior's mean, (B, *shape).
        mean: of the posterior, (B, *latent shape).
        sigma: its standard deviations where it is factorised, like ``mean``, else None.
        kl: of every dimension in nats, like ``mean``; None where posterior or prior is not factorised.
        numbers: one number a sample, (B,), under the names that ``unit`` knows.
        joints: terms of the energy by joint, (B, 30) nats, of poses.
        angles: errors by joint, (B, 30) degrees, of poses.
        states: of the frames of sequences, (B, T, D).
    """

    x: Tensor
    y: Tensor
    mean: Tensor
    sigma: Tensor | None
    kl: Tensor | None
    numbers: dict[str, Tensor]
    joints: Tensor | None = None
    angles: Tensor | None = None
    states: Tensor | None = None


def unit(name: str, pose: bool) -> str:
    """The unit of one of an inference's ``numbers``."""
    return "nats" if name == "energy" else unit_of(name, pose)


def expected(run: OpenedRun) -> Expected:
    """What files must hold to be this model's samples."""
    levels = run.config["data"].get("levels") or 256
    return Expected(tuple(run.model.shape), run.is_pose, int(levels))


def has_energy(run: OpenedRun) -> bool:
    """Whether the model has a prior and a density, so that there is an energy."""
    return bool(run.model.latent.has_bound)


@torch.no_grad()
def infer(
    run: OpenedRun, x: Tensor, c: Tensor | None = None, calibrated: Energy | None = None
) -> Inference:
    """Encode and decode samples x (B, *shape), once.

    Args:
        c: their classes (B,), −1 where unknown, of a model that takes one.
        calibrated: whose mode the energy is of; without one it is at the posterior's mean.
    """
    model = run.model
    with isolated_rng(0):
        q = model.encode(x, c)
        px = model.decode(q.mean, c)
        y, rate = px.mean, None
        numbers = _errors(x, y, run.is_pose)
        terms: dict[str, Tensor] = {}
        if has_energy(run):
            prior = model.prior(c)
            terms = split_energy(x, px, divergence_at_mean(q, prior))
            total = terms["recon_nll"] + terms["kl"]
            if calibrated is not None and calibrated.mode != "mean":
                total = energy(model, x, calibrated.mode, calibrated.k, c)
            numbers |= {"energy": total, "recon_nll": terms["recon_nll"], "kl": terms["kl"]}
            rate = _by_dimension(q, prior)
    sigma = q.stddev if isinstance(q, Independent) else None
    return Inference(
        x=x,
        y=y,
        mean=q.mean,
        sigma=sigma,
        kl=None if rate is None else rate.view(q.mean.shape),
        numbers=numbers,
        joints=terms.get("joints"),
        angles=joint_errors(x, y) if run.is_pose else None,
        states=model.latent.trajectory(q.mean) if run.is_sequence else None,
    )


def _errors(x: Tensor, y: Tensor, pose: bool) -> dict[str, Tensor]:
    mse = (x - y).square().flatten(1).mean(1)
    if pose:
        return {"mse": mse, "mpjre": joint_errors(x, y).mean(1)}
    # Pictures and sequences of them have a peak of 1.
    return {"mse": mse, "psnr": psnr(mse)} if x.dim() > 3 else {"mse": mse}


def _by_dimension(q: Distribution, p: Distribution) -> Tensor | None:
    if isinstance(q, Independent) and isinstance(p, Independent):
        return factorised_kl(q, p)
    return None


@torch.no_grad()
def nll(run: OpenedRun, x: Tensor, k: int, c: Tensor | None = None) -> Tensor:
    """−log of the k-sample importance-weighted bound, (B,) nats.

    Raises:
        NotImplementedError: the model has no density, or a likelihood that is none.
    """
    with isolated_rng(0):
        return -importance_bound(run.model, x, k, c)


@torch.no_grad()
def drawn(run: OpenedRun, seed: int, c: Tensor | None = None) -> Tensor:
    """One sample decoded from the prior, or from the sampler in its place, (1, *shape).

    Raises:
        NotImplementedError: the model has neither.
    """
    with isolated_rng(seed):
        x = run.model.sample(1, c)
    # Pictures and sequences of them, which not every likelihood keeps within [0, 1].
    return x.clamp(0, 1) if x.dim() > 3 else x


@dataclass(frozen=True)
class Yardstick:
    """Energies that others are compared with.

    Attributes:
        told: which these are, for a sentence.
        calibrated: of the run's training data, and its threshold; or
        energies: of held-out data, (N,) nats in rising order.
    """

    told: str
    calibrated: Energy | None = None
    energies: Tensor | None = None

    def percentile(self, energies: Tensor) -> Tensor:
        """The share of the energies compared with that are lower, (…,) in %; NaN stays NaN."""
        if self.calibrated is not None:
            return self.calibrated.percentile_of(energies)
        assert self.energies is not None
        below = torch.searchsorted(self.energies, energies.double().contiguous())
        share = 100.0 * below.to(energies.dtype) / len(self.energies)
        return share.masked_fill(energies.isnan(), torch.nan)

    def rejects(self, energies: Tensor) -> Tensor | None:
        """Whether energies are above the calibrated threshold, (…,) bool; None where there is none."""
        return None if self.calibrated is None else ~(energies <= self.calibrated.threshold)


def calibrated(run: OpenedRun) -> Yardstick | None:
    """The run's own calibration; None where it has none.

    Raises:
        UserError: it is damaged, or belongs to other weights.
    """
    if run.weights.name != WEIGHTS or not (run.weights.parent / CALIBRATION).exists():
        return None
    found = energy_of(run.model, run.path)
    count = found.calibration.get("count")
    told = f"{count:,}" if isinstance(count, int) else "the"
    return Yardstick(f"{told} training samples on which the run was calibrated", found)


@torch.no_grad()
def held_out(run: OpenedRun, known: bool = True) -> Yardstick:
    """The energies of held-out data, computed now.

    Args:
        known: whether a model that takes classes is told those of the data.

    Raises:
        UserError: the data are not on this machine.
    """
    count = max(2, min(COMPARED_ROWS, COMPARED // prod(run.model.shape)))
    x, labels, _ = run.held_out(count)
    c = None
    if run.classes is not None:
        c = labels if known and labels is not None else torch.full((len(x),), -1)
    pieces = slices(len(x), run.model.shape)
    found = [
        infer(run, x[rows], None if c is None else c[rows]).numbers["energy"] for rows in pieces
    ]
    energies = torch.cat(found).double()
    energies = energies[energies.isfinite()].sort().values
    classed = "" if c is None else ", with their own classes" if known else ", classes unknown"
    told = f"{len(energies):,} samples spread over the test split (computed now{classed})"
    return Yardstick(told, energies=energies)


def slices(count: int, shape: tuple[int, ...]) -> Iterator[slice]:
    """Rows that are evaluated at once, of ``count`` samples of a shape."""
    size = max(1, min(ROWS, CHUNK // prod(shape)))
    return (slice(first, min(first + size, count)) for first in range(0, count, size))


def dimensions(codes: np.ndarray | Tensor) -> list[str]:
    """What the dimensions of codes (N, *latent shape) are called, in the order of their numbers: 7, or 3,1."""
    return [",".join(map(str, index)) for index in np.ndindex(*codes.shape[1:])]
