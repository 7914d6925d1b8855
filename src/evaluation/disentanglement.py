"""How known factors of variation lie in the codes.

Letters: N samples, D code dimensions, F factors.
"""

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import mutual_info_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

BINS = 20
# Rows that the trees of DCI and SAP learn from; more change little and take time.
ROWS = 4000
TREES = 10
# Of the FactorVAE score: groups for learning and for testing, and rows in a group.
VOTES, GROUP = 800, 32


def disentanglement(
    train_z: np.ndarray, train_factors: np.ndarray, test_z: np.ndarray, test_factors: np.ndarray
) -> dict[str, float]:
    """How the known factors lie in the codes: the scores below, over the factors that vary; nothing if none does.

    ``factor_accuracy`` is what a linear classifier reads from all code dimensions together, held out, mean over the
    factors.

    Args:
        train_z, test_z: codes (N, D).
        train_factors, test_factors: whole numbers (N, F).
    """
    if not (varying := _varying(train_factors)):
        return {}
    train_y, test_y = train_factors[:, varying], test_factors[:, varying]
    accuracies = []
    for y, held_out in zip(train_y.T, test_y.T, strict=True):
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        accuracies.append(probe.fit(train_z, y).score(test_z, held_out))
    few = np.linspace(0, len(train_z) - 1, min(ROWS, len(train_z))).round().astype(int)
    learned = train_z[few], train_y[few], test_z, test_y
    return {
        "mig": mutual_information_gap(test_z, test_y),
        "sap": separated_attribute_predictability(*learned),
        **dci(*learned),
        "factor_vae_score": factor_vae_score(train_z, train_y, test_z, test_y),
        "factor_accuracy": float(np.mean(accuracies)),
    }


def mutual_information_gap(z: np.ndarray, factors: np.ndarray) -> float:
    """The mutual information gap (Chen et al. 2018, arXiv:1802.04942), in [0, 1].

    For every factor the difference of the two dimensions of z (N, D) that know most about it, in units of its entropy;
    codes are cut into 20 bins with as many samples each, where the authors' have equal width.
    """
    edges = [np.quantile(column, np.linspace(0, 1, BINS + 1)[1:-1]) for column in z.T]
    binned = [np.searchsorted(e, column) for e, column in zip(edges, z.T, strict=True)]
    gaps = []
    for y in factors.T:
        information = [mutual_info_score(y, column) for column in binned]
        gaps.append(_gap(information) / max(mutual_info_score(y, y), 1e-9))
    return float(np.mean(gaps))


def separated_attribute_predictability(
    train_z: np.ndarray, train_factors: np.ndarray, test_z: np.ndarray, test_factors: np.ndarray
) -> float:
    """SAP (Kumar et al. 2018, arXiv:1711.00848): the gap of the two dimensions that predict a factor best.

    A factor of c values is predicted from one dimension by thresholds, c − 1 of them, with all values weighted alike;
    what counts is the balanced accuracy on held-out rows, so that 1 − 1/c is the best that can be had. The thresholds
    are found one after another by a decision tree.
    """
    gaps = []
    for y, held_out in zip(train_factors.T, test_factors.T, strict=True):
        tree = DecisionTreeClassifier(
            max_leaf_nodes=len(np.unique(y)), class_weight="balanced", random_state=0
        )
        counts = np.bincount(held_out)
        scores = []
        for a, b in zip(_columns(train_z), _columns(test_z), strict=True):
            right = tree.fit(a, y).predict(b) == held_out
            recalls = np.bincount(held_out, right)[counts > 0] / counts[counts > 0]
            scores.append(float(recalls.mean()))
        gaps.append(_gap(scores, alone=1 / len(np.unique(y))))
    return float(np.mean(gaps))


