"""The units of all metrics, in the order in which reports tell them, and which way is better."""

from collections.abc import Iterable

UNITS = {
    "loss": "nats",
    "recon_nll": "nats",
    "kl": "nats",
    "elbo": "nats",
    "nll": "nats",
    "energy_mean": "nats",
    "energy_mean_beta_0.1": "nats",
    "energy_mean_beta_0.5": "nats",
    "energy_mean_beta_1": "nats",
    "energy_mean_beta_2": "nats",
    "mse": "intensity²",
    "mse_sampled": "intensity²",
    "psnr": "dB",
    "psnr_sampled": "dB",
    "foreground_mse": "intensity²",
    "foreground_psnr": "dB",
    "ssim": "1",
    "pixel_accuracy": "fraction",
    "recon_sigma": "degrees",
    "mpjre": "degrees",
    "mpjre_median": "degrees",
    "mpjre_p95": "degrees",
    "mpjre_left": "degrees",
    "mpjre_right": "degrees",
    "mpjre_index": "degrees",
    "mpjre_middle": "degrees",
    "mpjre_pinky": "degrees",
    "mpjre_ring": "degrees",
    "mpjre_thumb": "degrees",
    "active_units": "dimensions",
    "knn_accuracy": "fraction",
    "mig": "fraction",
    "sap": "fraction",
    "dci_disentanglement": "fraction",
    "dci_completeness": "fraction",
    "dci_informativeness": "fraction",
    "factor_vae_score": "fraction",
    "factor_accuracy": "fraction",
    "sample_fid": "1",
    "sample_precision": "fraction",
    "sample_recall": "fraction",
    "sample_density": "1",
    "sample_coverage": "fraction",
    "interpolation_mse_linear": "intensity²",
    "interpolation_mse_geodesic": "intensity²",
    "interpolation_mse_difference": "intensity²",
    "interpolation_mse_own_state": "intensity²",
    "off_data_mse_linear": "intensity²",
    "off_data_mse_geodesic": "intensity²",
    "off_data_mse_difference": "intensity²",
    "off_data_mse_ends": "intensity²",
    "sample_frechet": "intensity²",
    "sample_nearest_mse": "intensity²",
    "coverage_mse": "intensity²",
    "cyclicity_error": "intensity²",
    "latent_cyclicity_error": "latent²",
    "loop": "latent²",
    "commitment": "latent²",
    "codebook_perplexity": "entries",
    "metric_half_logdet_inverse": "nats",
    "metric_log10_condition": "1",
    "auroc_index_ring_swapped": "fraction",
    "auroc_foreign_thumb": "fraction",
    "auroc_gaussian_samples": "fraction",
    "auroc_midpoint": "fraction",
    "sample_limits": "fraction",
    "sample_limits_noisy": "fraction",
    "sample_apd": "degrees",
    "sample_apd_ratio": "1",
    "sample_tip_apd": "mm",
    "sample_tip_apd_ratio": "1",
    "sample_nearest": "degrees",
    "num_samples": "samples",
}
# What is measured in other units where the data are poses, whose numbers are radians.
POSE_UNITS = {"mse": "rad²"}
LOWER_IS_BETTER = {
    "loss",
    "recon_nll",
    "kl",
    "nll",
    "energy_mean",
    "mse",
    "mse_sampled",
    "foreground_mse",
    "cyclicity_error",
    "sample_fid",
    "sample_frechet",
    "sample_nearest_mse",
} | {
    name
    for name in UNITS
    if name.startswith(("interpolation_", "off_data_", "coverage_", "mpjre", "energy_mean_beta"))
}
HIGHER_IS_BETTER = {"elbo", "psnr", "psnr_sampled", "foreground_psnr", "ssim"} | {
    name for name, unit in UNITS.items() if unit == "fraction" or name == "sample_density"
}


def in_order(names: Iterable[str]) -> list[str]:
    """Names of metrics in the order of ``UNITS``, and behind them what it does not know."""
    given = {*names}
    return [name for name in UNITS if name in given] + sorted(given - UNITS.keys())


def unit_of(metric: str, is_pose: bool = False) -> str:
    """The unit of a metric or a term, with or without its stage before it; empty where none is known.

    Args:
        metric: such as ``val/loss`` or ``kl``.
        is_pose: whether the data are rotation vectors, in radians.
    """
    term = metric.rpartition("/")[2]
    return (POSE_UNITS if is_pose and term in POSE_UNITS else UNITS).get(term, "")
