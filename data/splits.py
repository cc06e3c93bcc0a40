"""Split rules: each turns the parts a source gives into train, validation and test, and says how in words."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from data.dataset import SPLITS, Parts, Split
from data.errors import DataError, counted


def cut(x: np.ndarray, y: np.ndarray | None, take: slice | np.ndarray) -> Split:
    """Return the examples at `take` as a split."""
    labels = None if y is None else np.ascontiguousarray(y[take].astype(np.int32))
    return Split(np.ascontiguousarray(x[take]), labels)


@dataclasses.dataclass(frozen=True)
class TailOfTrain:
    """Parts "train" and "test": the last `count` training examples become the validation split."""

    count: int

    @property
    def words(self) -> str:
        """The rule in words."""
        return f"validation is the last {self.count:,} of the training examples; test is the original test part"

    def __call__(self, parts: Parts) -> dict[str, Split]:
        """Return the three splits."""
        x, y = parts["train"]
        at = len(x) - self.count
        if at < 1:
            raise DataError(f"{len(x)} training examples are too few: {self.count:,} of them are for validation")
        return {
            "train": cut(x, y, slice(0, at)),
            "validation": cut(x, y, slice(at, None)),
            "test": cut(*parts["test"], slice(None)),
        }


@dataclasses.dataclass(frozen=True)
class AsGiven:
    """Parts that are the three splits already."""

    words: str = "train, validation and test as published"

    def __call__(self, parts: Parts) -> dict[str, Split]:
        """Return the three splits."""
        return {key: cut(*parts[key], slice(None)) for key in ("train", "validation", "test")}


@dataclasses.dataclass(frozen=True)
class Blocks:
    """One part "all": the last `test` examples are test, the `validation` ones before them validation."""

    validation: int
    test: int

    @property
    def words(self) -> str:
        """The rule in words."""
        return (
            f"in stored order: the last {self.test:,} are test, the {self.validation:,} before them "
            "validation, the rest train (blocks, so that neighbours in time stay in one split)"
        )

    def __call__(self, parts: Parts) -> dict[str, Split]:
        """Return the three splits."""
        x, y = parts["all"]
        a, b = len(x) - self.validation - self.test, len(x) - self.test
        cuts = {"train": slice(0, a), "validation": slice(a, b), "test": slice(b, None)}
        return {key: cut(x, y, take) for key, take in cuts.items()}


@dataclasses.dataclass(frozen=True)
class Interleaved:
    """One part "all": of every `period` consecutive examples the last is test, the one before validation."""

    period: int

    @property
    def words(self) -> str:
        """The rule in words."""
        p = self.period
        return f"by position i: test where i mod {p} = {p - 1}, validation where i mod {p} = {p - 2}, else train"

    def __call__(self, parts: Parts) -> dict[str, Split]:
        """Return the three splits; DataError when there are fewer examples than the period."""
        x, y = parts["all"]
        if len(x) < self.period:
            few = counted(len(x), "example", "is", "are")
            raise DataError(f"{few} too few to split in three: at least {self.period} are needed")
        return {key: cut(x, y, take) for key, take in self.indices(len(x)).items()}

    def indices(self, n: int) -> dict[str, np.ndarray]:
        """Return the positions of each split among `n` examples."""
        phase = np.arange(n) % self.period
        return {
            "train": np.flatnonzero(phase < self.period - 2),
            "validation": np.flatnonzero(phase == self.period - 2),
            "test": np.flatnonzero(phase == self.period - 1),
        }


@dataclasses.dataclass(frozen=True)
class Stratified:
    """One part "all": a shuffled test split with every class in proportion; validation is the end of the rest.

    The test split is that of scikit-learn's `train_test_split(test_size=test, random_state=0, stratify=labels)`, the
    usual one for its bundled sets, drawn here from numpy's legacy generator, whose stream is frozen.
    """

    validation: int
    test: int

    @property
    def words(self) -> str:
        """The rule in words."""
        return (
            f"test is the {self.test:,} of scikit-learn's train_test_split(random_state=0, stratify=labels), "
            f"validation the last {self.validation:,} of its training part"
        )

    def __call__(self, parts: Parts) -> dict[str, Split]:
        """Return the three splits; DataError when an example has no label or there are too few of them."""
        x, y = parts["all"]
        if y is None or len(x) <= self.validation + self.test:
            raise DataError(f"{len(x)} examples, labelled, must be more than {self.validation + self.test:,} to split")
        return {key: cut(x, y, take) for key, take in self.indices(y).items()}

    def indices(self, y: np.ndarray) -> dict[str, np.ndarray]:
        """Return the positions of each split among the examples with labels `y`."""
        rng = np.random.RandomState(0)
        classes = [np.flatnonzero(y == label) for label in np.unique(y)]
        sizes = np.array([len(c) for c in classes])
        train = proportional(sizes, len(y) - self.test, rng)
        test = proportional(sizes - train, self.test, rng)
        shuffled = [members[rng.permutation(len(members))] for members in classes]
        fit = rng.permutation(np.concatenate([c[:n] for c, n in zip(shuffled, train, strict=True)]))
        held = [c[n : n + m] for c, n, m in zip(shuffled, train, test, strict=True)]
        at = len(fit) - self.validation
        return {"train": fit[:at], "validation": fit[at:], "test": rng.permutation(np.concatenate(held))}


def proportional(sizes: np.ndarray, total: int, rng: np.random.RandomState) -> np.ndarray:
    """Return how many of `total` fall to each class: whole parts, then the largest remainders, ties drawn."""
    share = sizes / sizes.sum() * total
    out = np.floor(share).astype(int)
    left = total - out.sum()
    for remainder in np.unique(share - np.floor(share))[::-1]:
        if left == 0:
            break
        tied = np.flatnonzero(share - np.floor(share) == remainder)
        drawn = rng.choice(tied, size=min(len(tied), left), replace=False)
        out[drawn] += 1
        left -= len(drawn)
    return out


SEED = 0  # of the order in which the examples of a user's set are dealt out


def divide(n: int, y: np.ndarray | None, kind: str) -> tuple[dict[str, np.ndarray], str]:
    """Return the positions of train, validation and test among a user's `n` examples, and the rule in words.

    A tenth each for validation and test, at least one. random: dealt out by a stated seed, every class in proportion
    where there are labels `y`; positions stay in stored order. blocks: train, validation, test in stored order, so
    that neighbours in time stay in one split. DataError for fewer than 10 examples.
    """
    if n < 10:
        raise DataError(f"{counted(n, 'example', 'is', 'are')} too few to split in three: at least 10 are needed")
    tenth = n // 10
    if kind == "blocks":
        a, b = n - 2 * tenth, n - tenth
        words = "blocks in stored order: the last tenth is test, the tenth before it validation"
        return {"train": np.arange(a), "validation": np.arange(a, b), "test": np.arange(b, n)}, words
    rng = np.random.RandomState(SEED)  # numpy's legacy generator: its stream is frozen
    classes = [np.arange(n)] if y is None else [np.flatnonzero(y == label) for label in np.unique(y)]
    sizes = np.array([len(c) if len(c) > 2 else 0 for c in classes])  # a class of two is for training
    stratified = y is not None and sizes.sum() >= 3 * tenth
    if not stratified:
        classes, sizes = [np.arange(n)], np.array([n])
    test = proportional(sizes, tenth, rng)
    validation = proportional(sizes - test, tenth, rng)
    out: dict[str, list[np.ndarray]] = {key: [] for key in SPLITS}
    for members, m, k in zip(classes, test, validation, strict=True):
        order = members[rng.permutation(len(members))]
        for key, take in (("test", order[:m]), ("validation", order[m : m + k]), ("train", order[m + k :])):
            out[key].append(take)
    fair = "every class in proportion, " if stratified else ""
    words = f"random, {fair}a tenth each for validation and test, seed {SEED}"
    return {key: np.sort(np.concatenate(takes)) for key, takes in out.items()}, words


Rule = TailOfTrain | AsGiven | Blocks | Interleaved | Stratified
"""A rule is called with parts and returns the splits; `words` says it in words for the run's record."""

