"""Our own classifier, whose features pictures and samples are compared by: no network of another data set.

Its distances are not those of Inception features (FID): they compare models of one data set with each other.
"""

import hashlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float

from models.networks.mlp import MLP

WIDTHS, PASSES, MOST_STEPS, BATCH = (256, 64), 10, 5000, 128

Features = Float[np.ndarray, "n features"]


def features_by(x: np.ndarray, y: np.ndarray) -> tuple[Callable[[Any], Features], Callable[[Any], Features]]:
    """Return (features, probabilities), functions of examples (n, *shape), of a classifier trained on x and labels y.

    Two hidden layers of 256 and 64; Adam at 1e-3, batches of 128, 10 passes or 5,000 steps at most. The features are
    the 64 before the last layer. The same data give the same classifier, whatever model is judged by it.
    """
    net = _classifier(np.ascontiguousarray(x), np.asarray(y))

    def before_last(net: MLP, x: Array) -> Array:
        for layer in net.layers[:-1]:
            x = jax.nn.relu(layer(x))
        return x

    flat = lambda x: jnp.asarray(np.asarray(x).reshape(len(x), -1), jnp.float32)
    hidden, last = jax.jit(before_last), jax.jit(lambda net, x: jax.nn.softmax(net(x)))
    return (lambda x: np.asarray(hidden(net, flat(x)))), (lambda x: np.asarray(last(net, flat(x))))


_LAST: dict[str, MLP] = {}  # by the digest of its data: a table's rows are judged by one classifier


def _classifier(x: np.ndarray, y: np.ndarray) -> MLP:
    digest = hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest()
    if digest not in _LAST:
        classes, labels = np.unique(y, return_inverse=True)
        net = _trained(jnp.asarray(x.reshape(len(x), -1), jnp.float32), jnp.asarray(labels), len(classes))
        _LAST.clear()
        _LAST[digest] = net
    return _LAST[digest]


def _trained(x: Array, y: Array, classes: int) -> MLP:
    n, batch = len(x), min(BATCH, len(x))
    steps = min(MOST_STEPS, PASSES * -(-n // batch))
    rule = optax.adam(1e-3)
    net = MLP((x.shape[1], *WIDTHS, classes), rngs=nnx.Rngs(0), between="relu")
    graph, start = nnx.split(net)

    def loss(params: Any, index: Array) -> Array:
        log_p = jax.nn.log_softmax(nnx.merge(graph, params)(x[index]))
        return -jnp.mean(jnp.take_along_axis(log_p, y[index][:, None], axis=1))

    def step(state: Any, key: Any) -> tuple[Any, None]:
        params, memory = state
        updates, memory = rule.update(jax.grad(loss)(params, jax.random.randint(key, (batch,), 0, n)), memory, params)
        return (optax.apply_updates(params, updates), memory), None

    run = jax.jit(lambda s: jax.lax.scan(step, (s, rule.init(s)), jax.random.split(jax.random.key(0), steps))[0][0])
    return nnx.merge(graph, run(start))
