"""How implausible data are to a model: minus a bound on log p(x), and what the training data make of that number."""

from collections.abc import Iterator, Mapping
from math import isfinite, prod
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from src.models.distributions import divergence_at_mean
from src.models.draw import Draw
from src.models.objectives.elbo import kl
from src.utils.errors import UserError, nearest

if TYPE_CHECKING:
    from src.models.vae import VAE

Mode = Literal["mean", "elbo", "iwae"]
# Numbers decoded at once for an importance-weighted bound: larger blocks are faulted in anew every time.
LARGEST_SLICE = 2**22
# Below which share of the training data an energy lies, in %: fine where thresholds are set.
PERCENTS = (
    *(i / 100 for i in range(0, 10, 2)),
    *(i / 10 for i in range(1, 10)),
    *(float(i) for i in range(1, 99)),
    *(i / 10 for i in range(981, 1000)),
    *(i / 100 for i in range(9992, 10001, 2)),
)


def energy(
    model: "VAE",
    x: Tensor,
    mode: Mode = "mean",
    k: int = 1,
    c: Tensor | None = None,
    beta: float = 1.0,
) -> Tensor:
    """The energy of every x (B, *shape), (B,) nats: lower is more plausible. It has a gradient with respect to x.

    ``mean`` is −log p(x | z) + β KL(q(z | x) ‖ p(z)) at the posterior's mean, without any noise. ``elbo`` takes the
    mean of −log p(x | z) over k samples of z. ``iwae`` is minus the importance-weighted bound of k samples (Burda et
    al. 2016, arXiv:1509.00519), the tightest. The noise of both is torch's: seed it for the same numbers.

    Args:
        mode, k: see above.
        c: the condition, (B,), of a model that takes one.
        beta: weight of the KL; ``iwae`` has none to weigh.

    Raises:
        NotImplementedError: the model has no density, such as a deterministic autoencoder.
        UserError: an unknown mode, or no samples.
    """
    check_setting(mode, k)
    if mode == "iwae":
        if beta != 1:
            raise UserError(
                f"energy mode 'iwae' has no KL for beta={beta} to weigh; use mean or elbo"
            )
        return -importance_bound(model, x, k, c)
    if mode == "elbo":
        distortion, rate = _sampled_terms(model, x, k, c)
    else:
        px, rate = _at_mean(model, x, c)
        distortion = -px.log_prob(x)
    return distortion + beta * rate


def check_setting(mode: str, k: int, reject_above: float = 99.0) -> None:
    """Refuse an energy, or a threshold of it, that there is not.

    Raises:
        UserError: an unknown mode, no samples, or no percentile.
    """
    if mode not in get_args(Mode):
        raise UserError(f"energy mode '{mode}' is unknown{nearest(mode, get_args(Mode))}")
    if k < 1:
        raise UserError(f"k={k}: an estimate takes at least 1 sample")
    if not 0 < reject_above <= 100:
        raise UserError(f"reject_above={reject_above} is a percentile, in (0, 100]")


def _at_mean(model: "VAE", x: Tensor, c: Tensor | None) -> tuple[Distribution, Tensor]:
    """p(x | z) at the posterior's mean, and KL(q ‖ p)."""
    q, p = model.encode(x, c), model.prior(c)
    return model.decode(q.mean, c), divergence_at_mean(q, p)


def _sampled_terms(model: "VAE", x: Tensor, k: int, c: Tensor | None) -> tuple[Tensor, Tensor]:
    model.prior(c)  # says so where there is none
    shares = [
        torch.stack([-draw.log_px.mean(0), kl(draw)]) * (len(draw.z) / k)
        for draw in _draws(model, x, k, c)
    ]
    distortion, rate = torch.stack(shares).sum(0)
    return distortion, rate


