"""The host's dispatches are cuts of the steps of `train.train`: the same bits for any chunking."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import train
from data import Dataset, Split
from models import Conv, Dense, Model
from models.objectives import Denoising
from training import host
from training.examples import Examples
from training.inputs import Inputs

pytestmark = pytest.mark.nnx_tree
KEY = jax.random.key(3)
SMALL = train.Config(model=Model(encoder=Dense(hidden=(8,)), latent=3), epochs=2, batch_size=16)
# all that a step keeps or draws: batch statistics, dropout, codes, corruption
FULL = Model(encoder=Conv(channels=(4,), norm="batch", dropout=0.2), latent=3)


@functools.cache
def splits():
    rng = np.random.default_rng(0)
    draw = lambda n: Examples(jnp.asarray(rng.integers(0, 256, (n, 4, 4, 1), dtype=np.uint8)), (0.0, 255.0))
    return {"train": draw(7 * 16 + 5), "validation": draw(20)}


def cut(config, dispatch, counts):
    """The last state of a run whose dispatches take the numbers of steps that `counts` says."""
    arrays = {part: Split(np.asarray(examples.x)) for part, examples in splits().items()}
    dataset = Dataset("noise", "generated", arrays, (4, 4, 1), (0, 255), None, {})
    pieces = host.programs(train.CORE, config, KEY, Inputs(splits(), dataset), dispatch)
    state = jax.jit(lambda c: train.init(c, train.run_keys(KEY)[0], splits()["train"]))(config)
    for epoch in range(config.epochs):
        state, left, order = pieces.start_epoch(state), pieces.per_epoch, pieces.order(epoch)
        while left:
            count = min(left, next(counts))
            state, left = pieces.advance(state, order, count), left - count
    return state


def endless(numbers):
    while True:
        yield int(numbers())


def test_any_cuts_give_the_bits_of_the_pure_loop():
    config, rng = dataclasses.replace(SMALL, model=FULL, objective=Denoising()), np.random.default_rng(1)
    whole = jax.jit(train.train)(config, KEY, splits()).state
    cuts = {
        "random": ("loop", endless(lambda: rng.integers(1, 5))),
        "one by one in the loop": ("loop", endless(lambda: 1)),
        "whole epochs": ("loop", endless(lambda: 99)),
        "a call for each step": ("step", endless(lambda: rng.integers(1, 5))),
    }
    for name, (dispatch, counts) in cuts.items():
        state = cut(config, dispatch, counts)
        for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(state), strict=True):
            np.testing.assert_array_equal(a, b, err_msg=name)


def test_a_config_known_to_the_compiler_gives_the_bits_of_one_that_is_not():
    given = jax.jit(train.train)(SMALL, KEY, splits()).state
    known = jax.jit(lambda: train.train(SMALL, KEY, splits()))().state
    for a, b in zip(jax.tree.leaves(given.model), jax.tree.leaves(known.model), strict=True):
        np.testing.assert_array_equal(a, b)


def test_every_step_draws_its_own_noise():
    """With one example and no learning a step's loss depends on its noise alone: no two steps may agree."""
    one = {"train": Examples(jnp.broadcast_to(splits()["train"].x[:1], (64, 4, 4, 1)), (0.0, 255.0))}
    still = dataclasses.replace(SMALL, lr=1e-30, epochs=3)
    k_init, k_order, k_step = train.run_keys(KEY)
    state = jax.jit(train.init)(still, k_init, one["train"])
    step = jax.jit(lambda s, o: train.train_steps(s, still, k_step, one["train"], o, 1))
    losses = []
    for number in range(8):
        order = train.epoch_order(k_order, number // 4, 64)
        state = step(train.start_epoch(state), order)
        losses.append(float(state.sums["nll"]))
    assert len(set(losses)) == 8
    means = jax.jit(train.train)(still, KEY, one).history["train"]["nll"]
    assert len(set(map(float, means))) == 3
    np.testing.assert_allclose(means[0], np.mean(losses[:4]), rtol=1e-12)
