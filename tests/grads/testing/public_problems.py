"""25 problems in the manner of public collections: MINPACK-2 (Averick, Carter & More 1991), ADBench (Srajer et al.
2018), solvers of equations, statistics, geometry, signals. Each is written from its formula: name -> (function, point).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy import linalg
from jax.scipy.special import gammaln, logsumexp

from grads.testing.scalar import SCALAR_PROGRAMS


def _a(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def _rotation(w: jax.Array) -> jax.Array:
    """Rodrigues' formula."""
    angle = jnp.sqrt(jnp.sum(w**2) + 1e-12)
    k = w / angle
    entries = jnp.stack([-k[2], k[1], k[2], -k[0], -k[1], k[0]])
    cross = jnp.zeros((3, 3)).at[(0, 0, 1, 1, 2, 2), (1, 2, 0, 2, 0, 1)].set(entries)
    return jnp.eye(3) + jnp.sin(angle) * cross + (1 - jnp.cos(angle)) * cross @ cross


def bundle_adjustment(p: dict) -> jax.Array:
    """Reprojection of points with radial distortion."""
    seen = jax.vmap(lambda x: _rotation(p["rotation"]) @ (x - p["center"]))(p["points"])
    flat = seen[:, :2] / (seen[:, 2:] + 6)
    radius = jnp.sum(flat**2, 1, keepdims=True)
    return p["focal"] * flat * (1 + p["radial"][0] * radius + p["radial"][1] * radius**2)


def mixture(p: dict) -> jax.Array:
    """Log-likelihood of a Gaussian mixture with triangular precisions, point by point."""
    x = _a(1, 7, 2)

    def component(weight, mean, log_diagonal, lower):
        root = jnp.diag(jnp.exp(log_diagonal)) + jnp.zeros((2, 2)).at[1, 0].set(lower)
        return weight + log_diagonal.sum() - 0.5 * jnp.sum(((x - mean[None]) @ root.T) ** 2, 1)

    each = jax.vmap(component)(p["weight"], p["mean"], p["log"], p["lower"])
    return logsumexp(each, 0) - logsumexp(p["weight"])


def lstm(w: jax.Array) -> jax.Array:
    """The last state of an LSTM of 3 units over 5 steps."""

    def step(state, x):
        h, c = state
        i, f, o, g = jnp.split(jnp.concatenate([x, h]) @ w, 4)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

    return lax.scan(step, (jnp.zeros(3), jnp.zeros(3)), _a(2, 5, 2))[0][0]


def hand(angles: jax.Array) -> jax.Array:
    """Skinned vertices of two fingers of three bones."""

    def finger(three):
        turn = lambda t: jnp.stack([jnp.stack([jnp.cos(t), -jnp.sin(t)]), jnp.stack([jnp.sin(t), jnp.cos(t)])])
        frames, at, base = [], jnp.zeros(2), jnp.eye(2)
        for t in three:
            base = base @ turn(t)
            at = at + base @ jnp.asarray([1.0, 0.0])
            frames.append(at)
        return jax.nn.softmax(_a(3, 4, 3)) @ jnp.stack(frames)

    return jax.vmap(finger)(angles.reshape(2, 3))


def runge_kutta(field: Callable, y: Any, steps: int, dt: float) -> Any:
    """Classical fourth order, by scan."""

    def step(y, _):
        k1 = field(y)
        k2 = field(y + dt / 2 * k1)
        k3 = field(y + dt / 2 * k2)
        return y + dt / 6 * (k1 + 2 * k2 + 2 * k3 + field(y + dt * k3)), None

    return lax.scan(step, y, None, length=steps)[0]


def robertson(y: jax.Array) -> jax.Array:
    """Three reactions of very different rates."""
    a, b, c = y
    return jnp.stack([-0.04 * a + 1e2 * b * c, 0.04 * a - 1e2 * b * c - 3e2 * b**2, 3e2 * b**2])


