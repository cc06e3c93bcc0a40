"""Optimizers and schedules against their formulas, written out in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.config import ConfigError, with_traced
from training import optimizers as O
from training.optimizers import Constant, Updates, build, learning_rate, running_mean

GRADIENTS = np.random.default_rng(0).normal(size=(6, 3))
START = np.array([0.5, -1.0, 2.0])


def path(cfg, gradients=GRADIENTS, updates=Updates(), lr=0.1):
    """Parameters after each of the given gradients."""
    transformation = build(cfg, Constant(), updates, lr, len(gradients))
    params = jnp.asarray(START)
    state, out = transformation.init(params), []
    for g in gradients:
        change, state = transformation.update(jnp.asarray(g), state, params)
        params = params + change
        out.append(np.asarray(params))
    return np.array(out)


def reference(step):
    """Parameters after each gradient when `step(memory, w, g, t) -> change`."""
    w, memory, out = START.copy(), {}, []
    for t, g in enumerate(GRADIENTS, 1):
        w = w + step(memory, w, g, t)
        out.append(w)
    return np.array(out)


def momentum(nesterov):
    def step(m, w, g, t):
        m["v"] = 0.9 * m.get("v", 0) + g
        return -0.1 * (g + 0.9 * m["v"] if nesterov else m["v"])

    return step


def adam(decay):
    def step(m, w, g, t):
        m["m"] = 0.9 * m.get("m", 0) + 0.1 * g
        m["v"] = 0.999 * m.get("v", 0) + 0.001 * g**2
        mean, square = m["m"] / (1 - 0.9**t), m["v"] / (1 - 0.999**t)
        return -0.1 * (mean / (np.sqrt(square) + 1e-8) + decay * w)

    return step


def adagrad(m, w, g, t):
    m["s"] = m.get("s", 0.1) + g**2
    return -0.1 * g / np.sqrt(m["s"] + 1e-7)


def rmsprop(m, w, g, t):
    m["s"] = 0.9 * m.get("s", 0) + 0.1 * g**2
    return -0.1 * g / np.sqrt(m["s"] + 1e-8)


def lion(m, w, g, t):
    direction = np.sign(0.9 * m.get("m", 0) + 0.1 * g)
    m["m"] = 0.99 * m.get("m", 0) + 0.01 * g
    return -0.1 * (direction + 1e-3 * w)


@pytest.mark.parametrize(
    ("cfg", "step"),
    [
        (O.SGD(), lambda m, w, g, t: -0.1 * g),
        (O.Momentum(), momentum(False)),
        (O.Momentum(nesterov=True), momentum(True)),
        (O.AdaGrad(), adagrad),
        (O.RMSprop(), rmsprop),
        (O.Adam(), adam(0.0)),
        (O.AdamW(), adam(1e-4)),
        (O.Lion(), lion),
        (O.Optax(name="sign_sgd"), lambda m, w, g, t: -0.1 * np.sign(g)),
    ],
    ids=lambda v: type(v).__name__,
)
def test_update_rule(cfg, step):
    np.testing.assert_allclose(path(cfg), reference(step), rtol=1e-9)


def test_schedules_at_start_middle_and_end():
    steps, lr = 100, 0.2
    at = lambda schedule, step, warmup=0.0: float(learning_rate(schedule, lr, steps, warmup)(jnp.asarray(step)))
    np.testing.assert_allclose([at(O.Constant(), t) for t in (0, 50, 99)], lr)
    np.testing.assert_allclose(at(O.Exponential(final=0.01), 50), lr * 0.1, rtol=1e-9)
    np.testing.assert_allclose(at(O.Exponential(final=0.01), 100), lr * 0.01, rtol=1e-9)
    drops = [at(O.Steps(factor=0.1, drops=2), t) for t in (0, 33, 34, 66, 67, 99)]
    np.testing.assert_allclose(drops, lr * np.array([1, 1, 0.1, 0.1, 0.01, 0.01]), rtol=1e-9)
    np.testing.assert_allclose(at(O.Cosine(final=0.1), 50), lr * 0.55, rtol=1e-9)
    np.testing.assert_allclose(at(O.Cosine(), 100), 0, atol=1e-12)
    np.testing.assert_allclose([at(O.Constant(), t, 0.1) for t in (0, 4, 9, 10)], lr * np.array([0.1, 0.5, 1, 1]))


def test_schedule_and_lr_may_be_traced_and_stacked():
    rate = jax.vmap(lambda lr, final: learning_rate(with_traced(O.Exponential(), final=final), lr, 10)(jnp.asarray(10)))
    np.testing.assert_allclose(rate(jnp.array([1.0, 2.0]), jnp.array([0.1, 0.5])), [0.1, 1.0], rtol=1e-9)


def test_clipping_bounds_the_global_norm():
    got = path(O.SGD(), updates=Updates(clip=0.5))
    scaled = [g * min(1, 0.5 / np.linalg.norm(g)) for g in GRADIENTS]
    np.testing.assert_allclose(got, START - 0.1 * np.cumsum(scaled, axis=0), rtol=1e-9)


def test_accumulation_averages_and_then_moves():
    got = path(O.SGD(), updates=Updates(accumulate=2))
    np.testing.assert_allclose(got[0], START)
    np.testing.assert_allclose(got[1], START - 0.1 * GRADIENTS[:2].mean(0), rtol=1e-9)


def test_accumulation_runs_the_schedule_over_updates():
    """Six batches, two to an update: three updates, over which the rate falls to a thousandth."""
    transformation = build(O.SGD(), O.Exponential(final=1e-3), Updates(accumulate=2), 0.1, 6)
    w = jnp.asarray(START)
    state, want = transformation.init(w), START.copy()
    for t, g in enumerate(GRADIENTS):
        change, state = transformation.update(jnp.asarray(g), state, w)
        w = w + change
        if t % 2:
            want = want - 0.1 * 1e-3 ** ((t // 2) / 3) * GRADIENTS[t - 1 : t + 1].mean(0)
            np.testing.assert_allclose(w, want, rtol=1e-9)


def test_running_mean():
    np.testing.assert_allclose(running_mean({"a": 1.0}, {"a": 3.0}, 0.75)["a"], 1.5)


def test_unknown_optax_name_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match=r"adamx.*adamax"):
        build(O.Optax(name="adamx"), Constant(), Updates(), 0.1, 10)