def _draws(model: "VAE", x: Tensor, k: int, c: Tensor | None) -> Iterator[Draw]:
    """Draws of k samples together, in slices that bound the memory."""
    check_setting("iwae", k)
    size = min(8, max(1, LARGEST_SLICE // x.numel()))
    for done in range(0, k, size):
        yield model.latent.infer(x, model._known(c), k=min(size, k - done))


def importance_bound(model: "VAE", x: Tensor, k: int, c: Tensor | None = None) -> Tensor:
    """log 1/k Σ p(x, z)/q(z | x), (B,) nats (Burda et al. 2016, arXiv:1509.00519)."""
    if model.latent.likelihood.pseudo:
        raise NotImplementedError(
            "this likelihood is a score and no probability of x: there is nothing to bound"
        )
    if model.latent.exact:
        k = 1  # every sample says the same
    weights = [draw.log_px + draw.log_pz - draw.log_qz for draw in _draws(model, x, k, c)]
    return torch.cat(weights).logsumexp(0) - torch.tensor(float(k)).log()


def energy_terms(model: "VAE", x: Tensor, c: Tensor | None = None) -> dict[str, Tensor]:
    """What the energy at the posterior's mean is made of, in nats: see ``split_energy``."""
    return split_energy(x, *_at_mean(model, x, c))


def split_energy(x: Tensor, px: Distribution, rate: Tensor) -> dict[str, Tensor]:
    """The terms of an energy whose p(x | z) and KL (B,) are known already, in nats.

    Returns:
        ``recon_nll`` and ``kl``, each (B,); where the likelihood has one term a joint, also ``joints`` (B, J), which
        add up to ``recon_nll``, and ``hands`` (B, 2), their sums over the first and the second half of the joints.
    """
    per_joint: Any = getattr(px, "joint_log_prob", None)
    if per_joint is None:
        return {"recon_nll": -px.log_prob(x), "kl": rate}
    joints = -per_joint(x)
    hands = joints.unflatten(-1, (2, -1)).sum(-1)
    return {"recon_nll": joints.sum(-1), "kl": rate, "joints": joints, "hands": hands}


def calibrate(
    energies: Tensor, joints: Tensor | None = None, reject_above: float = 99.0
) -> dict[str, Any]:
    """What the energies of the training data say about others, as plain values.

    Args:
        energies: (N,) nats.
        joints: (N, J) nats, where there is a term a joint.
        reject_above: the percentile that the threshold is, in %.

    Raises:
        UserError: there is no finite energy among them, or no such percentile.
    """
    check_setting("mean", 1, reject_above)
    kept = energies.isfinite()
    found = energies[kept].double()
    if len(found) < 2:
        raise UserError("an energy is calibrated on at least 2 finite energies of training data")
    wanted = torch.tensor([*PERCENTS, reject_above], dtype=torch.float64, device=found.device)
    *values, threshold = torch.quantile(found, wanted / 100).tolist()
    content = {
        "count": len(found),
        "not_finite": int((~kept).sum()),
        "mean": float(found.mean()),
        "std": float(found.std()),
        "percents": list(PERCENTS),
        "percentiles": values,
        "reject_above": reject_above,
        "threshold": threshold,
    }
    if joints is not None:
        rows = joints[kept].double()
        content |= {"joint_mean": rows.mean(0).tolist(), "joint_std": rows.std(0).tolist()}
    return content


class Energy(nn.Module):
    """The energy of a trained model, with what its training data make of it; ``src.runs.load_energy`` opens one.

    Data are raw: of hand poses, radians, (B, 30, 3) or (B, 90), on any device and in any precision. Results are on the
    model's, in its own.

    Args:
        model: the model.
        calibration: ``mode`` and ``k`` of the energy, and what ``calibrate`` returns.
    """

    percents: Tensor
    percentiles: Tensor

    def __init__(self, model: nn.Module, calibration: Mapping[str, Any]) -> None:
        super().__init__()
        _check(calibration)
        self.model: Any = model
        self.calibration = dict(calibration)
        self.mode, self.k = calibration["mode"], calibration["k"]
        for name in ("percents", "percentiles"):
            self.register_buffer(name, torch.tensor(calibration[name], dtype=torch.float64))

    @property
    def threshold(self) -> float:
        """The energy above which ``rejects`` is true, in nats."""
        return float(self.calibration["threshold"])

    def forward(self, poses: Tensor) -> Tensor:
        """(B,) nats, differentiable; NaN for a pose that has NaN in it."""
        return energy(self.model, self._as_batch(poses), self.mode, self.k)

    def z_score(self, poses: Tensor) -> Tensor:
        """How many standard deviations above the training data's mean energy, (B,); differentiable."""
        return (self(poses) - self.calibration["mean"]) / self.calibration["std"]

    def percentile(self, poses: Tensor) -> Tensor:
        """The share of the training data with a lower energy, (B,) in % from 0 to 100; NaN stays NaN."""
        return self.percentile_of(self(poses))

    def percentile_of(self, energies: Tensor) -> Tensor:
        """``percentile`` of energies (…,) that are known already."""
        value = energies.double()
        above = torch.searchsorted(self.percentiles, value.contiguous())
        above = above.clamp(1, len(self.percents) - 1)
        low, high = self.percentiles[above - 1], self.percentiles[above]
        part = ((value - low) / (high - low).clamp_min(torch.finfo(low.dtype).tiny)).clamp(0, 1)
        share = torch.lerp(self.percents[above - 1], self.percents[above], part)
        return share.to(energies.dtype)

    def rejects(self, poses: Tensor) -> Tensor:
        """Whether the energy is above the threshold, (B,) bool; also where it is not a number."""
        return ~(self(poses) <= self.threshold)

    def rank(self, hypotheses: Tensor) -> Tensor:
        """Hypotheses from the most to the least plausible: indices (H,) of (H, 30, 3), or (B, H) of (B, H, 30, 3).

        Those of equal energy keep their order; one that has NaN in it comes last.
        """
        x, batch = self._as_data(hypotheses)
        if len(batch) not in (1, 2):
            raise UserError(self._expected(hypotheses))
        with torch.no_grad():
            energies = energy(self.model, x, self.mode, self.k).view(batch)
        return energies.nan_to_num(float("inf"), float("inf")).argsort(dim=-1, stable=True)

    def per_joint(self, poses: Tensor) -> Tensor:
        """The reconstruction term of every joint at the posterior's mean, (B, J) nats.

        Raises:
            UserError: the model's likelihood has no term a joint.
        """
        found = energy_terms(self.model, self._as_batch(poses))
        if "joints" not in found:
            raise UserError(
                f"model {self.model.name} has no terms a joint: its likelihood is of the whole pose"
            )
        return found["joints"]

    def joint_z_scores(self, poses: Tensor) -> Tensor:
        """``per_joint`` in standard deviations above the training data's mean of that joint, (B, J)."""
        terms = self.per_joint(poses)
        mean, std = (
            terms.new_tensor(self.calibration[f"joint_{name}"]) for name in ("mean", "std")
        )
        return (terms - mean) / std

    def _as_batch(self, poses: Tensor) -> Tensor:
        """(B, *shape) as the model wants them, of what has one batch axis."""
        x, batch = self._as_data(poses)
        if len(batch) != 1:
            raise UserError(self._expected(poses))
        return x

    def _as_data(self, poses: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """(N, *shape) in the model's precision and on its device, and the batch axes that make up N."""
        shape = tuple(self.model.shape)
        flat = (prod(shape),)
        event = next((e for e in (shape, flat) if tuple(poses.shape[-len(e) :]) == e), None)
        if event is None or not poses.is_floating_point():
            raise UserError(self._expected(poses))
        batch = tuple(poses.shape[: -len(event)])
        own = next(self.model.parameters(), poses)
        return poses.reshape(-1, *shape).to(own.device, own.dtype), batch

    def _expected(self, poses: Tensor) -> str:
        shape = list(self.model.shape)
        return (
            f"an energy takes floats of shape [B, {', '.join(map(str, shape))}] or [B, {prod(shape)}], not "
            f"{list(poses.shape)} of {str(poses.dtype).removeprefix('torch.')}"
        )


def _check(calibration: Mapping[str, Any]) -> None:
    """Refuse a calibration that a file has lost parts of.

    Raises:
        UserError: naming what is missing or no number.
    """
    for name in ("mode", "k", "mean", "std", "threshold", "percents", "percentiles"):
        value = calibration.get(name)
        numbers = value if isinstance(value, list) else [value]
        bad = any(not isinstance(n, int | float) or not isfinite(n) for n in numbers)
        if value is None or (name != "mode" and bad):
            raise UserError(f"a calibration of an energy needs '{name}', and has {value!r}")
    if len(calibration["percents"]) != len(calibration["percentiles"]) or calibration["std"] <= 0:
        raise UserError("a calibration of an energy has a percentile for each percent and std > 0")
    check_setting(str(calibration["mode"]), calibration["k"])
