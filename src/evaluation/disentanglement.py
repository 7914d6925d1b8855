"""How known factors of variation lie in the codes."""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import mutual_info_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

BINS = 20


def disentanglement(
    train_z: np.ndarray, train_factors: np.ndarray, test_z: np.ndarray, test_factors: np.ndarray
) -> dict[str, float]:
    """How the known factors lie in the codes.

    ``mig`` is the mutual information gap (Chen et al. 2018, arXiv:1802.04942): for every factor the difference of
    the two codes that know most about it, in units of its entropy, over 20 bins a code. ``factor_accuracy`` is what a
    linear classifier reads from the codes. Both are means over the factors that vary.

    Args:
        train_z, test_z: codes (N, D).
        train_factors, test_factors: whole numbers (N, F).
    """
    edges = [np.quantile(column, np.linspace(0, 1, BINS + 1)[1:-1]) for column in test_z.T]
    binned = [np.searchsorted(e, column) for e, column in zip(edges, test_z.T, strict=True)]
    gaps, accuracies = [], []
    for f in _varying(train_factors):
        y, held_out = train_factors[:, f], test_factors[:, f]
        information = sorted(mutual_info_score(held_out, column) for column in binned)
        entropy = mutual_info_score(held_out, held_out)
        gaps.append((information[-1] - information[-2]) / max(entropy, 1e-9))
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        accuracies.append(probe.fit(train_z, y).score(test_z, held_out))
    return {
        "mig": float(np.mean(gaps)),
        "factor_accuracy": float(np.mean(accuracies)),
    }


def majority(train_factors: np.ndarray, test_factors: np.ndarray) -> dict[str, float]:
    """The accuracy of always naming a factor's most frequent training value, mean over the factors that vary."""
    rates = [
        np.mean(test_factors[:, f] == np.bincount(train_factors[:, f]).argmax())
        for f in _varying(train_factors)
    ]
    return {"factor_accuracy": float(np.mean(rates))}


def _varying(factors: np.ndarray) -> list[int]:
    return [f for f in range(factors.shape[1]) if len(np.unique(factors[:, f])) > 1]
