"""Unobserved values have no part in what a batch is judged by, and an encoder can be told which they are."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models import ELBO, Autoencoder, Batch, ConfigError, Dense, Mirror, Model, Recurrent
from models.batch import Pass
from models.distributions import Normal, OptimalNormal
from models.likelihoods import NormalLikelihood, TokensLikelihood
from models.metrics import per_example
from models.networks import Dictionary
from models.posteriors import PointPosterior
from models.terms import Contractive

RNG = np.random.default_rng(0)


def test_the_optimal_scale_is_that_of_the_observed_values():
    """Against a search: no other scale gives the observed values of the batch a higher density."""
    x, mean = (jnp.asarray(RNG.normal(size=(6, 5))) for _ in range(2))
    mask = jnp.asarray(RNG.random((6, 5)) < 0.6)
    best = jnp.sum(OptimalNormal(mean, jnp.zeros((1, 1))).log_prob(x, mask))
    others = [float(jnp.sum(Normal(mean, jnp.full((1, 1), s)).log_prob(x, mask))) for s in np.linspace(-2, 2, 401)]
    np.testing.assert_allclose(best, max(others), atol=1e-3)
    assert best >= max(others)
    hidden = jnp.where(mask, x, 1e6)
    seen, blind = (OptimalNormal(mean, jnp.zeros((1, 1))).log_prob(values, mask) for values in (x, hidden))
    np.testing.assert_array_equal(seen, blind)


X = jnp.asarray(RNG.normal(size=(4, 6)))
MASK = jnp.asarray(RNG.random((4, 6)) < 0.6)
CFG = Model(encoder=Dense((5,), "tanh"), latent=2, likelihood=NormalLikelihood(), marks="on")


def test_a_marked_encoder_tells_a_missing_value_from_a_zero_and_sees_nothing_else_of_it():
    """Its affine first layer answers W [x m; m] by hand; what stands at a missing value has no effect, nor a slope."""
    model = Autoencoder(CFG, (6,), rngs=nnx.Rngs(0))
    batch = Batch(jnp.where(MASK, X, 0), None, MASK)
    layer, head = model.encoder.hidden[0].layer, model.encoder.head
    both = jnp.concatenate([jnp.where(MASK, X, 0), MASK.astype(X.dtype)], 1)
    np.testing.assert_allclose(model.numbers(model.sees(batch)), head(jnp.tanh(layer(both))), rtol=1e-12)
    zeros = model.encode(batch.x).mean
    assert jnp.abs(model.encode(model.sees(batch)).mean - zeros).max() > 1e-2
    bound = lambda x: per_example(model, Batch(x, None, MASK), jax.random.key(0))["negative_elbo_nats"]
    value, other = bound(X), bound(X + 9.0 * ~MASK)
    slope = jax.grad(lambda x: jnp.sum(model.encode(model.sees(Batch(x, None, MASK))).mean))(X)
    np.testing.assert_array_equal(value, other)
    assert jnp.isfinite(value).all()
    np.testing.assert_array_equal(slope[~MASK], 0)
    plain = Autoencoder(dataclasses.replace(CFG, marks="auto"), (6,), rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(plain.sees(batch), batch.x)
    assert plain.encoder.hidden[0].layer.kernel.shape == (6, 5)


@pytest.mark.parametrize("marks", ["on", "off"])
def test_what_is_hidden_from_the_encoder_is_judged_and_only_in_training(marks):
    """Hide all: codes are those of an example without values, the nll of all that was observed; hide none: ELBO."""
    model = Autoencoder(dataclasses.replace(CFG, marks=marks), (6,), rngs=nnx.Rngs(0))
    batch, key = Batch(jnp.where(MASK, X, 0), None, MASK), jax.random.key(1)
    answer = lambda share, training=True: ELBO(hide="mask", hide_share=share)(model, batch, key, training)
    _, terms, done = answer(1.0)
    empty = model.encode(jnp.full((4, 6), jnp.nan if marks == "on" else 0.0))
    np.testing.assert_allclose(done.q.mean, empty.mean, rtol=1e-12)
    np.testing.assert_allclose(terms["nll"], -model.decode(done.z).log_prob(batch.x, MASK), rtol=1e-12)
    same = lambda a, b: np.testing.assert_allclose(a[0], b[0], rtol=1e-12)
    same(answer(0.0), ELBO()(model, batch, key))
    same(answer(1.0, training=False), ELBO()(model, batch, key, False))


def test_the_share_hidden_is_that_of_observed_values_and_squares_hide_squares():
    x = jnp.ones((2000, 4, 4, 1))
    mask = jnp.asarray(RNG.random(x.shape) < 0.7)
    left = ELBO(hide="mask", hide_share=0.25).hidden(Batch(x, None, mask), jax.random.key(0)).mask
    assert not (left & ~mask).any()
    np.testing.assert_allclose(left.sum() / mask.sum(), 0.75, atol=0.02)  # 22,400 draws: 7 deviations
    block = ELBO(hide="block", hide_share=0.25).hidden(Batch(x), jax.random.key(0))
    gone = ~np.asarray(block.mask[..., 0])
    assert (gone.sum((1, 2)) == 4).all()
    assert set(gone.any(1).sum(1)) == {2}
    np.testing.assert_array_equal(block.x[..., 0], ~gone)


def test_the_contractive_penalty_of_a_marked_encoder_is_that_of_its_jacobian():
    model = Autoencoder(dataclasses.replace(CFG, posterior=PointPosterior()), (6,), rngs=nnx.Rngs(0))
    batch = Batch(jnp.where(MASK, X, 0), None, MASK)
    code = lambda x, m: model.encode(model.sees(Batch(x[None], None, m[None]))).mean[0]
    j = jax.vmap(jax.jacrev(code))(batch.x, MASK)
    q = model.encode(model.sees(batch))
    done = Pass(model, batch, q, q.mean, None, model.decode(q.mean), jax.random.key(0), False)
    np.testing.assert_allclose(Contractive()(done, None), jnp.sum(j**2, (1, 2)), rtol=1e-9)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"decoder": Mirror(tied=True)}, "tied weights"),
        ({"decoder": Dictionary(), "encoder": Dense(()), "posterior": PointPosterior()}, "dictionary"),
        ({"likelihood": TokensLikelihood(4), "encoder": Recurrent()}, "a missing symbol is the unknown one"),
    ],
)
def test_where_an_encoder_cannot_be_told_marks_are_refused(parts, words):
    with pytest.raises(ConfigError, match=f"marks on: .*{words}.*use --model.marks off"):
        Autoencoder(dataclasses.replace(CFG, **parts), (6,), rngs=nnx.Rngs(0))
