"""Optimizers and schedules against their formulas, written out in NumPy."""

import warnings
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from models.config import ConfigError, with_traced
from models.terms import weight_penalty
from training import optimizers as O
from training.optimizers import Constant, Updates, build, learning_rate, next_mean, running_mean

GRADIENTS = np.random.default_rng(0).normal(size=(6, 3))
START = np.array([0.5, -1.0, 2.0])


def path(cfg, gradients=GRADIENTS, updates=Updates(), lr=0.1):
    """Parameters after each of the given gradients."""
    transformation = build(cfg, Constant(), updates, lr, len(gradients))
    params = {"kernel": jnp.asarray(START)}
    state, out = transformation.init(params), []
    for g in gradients:
        change, state = transformation.update({"kernel": jnp.asarray(g)}, state, params)
        params = optax.apply_updates(params, change)
        out.append(np.asarray(params["kernel"]))
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


@pytest.mark.parametrize("stages", [8, 3])
def test_stages_triple_and_end_after_epochs_1_4_13_40_121_364_1093(stages):
    """Burda et al. 2016; a peer's milestones were 2, 5, 14, 28, 41, 122, ... In float32, as a run has it."""
    per_epoch, epochs = 2980, (3**stages - 1) // 2
    rate = learning_rate(O.Tripling(stages), jnp.float32(1e-3), per_epoch * epochs)
    end = np.asarray([1, 4, 13, 40, 121, 364, 1093])[: stages - 1] * per_epoch
    with jax.enable_x64(False):
        before, after = (jax.vmap(rate)(jnp.asarray(e, jnp.int32)) for e in (end - 1, end))
    factors = np.asarray([10.0, 7.2, 5.2, 3.7, 2.7, 1.9, 1.4, 1.0])[:stages] * 1e-4
    np.testing.assert_allclose(before, factors[:-1], rtol=1e-6)
    np.testing.assert_allclose(after, factors[1:], rtol=1e-6)


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


def test_warm_up_precedes_the_schedule():
    """A cosine after a warm-up of half of 100 updates: lr/50 first, lr at the 50th, half-way down at 75, 0 at 100."""
    rate = learning_rate(O.Cosine(), 0.2, 100, 0.5)
    got = [float(rate(jnp.asarray(step))) for step in (0, 24, 49, 50, 75, 100)]
    np.testing.assert_allclose(got, 0.2 * np.array([1 / 50, 0.5, 1, 1, 0.5, 0]), atol=1e-12)
    drops = learning_rate(O.Steps(factor=0.1, drops=1), 1.0, 20, 0.2)
    np.testing.assert_allclose([float(drops(jnp.asarray(s))) for s in (3, 4, 11, 12)], [1, 1, 1, 0.1], rtol=1e-9)


@pytest.mark.parametrize("cfg", [O.AdamW(weight_decay=1.0), O.Lion(weight_decay=1.0), O.Optax(name="adamw")])
def test_weight_decay_acts_on_kernels_alone(cfg):
    """Without gradients a decayed parameter shrinks and any other stays where it is."""
    names = ("kernel", "bias", "scale", "log_scale")
    params = {name: jnp.full((2, 2), 3.0) for name in names}
    transformation = build(cfg, Constant(), Updates(), 0.1, 10)
    zero = jax.tree.map(jnp.zeros_like, params)
    change, _ = transformation.update(zero, transformation.init(params), params)
    decay = 1e-4 if isinstance(cfg, O.Optax) else 1.0
    np.testing.assert_allclose(change["kernel"], -0.1 * decay * 3.0, rtol=1e-9)
    for name in names[1:]:
        np.testing.assert_array_equal(change[name], 0)


def test_the_running_mean_is_that_of_the_updates_so_far():
    """Against the sum of decay^k times each update's parameters over the sum of the weights: no initial parameters."""
    values = np.random.default_rng(0).normal(size=8)
    mean = {"a": jnp.asarray(1e6)}  # where a run starts: it must not show
    for t, value in enumerate(values, 1):
        mean = running_mean(mean, {"a": jnp.asarray(value)}, 0.999, jnp.asarray(t))
        weights = 0.999 ** np.arange(t)[::-1]
        np.testing.assert_allclose(mean["a"], np.sum(weights * values[:t]) / np.sum(weights), rtol=1e-6)


def test_the_running_mean_moves_per_update_under_accumulation():
    updates = Updates(ema=0.9, accumulate=3)
    state = SimpleNamespace(ema={"a": jnp.asarray(7.0)}, step=jnp.asarray(0))
    seen = []
    for step in range(9):
        state.step = jnp.asarray(step)
        state.ema = next_mean(updates, state, {"a": jnp.asarray(float(step // 3 if step % 3 < 2 else step // 3 + 1))})
        seen.append(float(state.ema["a"]))
    one, two, three = 1.0, (2 + 0.9 * 1) / 1.9, (3 + 0.9 * 2 + 0.81 * 1) / 2.71
    np.testing.assert_allclose(seen, [7, 7, one, one, one, two, two, two, three], rtol=1e-6)


@pytest.mark.parametrize("name", O.optax_names())
def test_every_offered_name_builds_and_moves(name):
    params = {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one of them asks for a key of its noise
        transformation = build(O.Optax(name=name), O.Cosine(), Updates(), 0.1, 10)
        change, _ = transformation.update(params, transformation.init(params), params)
    assert jax.tree.structure(change) == jax.tree.structure(params)
    assert np.all(np.isfinite(change["kernel"]))
    assert np.any(change["kernel"] != 0)


@pytest.mark.parametrize("name", O.NO_SCHEDULE)
def test_names_that_take_no_schedule_are_refused_in_one_line(name):
    with pytest.raises(ConfigError, match=rf"optax's {name} takes no learning rate that changes") as error:
        O.Optax(name=name).check()
    assert "\n" not in str(error.value)


def test_weight_penalties_are_summed_in_float32():
    """1e6 weights of 0.01: their squares sum to 100, in bfloat16 to no more than a few."""
    w = jnp.full((1000, 1000), 0.01, jnp.bfloat16)
    expected = 1e6 * float(w[0, 0]) ** 2
    np.testing.assert_allclose(weight_penalty({"kernel": w}, 0.0, 1.0), expected, rtol=1e-4)


def test_unknown_optax_name_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match=r"adamx.*adamax"):
        build(O.Optax(name="adamx"), Constant(), Updates(), 0.1, 10)
