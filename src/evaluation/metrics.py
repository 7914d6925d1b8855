"""What a reconstruction and a latent space are worth."""

import math

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor, nn
from torchmetrics.functional.image import structural_similarity_index_measure

from src.evaluation.disentanglement import disentanglement
from src.models.likelihoods.base import PIXEL_TOLERANCE
from src.models.meters import ACTIVE_VARIANCE, psnr

# What moves differs from the background by more than this.
FOREGROUND = 0.1

# Pictures at a time: five copies of a larger batch are faulted in anew by every call, three times as slow.
SSIM_BATCH = 32


def ssim_window(shape: tuple[int, ...]) -> int:
    """The side of the SSIM window: 11 as in Wang et al. 2004, less than half the side of small pictures."""
    return min(11, (min(shape[-2:]) // 2 - 1) // 2 * 2 + 1)


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Structural similarity of pictures in [0, 1], (B, C, H, W) → (B,) (Wang et al. 2004).

    Of sequences (B, T, C, H, W) the mean over their frames.
    """
    if x.dim() == 5:
        return ssim(x.flatten(0, 1), y.flatten(0, 1)).view(x.shape[:2]).mean(1)
    pairs = zip(x.split(SSIM_BATCH), y.split(SSIM_BATCH), strict=True)
    return torch.cat([_ssim(*pair) for pair in pairs])


def _ssim(x: Tensor, y: Tensor) -> Tensor:
    value = structural_similarity_index_measure(
        x,
        y,
        gaussian_kernel=False,
        kernel_size=ssim_window(x.shape),
        data_range=1.0,
        reduction="none",
    )
    return torch.as_tensor(value).reshape(len(x))


def foreground_sums(x: Tensor, y: Tensor, background: Tensor) -> dict[str, Tensor]:
    """Squared errors of y where x differs from the background by more than 0.1, and how many elements that are.

    Args:
        x, y: (B, *shape); background: (*shape).
    """
    moving = (x - background).abs() > FOREGROUND
    return {
        "foreground_squares": ((x - y).square() * moving).sum(),
        "foreground_elements": moving.sum(),
    }


def foreground(squares: float, elements: float) -> dict[str, float]:
    """MSE and PSNR of the foreground from the sums over some pictures; nothing where none has any."""
    if not elements:
        return {}
    mse = squares / elements
    return {"foreground_mse": mse, "foreground_psnr": float(psnr(torch.tensor(mse)))}


def pictures(x: Tensor, y: Tensor, background: Tensor | None = None) -> dict[str, float]:
    """MSE, PSNR, pixel accuracy and, for pictures, SSIM of reconstructions y of x, both (N, *shape).

    With a background (*shape) those of the foreground too.
    """
    mse = (x - y).square().mean()
    found = {
        "mse": float(mse),
        "psnr": float(psnr(mse)),
        "pixel_accuracy": float(((x - y).abs() < PIXEL_TOLERANCE).float().mean()),
    }
    if background is not None:
        sums = foreground_sums(x, y, background)
        found |= foreground(float(sums["foreground_squares"]), float(sums["foreground_elements"]))
    return found | ({"ssim": float(ssim(x, y).mean())} if x.dim() in (4, 5) else {})


def knn_accuracy(
    train_z: np.ndarray, train_y: np.ndarray, test_z: np.ndarray, test_y: np.ndarray
) -> float:
    """Accuracy of the label of the nearest training code, for codes (N, D)."""
    return float(KNeighborsClassifier(n_neighbors=1).fit(train_z, train_y).score(test_z, test_y))


def mean_image(
    train: Tensor, test: Tensor, density: bool, background: Tensor | None = None
) -> dict[str, float]:
    """The baseline that always answers with the mean training picture, (N, *shape).

    Its NLL is that of a Gaussian with one variance fitted to the training data where the model's likelihood is a
    ``density``, and the cross-entropy where it is not.
    """
    mean = train.mean(0, keepdim=True)
    found = pictures(test, mean.expand_as(test), background)
    if density:
        # Where all training pictures are the same: the floor that the model's own optimal σ² has.
        variance = (train - mean).square().mean().clamp_min(1e-6)
        per_element = (
            (test - mean).square() / variance + variance.log() + math.log(2 * math.pi)
        ) / 2
    else:
        p = mean.clamp(1e-4, 1 - 1e-4)
        per_element = -(test * p.log() + (1 - test) * (1 - p).log())
    return found | {"nll": float(per_element.flatten(1).sum(1).mean())}


def fit_pca(train: Tensor, dim: int) -> PCA:
    """``dim`` principal components of rows (N, *shape), fewer where there are not so many."""
    rows = train.flatten(1).double().numpy()
    return PCA(
        n_components=min(dim, *(side - 1 for side in rows.shape)),
        svd_solver="full" if rows.shape[1] < 2000 else "randomized",
        random_state=0,
    ).fit(rows)


def leading(model: PCA, dim: int) -> PCA:
    """The ``dim`` first components of a fitted PCA as one of its own."""
    if dim >= model.n_components_:
        return model
    part = PCA(n_components=dim)
    part.mean_, part.n_components_ = model.mean_, dim
    part.components_ = model.components_[:dim]
    part.explained_variance_ = model.explained_variance_[:dim]
    smaller = min(model.n_samples_, model.n_features_in_)
    beyond = model.noise_variance_ * (smaller - model.n_components_)
    part.noise_variance_ = (model.explained_variance_[dim:].sum() + beyond) / (smaller - dim)
    return part


def pca(
    train: Tensor,
    test: Tensor,
    dim: int,
    density: bool,
    labels: tuple[Tensor, Tensor] | None = None,
    factors: tuple[Tensor, Tensor] | None = None,
    model: PCA | None = None,
    background: Tensor | None = None,
) -> dict[str, float]:
    """The baseline of a linear code of the same size, fitted to the training data.

    The NLL is the exact one of probabilistic PCA (Tipping & Bishop 1999), where it is a ``density`` that is asked for.

    Args:
        train, test: (N, *shape) in the model's units.
        dim: latent dimensions.
        density: whether the model's NLL is one of a density over x.
        labels: of train and test, for the nearest-neighbour accuracy of the codes.
        factors: of train and test, for how they lie in the codes.
        model: what ``fit_pca`` has fitted to train, where that is done already.
        background: see ``pictures``.
    """
    fit, held_out = train.flatten(1).double().numpy(), test.flatten(1).double().numpy()
    model = model or fit_pca(train, dim)
    test_z = model.transform(held_out)
    decoded = torch.from_numpy(model.inverse_transform(test_z)).to(test.dtype)
    found = pictures(test, decoded.reshape(test.shape), background)
    if density:
        found["nll"] = ppca_nll(model, fit, held_out)
    if labels or factors:
        train_z = model.transform(fit)
    if labels:
        found["knn_accuracy"] = knn_accuracy(train_z, labels[0].numpy(), test_z, labels[1].numpy())
    if factors:
        found |= disentanglement(train_z, factors[0].numpy(), test_z, factors[1].numpy())
    return found


def ppca_nll(model: PCA, fit: np.ndarray, held_out: np.ndarray) -> float:
    """Mean −log p(x) of probabilistic PCA, nats, for rows (N, d) (Tipping & Bishop 1999, equations 7 to 10).

    N(mean, W Wᵀ + σ²I) has the kept eigenvalues λ_i along the components and σ², the mean of what they leave,
    in the other d − k directions; nothing of size d × d is needed.
    """
    size = fit.shape[1]
    kept = model.explained_variance_
    rest = fit.var(0, ddof=1).sum() - kept.sum()
    noise = max(rest / max(size - len(kept), 1), 1e-6)
    kept = np.maximum(kept, noise)
    centred = held_out - model.mean_
    along = centred @ model.components_.T
    outside = np.maximum(np.square(centred).sum(1) - np.square(along).sum(1), 0)
    squares = (np.square(along) / kept).sum(1) + outside / noise
    logdet = np.log(kept).sum() + (size - len(kept)) * math.log(noise)
    return float(0.5 * (squares.mean() + logdet + size * math.log(2 * math.pi)))


def trained_parameters(model: nn.Module) -> int:
    """How many numbers the training of a model learns; a sampler is fitted later."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def collapse_warning(
    active_units: float,
    latent_dim: int,
    kl: float,
    least_active: float | None = None,
    least_kl: float = 0.1,
) -> str | None:
    """A sentence when the posterior has (nearly) become the prior, else None.

    Args:
        active_units: latent dimensions that are used.
        latent_dim: how many there are.
        kl: nats.
        least_active: units below which that is a collapse; by default a tenth of them or fewer.
        least_kl: nats below which it is.
    """
    few = active_units <= 0.1 * latent_dim if least_active is None else active_units < least_active
    if not few and kl > least_kl:
        return None
    return (
        f"posterior collapse: {active_units:.0f} of {latent_dim} latent units are active (their "
        f"posterior mean varies by more than {ACTIVE_VARIANCE}) and the KL is {kl:.3g} nats; a lower "
        "model.objective.beta, callbacks.kl_warmup.duration or model.objective.free_bits often helps"
    )