def dci(
    train_z: np.ndarray, train_factors: np.ndarray, test_z: np.ndarray, test_factors: np.ndarray
) -> dict[str, float]:
    """Disentanglement, completeness and informativeness (Eastwood & Williams 2018, ICLR), each at most 1.

    Random forests that may split on any dimension predict the factors; R (D, F) is by how much a dimension lowers a
    factor's impurity in them, which adds up to 1 over the dimensions. Disentanglement is 1 minus the entropy of a
    dimension's row of R, in units of log F and weighted by the row's sum; completeness 1 minus the entropy of a
    factor's column in units of log D; informativeness the accuracy on held-out rows, where the authors give the error.
    The first needs two factors, the second two dimensions.
    """
    importances, accuracies = [], []
    for y, held_out in zip(train_factors.T, test_factors.T, strict=True):
        forest = RandomForestClassifier(
            TREES, max_features=None, min_samples_leaf=2, random_state=0
        ).fit(train_z, y)
        importances.append(forest.feature_importances_)
        accuracies.append(forest.score(test_z, held_out))
    matrix = np.stack(importances, 1)
    found = {"dci_informativeness": float(np.mean(accuracies))}
    if matrix.shape[1] > 1:
        weights = matrix.sum(1) / max(matrix.sum(), 1e-12)
        found["dci_disentanglement"] = float((weights * (1 - _relative_entropy(matrix))).sum())
    if matrix.shape[0] > 1:
        found["dci_completeness"] = float(np.mean(1 - _relative_entropy(matrix.T)))
    return found


def factor_vae_score(
    train_z: np.ndarray,
    train_factors: np.ndarray,
    test_z: np.ndarray,
    test_factors: np.ndarray,
    seed: int = 0,
) -> float:
    """The FactorVAE score (Kim & Mnih 2018, arXiv:1802.05983), in [0, 1]; chance is 1/F.

    Of a group of rows that agree in one factor, the code dimension that varies least, in units of its variance over all
    rows, has to tell which factor that is: by a majority vote of groups of training rows, on groups of held-out rows.
    Groups are drawn from the rows that there are instead of a generator, so that the other factors vary as they do in
    the data, and dimensions are left out only if they do not vary at all.
    """
    rng = np.random.default_rng(seed)
    varies = train_z.std(0) > 1e-6 * max(train_z.std(0).max(), 1e-12)
    if not varies.any():
        return 1 / train_factors.shape[1]
    scale = train_z[:, varies].var(0)
    votes = np.zeros((len(scale), train_factors.shape[1]))
    for dimension, factor in _votes(train_z[:, varies] / scale**0.5, train_factors, rng):
        votes[dimension, factor] += 1
    told = votes.argmax(1)
    held_out = _votes(test_z[:, varies] / scale**0.5, test_factors, rng)
    return float(np.mean([told[dimension] == factor for dimension, factor in held_out]))


def _votes(z: np.ndarray, factors: np.ndarray, rng: np.random.Generator) -> list[tuple[int, int]]:
    """For groups of rows that agree in a factor: the dimension that varies least, and the factor."""
    chosen = []
    for factor in rng.integers(factors.shape[1], size=VOTES):
        rows = np.flatnonzero(factors[:, factor] == rng.choice(factors[:, factor]))
        group = rng.choice(rows, min(GROUP, len(rows)), replace=False)
        chosen.append((int(z[group].var(0).argmin()), int(factor)))
    return chosen


def majority(train_factors: np.ndarray, test_factors: np.ndarray) -> dict[str, float]:
    """What is had without any code, over the factors that vary: always a factor's most frequent training value."""
    if not (varying := _varying(train_factors)):
        return {}
    rates = [
        np.mean(test_factors[:, f] == np.bincount(train_factors[:, f]).argmax()) for f in varying
    ]
    accuracy = float(np.mean(rates))
    return {
        "dci_informativeness": accuracy,
        "factor_vae_score": 1 / len(varying),
        "factor_accuracy": accuracy,
    }


def _varying(factors: np.ndarray) -> list[int]:
    return [f for f in range(factors.shape[1]) if len(np.unique(factors[:, f])) > 1]


def _columns(z: np.ndarray) -> list[np.ndarray]:
    return [z[:, [d]] for d in range(z.shape[1])]


def _gap(scores: list[float], alone: float = 0.0) -> float:
    """The largest score less the one after it; ``alone`` stands for the second where there is no other."""
    first, second = sorted([alone, *scores] if len(scores) < 2 else scores)[:-3:-1]
    return first - second


def _relative_entropy(matrix: np.ndarray) -> np.ndarray:
    """The entropy of every row's shares, in units of that of equal shares; 1 for a row of zeros."""
    sums = matrix.sum(1, keepdims=True)
    shares = np.divide(matrix, sums, out=np.full(matrix.shape, 1 / matrix.shape[1]), where=sums > 0)
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    return -(shares * logs).sum(1) / np.log(matrix.shape[1])
