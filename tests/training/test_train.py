"""A run is a pure function of (config, key, data): sweeps, shardings, chunks and restarts change nothing."""

import dataclasses
import functools
import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import train as T
from models import Conv, Dense, Model, posteriors
from models.config import flat, replace_at, with_traced
from models.objectives import Denoising, Reconstruction
from models.terms import Adversarial
from tests.conftest import ROOT
from training import optimizers
from training.examples import Examples, binarise, fix_binary

RNG = np.random.default_rng(0)
EXAMPLES = Examples(jnp.asarray(RNG.integers(0, 256, (70, 4, 4, 1), dtype=np.uint8)), (0.0, 255.0))
BASE = T.Config(model=Model(encoder=Dense(hidden=(8,)), latent=3), epochs=2, batch_size=16)
SPLITS = {"train": EXAMPLES}
ADVERSARIAL = dataclasses.replace(BASE, terms=(Adversarial(network=Dense((5,))),))
KEY = jax.random.key(0)
TRAIN = jax.jit(T.train)  # one for all tests: configs of one structure share its program


@functools.cache
def result(config):
    """Trained parameters and metrics of one config, flattened."""
    run = TRAIN(config, KEY, SPLITS)
    leaves = jax.tree.leaves(nnx.state(T.trained_model(config, run.state), nnx.Param))
    return np.concatenate([np.ravel(leaf) for leaf in leaves]), run.history["train"]


def stack(configs):
    """A stack of configs of one structure."""
    return jax.tree.map(lambda *leaves: jnp.asarray(leaves), *configs)


def test_training_finds_the_single_answer():
    """Equal examples need no code: minus the ELBO falls to their entropy, Σ H(x_i), and to no less."""
    x = jnp.broadcast_to(EXAMPLES.x[:1], EXAMPLES.x.shape)
    config = dataclasses.replace(BASE, epochs=150, lr=3e-2)
    history = TRAIN(config, KEY, {"train": Examples(x, EXAMPLES.range)}).history["train"]
    p = np.asarray(x[0], float) / 255
    entropy = -np.sum(p * np.log(p) + (1 - p) * np.log1p(-p))
    assert entropy < history["loss"][-1] < 1.01 * entropy
    assert history["loss"][0] > 1.2 * entropy


def test_row_of_a_sweep_equals_the_run_alone():
    configs = [BASE, dataclasses.replace(BASE, lr=1e-2), replace_at(BASE, "objective.beta", 4.0)]
    together = jax.jit(jax.vmap(T.train, (0, None, None)))(stack(configs), KEY, SPLITS).state
    for row, config in enumerate(configs):
        alone = TRAIN(config, KEY, SPLITS).state
        for a, b in zip(jax.tree.leaves(together.model), jax.tree.leaves(alone.model), strict=True):
            np.testing.assert_allclose(a[row], b, rtol=1e-4, atol=1e-6)


# One base per field whose effect needs company, and a second value where the default one has no neighbour.
BASES = {
    "model.decoder": BASE,
    "schedule.final": dataclasses.replace(BASE, schedule=optimizers.Cosine()),
    "schedule.factor": dataclasses.replace(BASE, schedule=optimizers.Steps()),
    "schedule.drops": dataclasses.replace(BASE, schedule=optimizers.Steps()),
    "penalty.l1": dataclasses.replace(BASE, penalty=T.Weights()),
    "penalty.l2": dataclasses.replace(BASE, penalty=T.Weights()),
    **{
        f"optimizer.{f.name}": dataclasses.replace(BASE, optimizer=cls())
        for cls in (optimizers.Momentum, optimizers.AdaGrad, optimizers.RMSprop, optimizers.Lion, optimizers.AdamW)
        for f in dataclasses.fields(cls)
    },
    "optimizer.name": dataclasses.replace(BASE, optimizer=optimizers.Optax()),
    "updates.decoder_waits": dataclasses.replace(BASE, updates=optimizers.Updates(decoder_every=2)),
    **dict.fromkeys(("opponent.optimizer", "opponent.lr", "opponent.turns"), ADVERSARIAL),
    "opponent.optimizer.b1": ADVERSARIAL,
    "opponent.optimizer.b2": ADVERSARIAL,
    "opponent.optimizer.eps": ADVERSARIAL,
}
VALUES = {
    "binarise": "dynamic",
    "terms": ["mmd"],
    "opponent.optimizer": "sgd",
    "opponent.turns": 2,
    "opponent.optimizer.eps": 1.0,
    "updates.clip": 0.01,
    "updates.ema": 0.9,
    "updates.warmup": 1.0,
    "updates.accumulate": 2,
    "updates.decoder_every": 3,
    "updates.decoder_waits": 2,
    "lr": 1e-2,
    "epochs": 3,
    "batch_size": 8,
    "compute_dtype": "bfloat16",
    "penalty.l1": 0.1,
    "penalty.l2": 0.1,
    "optimizer.name": "radam",
    "optimizer.eps": 1.0,
    "optimizer.initial": 2.0,
    "schedule.final": 0.5,
    "schedule.drops": 1,
    "schedule.factor": 0.9,
    "optimizer.weight_decay": 1.0,
    "penalty": "weights",
    "optimizer": "sgd",
    "schedule": "cosine",
}
OWN = [p for p, _ in flat(T.Config()) if not p.startswith(("model.", "objective."))]  # theirs: tests/test_objectives.py
READING = {"scale", "split", "label", "ignore", "resize", "channels", "kind"}  # what is read: test_inputs, tests/data
HOST = {"dataset", "read", "patience", "criterion", "seed", "matmul_precision"} | READING  # see the tests below