Cut = tuple[str, int, int]
"""A part of a set by position: (name of the stored split, start, stop)."""


def three_way(sizes: Mapping[str, int], where: str) -> tuple[dict[str, Cut], str]:
    """Return where train, validation and test are within the stored splits, and the rule in words.

    What is missing is cut from the end of train, a tenth each; a set with validation but no test (common
    where test labels are secret) is tested on its validation split. DataError without a train split or with
    fewer than 10 training examples.
    """
    if "train" not in sizes:
        raise DataError(f"{where} has no split 'train'; it has {', '.join(sizes) or 'none'}")
    n = sizes["train"]
    if n < 10:
        raise DataError(f"{where}: {n} training examples are too few to split; at least 10 are needed")
    tenth, whole = n // 10, {k: (k, 0, m) for k, m in sizes.items()}
    if "validation" in sizes and "test" in sizes:
        return {k: whole[k] for k in ("train", "validation", "test")}, "train, validation and test as published"
    if "test" in sizes or "validation" in sizes:
        test = "test" if "test" in sizes else "validation"
        cuts = {"train": ("train", 0, n - tenth), "validation": ("train", n - tenth, n), "test": whole[test]}
        return (
            cuts,
            f"validation is the last tenth of the stored train split; test is the stored {test} split",
        )
    a, b = n - 2 * tenth, n - tenth
    cuts = {"train": ("train", 0, a), "validation": ("train", a, b), "test": ("train", b, n)}
    return cuts, "of the stored train split the last tenth is test, the tenth before it validation"
