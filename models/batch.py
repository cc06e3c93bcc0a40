"""What a model is given, what the data say of it, and one batch's way through it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray


class Batch(NamedTuple):
    """Some examples. A field that is None is structure: a program without labels or masks has no trace of them.

    x: (batch, *shape), scaled; symbols stay integers. label: (batch,) int32, -1 where unknown. mask: the shape of
    x, true where x was observed.
    """

    x: Any
    label: Any = None
    mask: Any = None

    @property
    def size(self) -> int:
        """Number of examples."""
        return self.x.shape[0]


class Sizes(NamedTuple):
    """What the data say when a model is built: shape of an example, classes of its label (0: none), examples.

    symbols: how many there are where the values are symbols, 0 for numbers; pen: a step is a move of a pen and what it
    does. The model's likelihood says so.
    """

    shape: tuple[int, ...]
    classes: int = 0
    examples: int = 0
    symbols: int = 0
    pen: bool = False


class Pass(NamedTuple):
    """A batch on its way through a model: all that a term of the loss may look at."""

    model: Any
    batch: Batch
    q: Any  # q(z|x)
    z: Array  # a draw of it, (batch, latent)
    log_q: Array | None  # its log-density, (batch,) nats; None for a point
    p: Any  # p(x|z)
    key: PRNGKeyArray  # for what else is random
    training: bool
    numbers: Any = None  # the encoder's for batch.x itself, where the pass has them
    head: Any = None  # the encoder's numbers that q was made of
    kept: tuple[Any, ...] = ()  # what its hidden layers gave to their activations for batch.x itself, where it has them


def as_batch(x: Any) -> Batch:
    """Return a batch, with 0 at hidden values; a bare array is examples without label or mask."""
    batch = x if isinstance(x, Batch) else Batch(x)
    return batch if batch.mask is None else batch._replace(x=jnp.where(batch.mask, batch.x, 0))


def observed(x: Any, label: Any = None) -> Batch:
    """Return examples with nan where values are missing as a batch: 0 there, and the mask; without nan, no mask."""
    seen = ~np.isnan(x) if np.issubdtype(np.asarray(x).dtype, np.floating) else np.ones((), bool)
    return Batch(x, label) if seen.all() else Batch(np.where(seen, x, 0), label, seen)


def repeated(tree: Any, times: int) -> Any:
    """Return every leaf (batch, ...) as (times * batch, ...): all examples, then all of them again, ..."""
    if times == 1:
        return tree
    return jax.tree.map(lambda a: jnp.broadcast_to(a[None], (times, *a.shape)).reshape(-1, *a.shape[1:]), tree)
