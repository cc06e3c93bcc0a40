"""How a code lies beside the factors that the examples were made from: known factors, mean codes.

Every function takes codes (n, latent) and factors (n, k), whole numbers from 0. Errors are jackknife errors over
examples; those of `factor_vae` are binomial, over its votes.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from models.config import ConfigError
from models.metrics.estimates import Measured, jackknife, share
from models.metrics.subject import Subject

BINS = 20  # of equal width, into which a unit is cut for its mutual information (Locatello et al. 2019)
TREES = 20
GROUPS = 5  # of the jackknife of what trains classifiers

ONE_FACTOR = "only one factor varies over these examples: there is none to take it for"
IDLE = "no unit of the code tells anything of a factor over these examples"

Codes = Float[np.ndarray, "n latent"]
Factors = Int[np.ndarray, "n k"]


def information_matrix(codes: Codes, factors: Factors) -> tuple[np.ndarray, np.ndarray]:
    """Return I(z_j; v_k), nats, (latent, k), of units cut into 20 bins of equal width, and H(v_k), (k,).

    From counts, so it is too high by about (bins - 1) (values - 1) / (2 n): take all examples of a set, not a tenth.
    """
    low, high = codes.min(0), codes.max(0)
    wide = np.where(high > low, high - low, 1)
    bins = np.minimum((BINS * (codes - low) / wide).astype(int), BINS - 1)
    k, latent = factors.shape[1], codes.shape[1]
    found, entropies = np.zeros((latent, k)), np.zeros(k)
    for j in range(k):
        values = int(factors[:, j].max()) + 1
        entropies[j] = _entropy(np.bincount(factors[:, j], minlength=values))
        for i in range(latent):
            joint = np.bincount(bins[:, i] * values + factors[:, j], minlength=BINS * values).reshape(BINS, values)
            found[i, j] = _entropy(joint.sum(1)) + entropies[j] - _entropy(joint.ravel())
    return found, entropies


def mutual_information_gap(codes: Codes, factors: Factors) -> float:
    """Return MIG: mean over factors of (I(z_1; v) - I(z_2; v)) / H(v), the two best units (Chen et al. 2018)."""
    found, entropies = information_matrix(codes, factors)
    with np.errstate(invalid="ignore"):  # a factor of one value has no entropy: nan
        return float(np.mean(_gap(found) / entropies))


def modularity(codes: Codes, factors: Factors) -> float:
    """Return the mean over units of 1 - Σ_k≠best I_k² / (I_best² (K - 1)) (Ridgeway & Mozer 2018, section 3).

    Units that say less than 10⁻³ of what the most telling one says are left out: they are about nothing. Raises
    ConfigError for fewer than two factors, and for units that all say nothing.
    """
    if factors.shape[1] < 2:
        raise ConfigError(ONE_FACTOR)
    found = information_matrix(codes, factors)[0]
    best = found.max(1)
    told = best > 1e-3 * best.max()
    if not told.any():
        raise ConfigError(IDLE)
    rest = (np.square(found[told]).sum(1) - best[told] ** 2) / (best[told] ** 2 * (found.shape[1] - 1))
    return float(np.mean(1 - rest))


def separated_predictability(codes: Codes, factors: Factors) -> float:
    """Return SAP: mean over factors of the gap between the two best units' accuracies (Kumar et al. 2018).

    The classifier from one unit is Fisher's linear discriminant: the class of the nearest mean, in closed form.
    """
    gaps = []
    for v in factors.T:
        v = np.unique(v, return_inverse=True)[1]
        count = np.bincount(v)
        scores = []
        for z in codes.T:
            means = np.bincount(v, z) / count
            scores.append(np.mean(np.abs(z[:, None] - means[None]).argmin(1) == v))
        gaps.append(_gap(np.array(scores)[:, None])[0])
    return float(np.mean(gaps))


def dci(codes: Codes, factors: Factors, seed: int = 0) -> np.ndarray:
    """Return disentanglement, completeness and informativeness (Eastwood & Williams 2018), (3,).

    A forest of 20 trees, every split a choice among all units, predicts each factor; R_jk is how much it uses unit j.
    Disentanglement: Σ_j ρ_j (1 - H_K(R_j)), ρ_j the unit's share of all use; completeness: the same over factors.
    Informativeness: mean accuracy on the half of the examples that no tree saw (higher is better). Raises ConfigError
    for fewer than two examples, and for units that no tree uses.
    """
    from sklearn.ensemble import RandomForestClassifier

    if len(codes) < 2:
        raise ConfigError("dci takes two examples for its trees and their test, with one group left out")
    order = np.random.default_rng(seed).permutation(len(codes))
    fit, rest = order[::2], order[1::2]
    importance, accuracy = [], []
    for v in factors.T:
        forest = RandomForestClassifier(TREES, max_features=None, random_state=seed).fit(codes[fit], v[fit])
        importance.append(forest.feature_importances_)
        accuracy.append(forest.score(codes[rest], v[rest]))
    r = np.stack(importance, 1)
    if not r.any():
        raise ConfigError(IDLE)
    return np.array([_concentration(r), _concentration(r.T), np.mean(accuracy)])


def factor_vae_votes(codes: Codes, factors: Factors, seed: int = 0, votes: int = 800, fixed: int = 64) -> np.ndarray:
    """Return which votes of FactorVAE's score are right (Kim & Mnih 2018, section 4): its mean is the score.

    A vote: examples that share one value of a random factor; the unit that varies least among them, relative to all
    examples. The majority table from unit to factor is made from one half of the votes and judged on the other. Units
    whose variance is below 10⁻³ of the largest have no vote. Raises ConfigError where no unit varies, and for fewer
    than two factors.
    """
    if factors.shape[1] < 2:
        raise ConfigError(ONE_FACTOR)
    rng = np.random.default_rng(seed)
    spread = codes.var(0)
    alive = spread > 1e-3 * spread.max()
    if not alive.any():
        raise ConfigError("no unit of the code varies over these examples")
    codes = codes[:, alive] / np.sqrt(spread[alive])
    cast = []
    for _ in range(votes):
        k = int(rng.integers(factors.shape[1]))
        same = np.flatnonzero(factors[:, k] == factors[rng.integers(len(factors)), k])
        cast.append((int(codes[rng.choice(same, fixed)].var(0).argmin()), k))
    unit, factor = np.array(cast).T
    table = np.zeros((codes.shape[1], factors.shape[1]))
    np.add.at(table, (unit[::2], factor[::2]), 1)
    return table.argmax(1)[unit[1::2]] == factor[1::2]


def mig(subject: Subject) -> dict[str, Measured]:
    """Return `mutual_information_gap` of the subject's mean codes."""
    return {"mig": _over_examples(subject, mutual_information_gap)}


