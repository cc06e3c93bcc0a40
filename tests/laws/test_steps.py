"""Every step has noise and examples of its own; what moves beside the parameters moves by its formula."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import train as T
from models import Dense, Model
from models.config import replace_at, with_traced
from models.objectives import Denoising, Reconstruction
from training.examples import Examples, fix_binary
from training.optimizers import SGD

RNG = np.random.default_rng(0)
EXAMPLES = Examples(jnp.asarray(RNG.integers(0, 256, (32, 4, 4, 1), dtype=np.uint8)), (0.0, 255.0))
KEY = jax.random.key(0)
QUIET = T.Config(
    model=Model(encoder=Dense(hidden=(8,)), latent=3, posterior=replace_at(Model(), "posterior", "point").posterior),
    objective=Reconstruction(),
    optimizer=SGD(),
    batch_size=8,
    epochs=2,
)
# One source of randomness each; dropout where only the encoder has it, and where only the decoder has.
NOISY = {
    "posterior": dataclasses.replace(QUIET, model=Model(encoder=Dense(hidden=(8,)), latent=3), objective=T.ELBO()),
    "corruption": dataclasses.replace(QUIET, objective=Denoising()),
    "binarisation": dataclasses.replace(QUIET, binarise="dynamic"),
    "encoder": replace_at(replace_at(QUIET, "model.encoder.dropout", 0.5), "model.decoder", "dense"),
    "decoder": replace_at(replace_at(QUIET, "model.decoder", "dense"), "model.decoder.dropout", 0.5),
}


init = jax.jit(T.init)  # one program instead of one an operation
evaluate = jax.jit(T.evaluate)


@jax.jit
def step(state, config, keys):
    """A step on the first eight examples, its sums begun anew."""
    optimizer = T.make_optimizer(config, len(EXAMPLES))
    return T.train_step(T.start_epoch(state), config, optimizer, keys, EXAMPLES.take(jnp.arange(8)))


def losses(config: T.Config, keys, steps: int = 3) -> list[float]:
    """The loss of the same batch and the same parameters at successive steps: the learning rate is zero."""
    config = with_traced(config, lr=0.0)
    state, found = init(config, KEY, EXAMPLES), []
    for _ in range(steps):
        state = step(state, config, keys)
        found.append(float(dict(state.sums.items())["loss"]))
    return found


@pytest.mark.parametrize("name", NOISY)
def test_no_two_steps_draw_the_same_noise(name):
    found = losses(NOISY[name], KEY)
    assert len(set(found)) == 3
    assert losses(NOISY[name], KEY) == found  # and the same run draws the same again
    assert not set(losses(NOISY[name], jax.random.key(1))) & set(found)


def test_without_a_source_of_noise_steps_are_equal():
    assert len(set(losses(QUIET, KEY))) == 1


@pytest.mark.parametrize("config", NOISY.values(), ids=NOISY)
def test_no_key_is_used_twice(config):
    """JAX's own checker follows every key through a step. (Metrics of an evaluation share their draw, by intent.)"""
    with jax.debug_key_reuse(True):
        step(init(config, KEY, EXAMPLES), config, jax.random.key(1))


def test_every_example_of_an_epoch_is_seen_in_its_turn():
    """One example is infinite: the first step whose loss is not finite is the one that holds it, wherever it stands."""
    config = dataclasses.replace(QUIET, epochs=1)
    four = jax.jit(lambda examples: T.train_steps(T.init(config, KEY, examples), config, KEY, examples, order, 4))
    x = np.asarray(EXAMPLES.x, np.float64) / 255
    order = T.epoch_order(KEY, 0, 32)
    for position in (0, 7, 8, 20, 31):
        spoiled = x.copy()
        spoiled[int(order[position])] = np.inf
        assert int(four(Examples(jnp.asarray(spoiled))).bad_step) == position // 8


def test_batches_of_an_evaluation_draw_noise_of_their_own():
    """The same 512 examples twice: with the noise of the first batch again the means would be the same."""
    config = NOISY["posterior"]
    half = Examples(jnp.tile(EXAMPLES.x, (16, 1, 1, 1)), EXAMPLES.range)
    whole = Examples(jnp.tile(half.x, (2, 1, 1, 1)), EXAMPLES.range)
    state = init(config, KEY, EXAMPLES)
    one, two = (evaluate(config, state, e, KEY) for e in (half, whole))
    np.testing.assert_allclose(one["mse"], two["mse"], rtol=1e-9)  # no noise in it
    assert abs(float(one["nll_nats"] - two["nll_nats"])) > 1e-6


def test_the_mean_of_parameters_forgets_by_its_decay():
    """After three steps: the sum of 0.9^k times the parameters of k steps ago, over the sum of the weights."""
    config = replace_at(QUIET, "updates.ema", 0.9)
    order, state, seen = T.epoch_order(KEY, 0, 32), init(config, KEY, EXAMPLES), []
    once = jax.jit(lambda state: T.train_steps(state, config, KEY, EXAMPLES, order, 1))
    for _ in range(3):
        state = once(state)
        seen.append(jax.tree.leaves(nnx.state(state.model, nnx.Param)))
    for m, *values in zip(jax.tree.leaves(state.ema), *seen, strict=True):
        want = (0.81 * values[0] + 0.9 * values[1] + values[2]) / 2.71
        np.testing.assert_allclose(m, want, rtol=1e-9)
    assert any(float(jnp.abs(a - b).max()) > 1e-6 for a, b in zip(seen[0], seen[2], strict=True))


def test_each_split_draws_its_own_bits():
    a, b = (fix_binary(EXAMPLES, salt).x for salt in (0, 1))
    assert not np.array_equal(a, b)
