"""What is judged: a model, and examples as it sees them, on the host."""

import dataclasses
import functools
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from models.autoencoder import Autoencoder
from models.batch import Batch
from models.codes import has_density
from models.networks.nothing import NoEncoder

CHUNK = 256  # examples that are worked on together


class Shown(NamedTuple):
    """Examples of one split.

    batch: what the model is given of them, (n, *shape), NumPy. labels: (n,) of the data, whether or not the model sees
    them; factors: (n, k) indices of what the examples were made from. None where the data have none.
    """

    batch: Batch
    labels: Any = None
    factors: Any = None

    @property
    def size(self) -> int:
        """Number of examples."""
        return len(self.batch.x)


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model and the examples it is judged on.

    test: the examples; train: those it was trained on, which probes, classifiers and comparisons of samples need.
    factor_names: of the columns of `factors`. samples: draws for each example in what is sampled many times.
    folder: where what is costly to make again is kept (a classifier); None: nowhere. ratings: whether an example is
    what one user chose of all items. matched: whether a term drew codes to the prior, so that codes without a density
    have one to sample from.
    """

    model: Autoencoder
    test: Shown
    train: Shown | None = None
    seed: int = 0
    factor_names: tuple[str, ...] = ()
    samples: int = 5000
    folder: Any = None
    ratings: bool = False
    matched: bool = True

    def key(self, name: str) -> PRNGKeyArray:
        """Return the key of a metric: another one for each name, the same whatever else is measured."""
        return jax.random.fold_in(jax.random.key(self.seed), zlib.crc32(name.encode()) & 0x7FFFFFFF)

    def each(self, f: Callable[..., Any], name: str = "", shown: Shown | None = None, chunk: int = CHUNK) -> Any:
        """Return f(model, batch, key) of all examples, leaves (n, ...) of NumPy; see `in_chunks`."""
        shown = self.test if shown is None else shown
        return in_chunks(f, self.model, shown.batch, self.key(name), chunk)

    @functools.cached_property
    def posterior(self) -> Any:
        """The shapes of the posterior of one example; None for a model without an encoder."""
        if isinstance(self.model.encoder, NoEncoder):
            return None
        one = jax.tree.map(lambda a: jnp.asarray(a[:1]), self.test.batch)
        return jax.eval_shape(lambda m, b: m.encode(m.sees(b), None, m.seen_label(b)), self.model, one)

    @functools.cached_property
    def codes(self) -> np.ndarray:
        """The mean code of every example, (n, latent)."""
        return self.codes_of(self.test)

    def codes_of(self, shown: Shown) -> np.ndarray:
        """Return the mean code of every example, (n, latent)."""
        return self.each(lambda m, b, k: m.encode(m.sees(b), None, m.seen_label(b)).mean, shown=shown)

    @property
    def dense(self) -> bool:
        """Whether codes have a density, so that there are bounds and likelihoods."""
        return self.posterior is not None and has_density(self.posterior)

    @property
    def discrete(self) -> bool:
        """Whether a code is a choice among entries."""
        return self.posterior is not None and hasattr(self.model.posterior_module, "lookup")


def in_chunks(f: Callable[..., Any], model: Any, batch: Batch, key: PRNGKeyArray, chunk: int = CHUNK) -> Any:
    """Return f(model, batch, key) of all examples, leaves (n, ...) of NumPy: memory is bounded by the chunk.

    The short last chunk is filled up with examples that are then cut off, so there is one program.
    """
    call, n = jax.jit(f), len(batch.x)
    chunk = min(chunk, n)
    parts = []
    for i, start in enumerate(range(0, n, chunk)):
        index = np.minimum(np.arange(start, start + chunk), n - 1)
        some = jax.tree.map(lambda a, index=index: jnp.asarray(np.asarray(a)[index]), batch)
        out = jax.device_get(call(model, some, jax.random.fold_in(key, i)))
        parts.append(jax.tree.map(lambda a, left=n - start: a[:left], out))
    return jax.tree.map(lambda *a: np.concatenate(a), *parts)
