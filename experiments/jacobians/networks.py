"""The networks of the Jacobian benchmark: encoder, decoder and autoencoder of seven kinds, as functions
(params, x).

Plain JAX for dense, deep dense, convolutional and recurrent networks; Flax NNX for LayerNorm and residual
blocks, Flax Linen for BatchNorm (evaluation mode), because those are how users meet them. Inputs are 784
pixels, the latent is 20 wide (32 for the deep one). Weights are random: a Jacobian costs the same for a
trained network.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

KINDS = ("dense", "deep", "conv", "layernorm", "batchnorm", "residual", "recurrent")
PIXELS, LATENT = 784, 20


@dataclass(frozen=True)
class Network:
    """`encode(params, x)` and `decode(params, z)` of one example each."""

    params: Any
    encode: Callable[[Any, jax.Array], jax.Array]
    decode: Callable[[Any, jax.Array], jax.Array]
    pixels: int = PIXELS
    latent: int = LATENT

    def part(self, name: str) -> tuple[Callable, int]:
        """Return (function (params, x), number of inputs) of "encoder", "decoder" or "autoencoder"."""
        whole = lambda p, x: self.decode(p, self.encode(p, x))
        return {
            "encoder": (self.encode, self.pixels),
            "decoder": (self.decode, self.latent),
            "autoencoder": (whole, self.pixels),
        }[name]


def _normal(seed: int, *shape: int, fan: int | None = None) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape) / (fan or shape[0]) ** 0.5


def layers(sizes: tuple[int, ...], seed: int = 0) -> list[tuple[jax.Array, jax.Array]]:
    """Weights (in, out) and biases of a dense network."""
    return [(_normal(seed + i, a, b), jnp.zeros(b)) for i, (a, b) in enumerate(itertools.pairwise(sizes))]


def mlp(params: list, x: jax.Array, act: Callable = jnp.tanh) -> jax.Array:
    """Dense layers, each followed by `act`."""
    for w, b in params:
        x = act(x @ w + b)
    return x


def dense() -> Network:
    """784-400-20-400-784, tanh."""
    params = {"e": layers((784, 400, 20)), "d": layers((20, 400, 784), 9)}
    return Network(params, lambda p, x: mlp(p["e"], x), lambda p, z: mlp(p["d"], z))


def deep() -> Network:
    """784-512-256-128-64-32 and its mirror, relu."""
    down = (784, 512, 256, 128, 64, 32)
    params = {"e": layers(down), "d": layers(down[::-1], 9)}
    relu = jax.nn.relu
    return Network(params, lambda p, x: mlp(p["e"], x, relu), lambda p, z: mlp(p["d"], z, relu), latent=32)


def _conv(x: jax.Array, w: jax.Array, transposed: bool) -> jax.Array:
    layout = ("NHWC", "HWIO", "NHWC")
    if transposed:
        return jax.lax.conv_transpose(x, w, (2, 2), "SAME", dimension_numbers=layout)
    return jax.lax.conv_general_dilated(x, w, (2, 2), "SAME", dimension_numbers=layout)


def conv() -> Network:
    """Two 4x4 convolutions with stride 2 (32 and 64 channels), a dense latent of 20, and the mirror."""
    params = {
        "k1": _normal(0, 4, 4, 1, 32, fan=16),
        "k2": _normal(1, 4, 4, 32, 64, fan=512),
        "e": layers((3136, 20), 2),
        "d": layers((20, 3136), 3),
        "k3": _normal(4, 4, 4, 64, 32, fan=1024),
        "k4": _normal(5, 4, 4, 32, 1, fan=512),
    }

    def encode(p, x):
        h = jax.nn.relu(_conv(x.reshape(1, 28, 28, 1), p["k1"], False))
        return mlp(p["e"], jax.nn.relu(_conv(h, p["k2"], False)).reshape(-1))

    def decode(p, z):
        h = mlp(p["d"], z, jax.nn.relu).reshape(1, 7, 7, 64)
        return _conv(jax.nn.relu(_conv(h, p["k3"], True)), p["k4"], True).reshape(-1)

    return Network(params, encode, decode)


def _from_nnx(module: Any) -> Network:
    from flax import nnx

    graph, state = nnx.split(module)
    method = lambda name: lambda p, x: getattr(nnx.merge(graph, p), name)(x)
    return Network(state, method("encode"), method("decode"))


def layernorm() -> Network:
    """The dense autoencoder with a LayerNorm after each hidden layer (Flax NNX)."""
    from flax import nnx

    class LayerNormCoder(nnx.Module):
        def __init__(self, rngs):
            self.a, self.b = nnx.Linear(784, 400, rngs=rngs), nnx.Linear(400, 20, rngs=rngs)
            self.c, self.d = nnx.Linear(20, 400, rngs=rngs), nnx.Linear(400, 784, rngs=rngs)
            self.n1, self.n2 = nnx.LayerNorm(400, rngs=rngs), nnx.LayerNorm(400, rngs=rngs)

        def encode(self, x):
            return self.b(jnp.tanh(self.n1(self.a(x))))

        def decode(self, z):
            return jax.nn.sigmoid(self.d(jnp.tanh(self.n2(self.c(z)))))

    return _from_nnx(LayerNormCoder(nnx.Rngs(0)))


def residual() -> Network:
    """Dense autoencoder with two residual blocks of width 256 on each side (Flax NNX)."""
    from flax import nnx

    class ResidualBlock(nnx.Module):
        def __init__(self, rngs):
            self.a, self.b = nnx.Linear(256, 256, rngs=rngs), nnx.Linear(256, 256, rngs=rngs)

        def __call__(self, x):
            return x + self.b(jax.nn.gelu(self.a(x)))

    class ResidualCoder(nnx.Module):
        def __init__(self, rngs):
            self.first, self.mean = nnx.Linear(784, 256, rngs=rngs), nnx.Linear(256, 20, rngs=rngs)
            self.back, self.last = nnx.Linear(20, 256, rngs=rngs), nnx.Linear(256, 784, rngs=rngs)
            self.down = nnx.List([ResidualBlock(rngs), ResidualBlock(rngs)])
            self.up = nnx.List([ResidualBlock(rngs), ResidualBlock(rngs)])

        def encode(self, x):
            h = self.first(x)
            for block in self.down:
                h = block(h)
            return self.mean(h)

        def decode(self, z):
            h = self.back(z)
            for block in self.up:
                h = block(h)
            return jax.nn.sigmoid(self.last(h))

    return _from_nnx(ResidualCoder(nnx.Rngs(0)))


def batchnorm() -> Network:
    """The convolutional autoencoder with BatchNorm in evaluation mode (Flax Linen)."""
    import flax.linen as nn

    class BatchNormCoder(nn.Module):
        def setup(self):
            self.c1, self.c2 = nn.Conv(32, (4, 4), 2), nn.Conv(64, (4, 4), 2)
            self.t1, self.t2 = nn.ConvTranspose(32, (4, 4), (2, 2)), nn.ConvTranspose(1, (4, 4), (2, 2))
            self.b1, self.b2, self.b3 = (nn.BatchNorm(use_running_average=True) for _ in range(3))
            self.mean, self.back = nn.Dense(20), nn.Dense(3136)

        def encode(self, x):
            h = nn.relu(self.b1(self.c1(x.reshape(1, 28, 28, 1))))
            return self.mean(nn.relu(self.b2(self.c2(h))).reshape(-1))

        def decode(self, z):
            h = nn.relu(self.back(z)).reshape(1, 7, 7, 64)
            return nn.sigmoid(self.t2(nn.relu(self.b3(self.t1(h))))).reshape(-1)

        def __call__(self, x):
            return self.decode(self.encode(x))

    module = BatchNormCoder()
    params = module.init(jax.random.key(0), jnp.zeros(784))

    def method(name: str) -> Callable[[Any, jax.Array], Any]:
        return lambda p, x: module.apply(p, x, method=name)

    return Network(params, method("encode"), method("decode"))


def recurrent() -> Network:
    """A recurrent encoder over 28 rows of 28 pixels (64 states) and a recurrent decoder, tanh,
    with lax.scan.
    """
    params = {
        "in": _normal(0, 28, 64), "rec": _normal(1, 64, 64) * 0.9, "mean": _normal(2, 64, 20),
        "start": _normal(3, 20, 64), "step": _normal(4, 64, 64) * 0.9, "out": _normal(5, 64, 28),
    }  # fmt: skip

    def encode(p, x):
        step = lambda h, row: (jnp.tanh(row @ p["in"] + h @ p["rec"]), None)
        return jax.lax.scan(step, jnp.zeros(64, x.dtype), x.reshape(28, 28))[0] @ p["mean"]

    def decode(p, z):
        def step(h, _):
            h = jnp.tanh(h @ p["step"])
            return h, h @ p["out"]

        return jax.lax.scan(step, jnp.tanh(z @ p["start"]), None, length=28)[1].reshape(-1)

    return Network(params, encode, decode)


def network(kind: str, dtype: Any = jnp.float32) -> Network:
    """Return the network of this kind with parameters in `dtype`."""
    made = {k: globals()[k] for k in KINDS}[kind]()
    params = jax.tree.map(lambda a: a.astype(dtype), made.params)
    return Network(params, made.encode, made.decode, made.pixels, made.latent)


def plain(fun: Callable, batch: bool, methods: tuple[str, ...] = ("fwd", "rev")) -> dict[str, Callable]:
    """jacfwd and jacrev of `fun(params, x)` with respect to x, mapped over a batch if asked."""
    transforms = {"fwd": ("jacfwd", jax.jacfwd), "rev": ("jacrev", jax.jacrev)}
    return {transforms[m][0]: mapped(transforms[m][1], fun, batch) for m in methods}


def mapped(transform: Callable, fun: Callable, batch: bool) -> Callable[[Any, Any], Any]:
    """`transform` of `x -> fun(params, x)`, mapped over the leading axis of x if `batch`."""

    def one(params, x):
        return transform(lambda v: fun(params, v))(x)

    return jax.vmap(one, in_axes=(None, 0)) if batch else one


def inputs(count: int, batch: int, dtype: Any) -> jax.Array:
    """Random inputs: (count,) for batch 1, else (batch, count)."""
    shape = (count,) if batch == 1 else (batch, count)
    return jax.random.normal(jax.random.key(3), shape, dtype)