def neighbours(path):
    """A config and one that differs in the field alone."""
    base = BASES.get(path, BASE)
    value = VALUES.get(path)
    if value is None:
        old = dict(flat(base))[path]
        value = (not old) if isinstance(old, bool) else old * 0.5
    return base, replace_at(base, path, value)


def compiles(path):
    """Whether a field takes programs beside that of BASE; that it changes them is a law of `test_fields`."""
    return path != "epochs" and any(jax.tree.structure(c) != jax.tree.structure(BASE) for c in neighbours(path))


PATHS = sorted({*OWN, *BASES} - HOST - {"model.decoder", "objective"})


@pytest.mark.parametrize("path", [pytest.param(p, marks=pytest.mark.campaign) if compiles(p) else p for p in PATHS])
def test_every_field_changes_the_result(path):
    base, changed = neighbours(path)
    a, b = result(base)[0], result(changed)[0]
    assert not np.allclose(a, b, rtol=1e-7, atol=0), path


def test_an_aggressive_encoder_moves_at_every_step_the_decoder_at_every_third_until_the_wait_is_over():
    config = dataclasses.replace(BASE, updates=optimizers.Updates(decoder_every=3, decoder_waits=4))
    state, moved = T.init(config, KEY, EXAMPLES), []
    step = jax.jit(lambda s: T.train_step(s, config, T.make_optimizer(config, 70), KEY, EXAMPLES.take(jnp.arange(16))))
    for _ in range(6):
        new = step(state)
        parts = ((getattr(s.model, part) for s in (state, new)) for part in ("encoder", "decoder"))
        differ = lambda a, b: any(map(np.any, jax.tree.leaves(jax.tree.map(jnp.not_equal, a, b))))
        moved.append(tuple(differ(nnx.state(a), nnx.state(b)) for a, b in parts))
        state = new
    assert moved == [(True, False), (True, False), (True, True), (True, False), (True, True), (True, True)]


def test_matmul_precision_reaches_the_program():
    text = {
        p: str(jax.make_jaxpr(T.train)(dataclasses.replace(BASE, matmul_precision=p), KEY, SPLITS))
        for p in ("default", "highest")
    }
    assert "HIGHEST" in text["highest"]
    assert "HIGHEST" not in text["default"]


def test_exact_mean_over_a_short_last_batch():
    """70 examples in batches of 512, and 600 in batches that do not divide, against one example at a time."""
    config = dataclasses.replace(BASE, model=dataclasses.replace(BASE.model, posterior=posteriors.PointPosterior()))
    config = dataclasses.replace(config, objective=Reconstruction())
    x = jnp.asarray(RNG.integers(0, 256, (600, 4, 4, 1), dtype=np.uint8))
    state = T.init(config, KEY, Examples(x, (0.0, 255.0)))
    got = T.evaluate(config, state, Examples(x, (0.0, 255.0)), KEY)
    model = state.model
    scaled = x / 255.0
    mse = jnp.mean((model.decode(model.encode(scaled).mean).mean - scaled) ** 2)
    np.testing.assert_allclose(got["mse"], mse, rtol=1e-6)
    np.testing.assert_allclose(got["rmse"], jnp.sqrt(mse), rtol=1e-6)


def test_batch_statistics_move_and_dropout_is_off_in_evaluation():
    model = Model(encoder=Dense(hidden=(8,), norm="batch", dropout=0.5), latent=3)
    config = dataclasses.replace(BASE, model=model)
    before = T.init(config, KEY, EXAMPLES)
    after = TRAIN(config, KEY, SPLITS).state
    stats = [jax.tree.leaves(nnx.state(s.model, nnx.BatchStat)) for s in (before, after)]
    assert stats[0]
    assert any(not np.allclose(a, b) for a, b in zip(*stats, strict=True))
    x = EXAMPLES.take(jnp.arange(4))
    alone = jnp.concatenate([after.model.encode(x[i : i + 1]).mean for i in range(4)])
    np.testing.assert_allclose(after.model.encode(x).mean, alone, rtol=1e-12)  # no statistics of the batch, no dropout
    noisy = [after.model.encode(x, jax.random.key(k)).mean for k in range(2)]
    assert not np.allclose(*noisy)  # in training mode dropout draws