def implicit_step(y: jax.Array) -> jax.Array:
    """Backward Euler by five steps of Newton's method."""
    residual = lambda z: z - y - 0.1 * robertson(z)
    return lax.fori_loop(0, 5, lambda _, z: z - jnp.linalg.solve(jax.jacfwd(residual)(z), residual(z)), y)


def lorenz96(x: jax.Array) -> jax.Array:
    return (jnp.roll(x, -1) - jnp.roll(x, 2)) * jnp.roll(x, 1) - x + 8


def kalman(p: jax.Array) -> jax.Array:
    """Innovations of a filter whose noises are parameters."""
    move = jnp.asarray([[1.0, 0.1], [0.0, 1.0]])

    def step(state, y):
        m, cov = state
        m, cov = move @ m, move @ cov @ move.T + jnp.exp(p[0]) * jnp.eye(2)
        gain = cov[:, 0] / (cov[0, 0] + jnp.exp(p[1]))
        new = m + gain * (y - m[0]), cov - jnp.outer(gain, cov[0])
        return new, (y - m[0]) / jnp.sqrt(cov[0, 0] + jnp.exp(p[1]))

    return lax.scan(step, (jnp.zeros(2), jnp.eye(2)), _a(4, 6))[1]


def gaussian_process(p: jax.Array) -> jax.Array:
    x, y = jnp.linspace(0, 1, 6), _a(5, 6)
    kernel = jnp.exp(p[0] - (x[:, None] - x[None]) ** 2 / jnp.exp(p[1])) + jnp.exp(p[2]) * jnp.eye(6)
    root = jnp.linalg.cholesky(kernel)
    return linalg.solve_triangular(root, y, lower=True)


def enzyme(p: jax.Array) -> jax.Array:
    """MINPACK-2 3.5 (Kowalik & Osborne)."""
    v = jnp.asarray([4.0, 2, 1, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625])
    return p[0] * (v**2 + p[1] * v) / (v**2 + p[2] * v + p[3])


def thermistor(p: jax.Array) -> jax.Array:
    return p[0] * jnp.exp(p[1] / (45 + 5 * jnp.arange(1, 17) + p[2]))


def bratu(u: jax.Array) -> jax.Array:
    """MINPACK-2, solid fuel ignition on a grid of 4 x 4."""
    g = jnp.pad(u.reshape(4, 4), 1)
    around = g[2:, 1:-1] + g[:-2, 1:-1] + g[1:-1, 2:] + g[1:-1, :-2]
    return (4 * g[1:-1, 1:-1] - around - 0.1 * jnp.exp(g[1:-1, 1:-1])).ravel()


def swirling(u: jax.Array) -> jax.Array:
    """Fourth differences and products of first ones, as in MINPACK-2's flow in a channel."""
    d = lambda x: x[1:] - x[:-1]
    return d(d(d(d(u)))) - 0.1 * (d(u)[1:-2] * d(d(u))[1:-1] - u[2:-2] * d(d(d(u)))[1:])


def chebyquad(x: jax.Array) -> jax.Array:
    two = [jnp.ones_like(x), 2 * x - 1]
    for _ in range(2, 7):
        two.append(2 * (2 * x - 1) * two[-1] - two[-2])
    means = jnp.stack([t.mean() for t in two[1:]])
    i = jnp.arange(1, 7)
    return means - jnp.where(i % 2 == 0, -1 / (i**2 - 1 + (i == 1)), 0)


def sinkhorn(cost: jax.Array) -> jax.Array:
    f = g = jnp.zeros(4)
    for _ in range(10):
        f = -logsumexp(g[None] - cost, 1) - jnp.log(4)
        g = -logsumexp(f[:, None] - cost, 0) - jnp.log(4)
    return jnp.exp(f[:, None] + g[None] - cost)


def attention(x: jax.Array) -> jax.Array:
    q, k, v = (x @ _a(s, 3, 3) for s in (6, 7, 8))
    return jax.nn.softmax(jnp.where(jnp.tril(jnp.ones((4, 4))) > 0, q @ k.T, -jnp.inf)) @ v