def modular(subject: Subject) -> dict[str, Measured]:
    """Return `modularity` of the subject's mean codes."""
    return {"modularity": _over_examples(subject, modularity)}


def sap(subject: Subject) -> dict[str, Measured]:
    """Return `separated_predictability` of the subject's mean codes."""
    return {"sap": _over_examples(subject, separated_predictability)}


def dci_of(subject: Subject) -> dict[str, Measured]:
    """Return the three numbers of `dci` of the subject's mean codes."""
    three: Any = _over_examples(subject, lambda z, v: dci(z, v, subject.seed), GROUPS)
    names = ("dci_disentanglement", "dci_completeness", "dci_informativeness")
    units = ("share", "share", "accuracy")
    return {name: Measured(three.value[i], units[i], three.error[i]) for i, name in enumerate(names)}


def factor_vae(subject: Subject) -> dict[str, Measured]:
    """Return FactorVAE's score of the subject's mean codes."""
    codes, factors = told(subject)
    return {"factor_vae_score": share(factor_vae_votes(codes, factors, subject.seed), "accuracy")}


def told(subject: Subject) -> tuple[Codes, Factors]:
    """Return mean codes and those factors that take more than one value. Raises ConfigError where none does."""
    factors = np.asarray(subject.test.factors)
    if (factors.max(0) == factors.min(0)).all():
        raise ConfigError("no factor varies over these examples: judge more of them, as by --split all")
    return np.asarray(subject.codes, np.float64), factors[:, factors.max(0) > factors.min(0)]


def _over_examples(subject: Subject, f: Any, groups: int = 20) -> Measured:
    codes, factors = told(subject)
    return jackknife(lambda index: f(codes[index], factors[index]), len(codes), "share", groups)


def _entropy(counts: np.ndarray) -> float:
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log(p)).sum())


def _gap(scores: np.ndarray) -> np.ndarray:
    """Return the best minus the second best of every column; the best where there is one row."""
    ordered = np.sort(scores, axis=0)
    return ordered[-1] - (ordered[-2] if len(ordered) > 1 else 0)


def _concentration(r: np.ndarray) -> float:
    """Return Σ of 1 - entropy of each row, to the base of its length, weighted by the rows' shares of the whole."""
    total = r.sum(1)
    p = r / np.where(total > 0, total, 1)[:, None]
    entropy = -(p * np.log(np.where(p > 0, p, 1))).sum(1) / np.log(r.shape[1]) if r.shape[1] > 1 else np.zeros(len(r))
    return float(((1 - entropy) * total).sum() / total.sum())