def test_convolutional_training_step():
    config = dataclasses.replace(BASE, model=Model(encoder=Conv(channels=(4, 8)), latent=3), objective=Denoising())
    state = TRAIN(config, KEY, SPLITS).state
    assert int(state.bad_step) == -1
    assert int(state.step) == 2 * (70 // 16)


def test_a_non_finite_term_is_named_with_its_step():
    """One example is infinite: the loss of the batch that holds it is the first thing that is not finite."""
    x = np.asarray(EXAMPLES.x[:64], np.float64) / 255
    x[37] = np.inf
    splits = {"train": Examples(jnp.asarray(x))}
    config = dataclasses.replace(BASE, epochs=1)
    order = T.epoch_order(T.run_keys(KEY)[1], 0, 64)
    state = TRAIN(config, KEY, splits).state
    assert int(state.bad_step) == int(np.argmax(np.asarray(order) == 37)) // 16
    assert next(name for name, bad in state.bad_terms.items() if bad) == "nll"


def test_a_non_finite_gradient_is_named_with_its_step():
    """sqrt(0) has a finite value and an infinite slope: step 0 computes a fine loss and ruins the parameters."""

    @dataclasses.dataclass(frozen=True)
    class Steep(Reconstruction):
        def __call__(self, model, x, key, training=True):
            loss, terms, done = super().__call__(model, x, key, training)
            return loss + jnp.sqrt(0 * loss), terms, done

    point = dataclasses.replace(
        BASE, model=dataclasses.replace(BASE.model, posterior=posteriors.PointPosterior()), epochs=1
    )
    jax.tree_util.register_static(Steep)
    config = with_traced(point, objective=Steep())
    state = T.init(config, KEY, EXAMPLES)
    step = jax.jit(T.train_steps)
    state = step(state, config, KEY, EXAMPLES, T.epoch_order(KEY, 0, 70), 1)
    assert int(state.bad_step) == 0
    assert [name for name, bad in state.bad_terms.items() if bad] == ["gradient"]


def test_every_epoch_visits_examples_at_most_once_and_in_a_new_order():
    orders = [np.asarray(T.epoch_order(KEY, e, 70)) for e in range(2)]
    for order in orders:
        assert sorted(order) == list(range(70))
    assert not np.array_equal(*orders)


def test_binarisation():
    x = jnp.full((4000, 2), 0.3)
    drawn = binarise(x, "dynamic", KEY)
    assert set(np.unique(drawn)) == {0.0, 1.0}
    assert abs(float(drawn.mean()) - 0.3) < 5 * np.sqrt(0.21 / 8000)
    np.testing.assert_array_equal(binarise(x, "threshold", KEY), 0 * x)
    a, b = fix_binary(EXAMPLES, 0), fix_binary(EXAMPLES, 0)
    np.testing.assert_array_equal(a.x, b.x)
    assert set(np.unique(a.take(jnp.arange(70)))) == {0.0, 1.0}


def test_gradients_on_eight_devices_equal_those_on_one():
    """Adam's first update flips sign on rounding noise of zero gradients, so gradients are compared, not weights."""
    code = textwrap.dedent("""
        import jax, jax.numpy as jnp, numpy as np
        import train as T
        from models import Dense, Model, posteriors, priors
        from models.objectives import Denoising
        from models.terms import Adversarial, Commitment
        from training.devices import batch_mesh
        from training.examples import Examples
        from training.optimizers import SGD
        assert len(jax.devices()) == 8
        x = np.random.default_rng(0).integers(0, 256, (64, 16), dtype=np.uint8)
        e = Examples(jnp.asarray(x), (0.0, 255.0))
        book = Model(encoder=Dense(hidden=(8,)), latent=4, posterior=posteriors.VQPosterior(entries=5, width=2),
                     prior=priors.CodesPrior())
        # noise of every example, a second player and a codebook
        played = dict(model=book, objective=Denoising(), terms=(Commitment(), Adversarial()))
        key = jax.random.key(0)
        c = T.Config(batch_size=64, epochs=1, optimizer=SGD(), lr=1.0, **played)
        step = lambda: jax.jit(lambda s: T.train_step(s, c, T.make_optimizer(c, 64), key, e.take(jnp.arange(64))))
        state = jax.jit(T.init)(c, key, e)
        alone = step()(state)
        with jax.set_mesh(batch_mesh(64)):
            f = step().lower(state).compile()
            many = f(state)
        assert "all-reduce" in f.as_text(), "the batch was not split"
        for a, b, s in zip(*map(jax.tree.leaves, (alone.model, many.model, state.model))):
            np.testing.assert_allclose(a - s, b - s, rtol=1e-9, atol=1e-7)
        for a, b in zip(*map(jax.tree.leaves, (alone.rivals, many.rivals))):
            np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-7)
        assert len(state.rivals) == 1
        print("same")
    """)
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
    env = {"XLA_FLAGS": flags, "JAX_ENABLE_X64": "1", "JAX_PLATFORMS": "cpu"}
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | env, capture_output=True, text=True, timeout=300
    )
    assert out.stdout.strip() == "same", out.stderr[-2000:]