def dirichlet(a: jax.Array) -> jax.Array:
    return gammaln(a.sum()) - gammaln(a).sum() + jnp.log(jnp.asarray([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])) @ (a - 1)


def spectrum(x: jax.Array) -> jax.Array:
    return jnp.abs(jnp.fft.rfft(x * jnp.hanning(8))) ** 2


def interpolated(p: jax.Array) -> jax.Array:
    return jnp.interp(jnp.clip(p, 0.05, 0.95), jnp.linspace(0, 1, 9), jnp.sin(jnp.arange(9.0))) * p


def pose(x: jax.Array) -> jax.Array:
    """Distances between the atoms of a ring, sorted."""
    d = x[:, None] - x[None]
    return jnp.sort(jnp.sqrt(jnp.sum(d**2, -1)[jnp.triu_indices(5, 1)]))


def watson(x: jax.Array) -> jax.Array:
    t = jnp.arange(1, 30) / 29
    powers = t[:, None] ** jnp.arange(6)[None]
    slope = powers[:, :-1] @ (jnp.arange(1, 6) * x[1:])
    return jnp.concatenate([slope - (powers @ x) ** 2 - 1, jnp.stack([x[0], x[1] - x[0] ** 2 - 1])])


_BUNDLE = {"rotation": _a(9, 3), "center": _a(10, 3), "focal": jnp.asarray(1.3), "radial": _a(11, 2) / 10}
_MIXTURE = {"weight": _a(13, 3), "mean": _a(14, 3, 2), "log": _a(15, 3, 2), "lower": _a(16, 3)}
PROBLEMS: dict[str, tuple[Callable, Any]] = {
    **{name: (program.fun, jnp.asarray(program.at)) for name, program in SCALAR_PROGRAMS.items()},
    "bundle adjustment": (bundle_adjustment, {**_BUNDLE, "points": _a(12, 5, 3)}),
    "Gaussian mixture": (mixture, _MIXTURE),
    "LSTM": (lstm, _a(17, 5, 12)),
    "hand tracking": (hand, _a(18, 6)),
    "Lorenz 96, Runge-Kutta": (lambda x: runge_kutta(lorenz96, x, 5, 0.02), _a(19, 8)),
    "Robertson, implicit": (implicit_step, jnp.asarray([1.0, 0.01, 0.1])),
    "Kalman filter": (kalman, jnp.asarray([-1.0, 0.3])),
    "Gaussian process": (gaussian_process, jnp.asarray([0.1, -1.0, -2.0])),
    "enzyme reaction": (enzyme, jnp.asarray([0.25, 0.39, 0.415, 0.39])),
    "thermistor": (thermistor, jnp.asarray([0.02, 4.0, 25.0])),
    "solid fuel ignition": (bratu, _a(20, 16)),
    "flow in a channel": (swirling, _a(21, 12)),
    "Chebyquad": (chebyquad, jnp.linspace(0.1, 0.9, 6)),
    "optimal transport": (sinkhorn, _a(22, 4, 4)),
    "attention": (attention, _a(23, 4, 3)),
    "Dirichlet": (dirichlet, jnp.asarray([1.2, 0.7, 2.0])),
    "power spectrum": (spectrum, _a(24, 8)),
    "table look-up": (interpolated, jnp.asarray([0.13, 0.42, 0.77])),
    "sorted distances": (pose, _a(25, 5, 3)),
    "Watson": (watson, _a(26, 6) / 3),
    "three bodies": (lambda x: runge_kutta(gravity, x, 3, 0.01), _a(27, 12)),
}


def gravity(y: jax.Array) -> jax.Array:
    """Positions and velocities of three bodies in the plane."""
    at, speed = y[:6].reshape(3, 2), y[6:]
    apart = at[None] - at[:, None]
    pull = apart / (jnp.sum(apart**2, -1, keepdims=True) + 0.1) ** 1.5
    return jnp.concatenate([speed, pull.sum(1).ravel()])
