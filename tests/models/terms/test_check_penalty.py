"""`check_penalty` passes what is right and names what the usual wrong penalties compute."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import Dense, likelihoods, posteriors, terms
from models.terms import WrongPenaltyError, check_penalty

from .test_geometry_terms import DEEP, SHALLOW, made

X = jax.random.uniform(jax.random.key(1), (4, 6))
SQUARE = dataclasses.replace(SHALLOW, latent=6)
RELU = dataclasses.replace(SHALLOW, posterior=posteriors.PointPosterior("relu"))
START = np.asarray(made(SHALLOW).encoder.head.kernel[...])  # a copy, taken once
W = lambda model: model.encoder.head.kernel[...]
code = lambda model, x: model.encode(x).mean
slope = lambda h: h * (1 - h)


def jac(model, x):
    return jax.vmap(jax.jacrev(lambda one: code(model, one[None])[0]))(x)


def ones_vjp(model, x):
    return jnp.sum(jax.grad(lambda x: code(model, x).sum())(x) ** 2, 1)


def ones_decoder(model, x):
    """The gradient penalty of a well-known library: the gradient of Σ outputs, in place of the decoder's Jacobian."""
    z = code(model, x)
    return jnp.sum(jax.grad(lambda z: model.decode(z).mean.sum())(z) ** 2, 1)


RIGHT = [
    (SHALLOW, terms.Contractive(), "encoder"),
    (DEEP, terms.Contractive(), "encoder"),
    (DEEP, terms.Contractive(of="decoder"), "decoder"),
    (DEEP, terms.Contractive(of="reconstruction"), "reconstruction"),
    (SHALLOW, lambda m, x: jnp.mean(slope(code(m, x)) ** 2 @ jnp.sum(W(m) ** 2, 0)), "encoder"),
]


@pytest.mark.parametrize("row", range(len(RIGHT)))
def test_right_penalties_pass(row):
    cfg, penalty, of = RIGHT[row]
    errors = check_penalty(penalty, made(cfg), X, of=of, key=jax.random.key(0))
    assert set(errors) == {"value", "gradient"}
    assert max(errors.values()) < 1e-9


detached = jax.lax.stop_gradient
WRONG = [
    (SHALLOW, lambda m, x: jnp.sum(W(m) ** 2), "Σ W² of all kernels, without the activation's derivative"),
    (DEEP, lambda m, x: jnp.sum(W(m) ** 2), "Σ W² of the last kernel"),
    (SHALLOW, lambda m, x: jnp.sum(detached(W(m)) ** 2), "detached weights: a constant"),
    (SHALLOW, lambda m, x: slope(code(m, x)) ** 2 @ jnp.sum(detached(W(m)) ** 2, 0), "no gradient through W"),
    (SHALLOW, lambda m, x: slope(code(m, x)) ** 2 @ jnp.sum(START**2, 0), "weights of the start, frozen"),
    (RELU, lambda m, x: slope(code(m, x)) ** 2 @ jnp.sum(W(m) ** 2, 0), "activation that is no sigmoid"),
    (DEEP, lambda m, x: (1 - code(m, x) ** 2) ** 2 @ jnp.sum(W(m) ** 2, 0), "the last layer's Jacobian alone"),
    (DEEP, lambda m, x: jnp.linalg.norm(m.encoder.kernels(3)[0] @ W(m)), "W_L||_F, not squared, without the act"),
    (SQUARE, lambda m, x: slope(code(m, x)) ** 2 @ jnp.sum(W(m) ** 2, 1), "summed over the wrong axis"),
    (SHALLOW, lambda m, x: jnp.sum(slope(code(m, x)) ** 2, 1), "Σ act'², without the weights"),
    (DEEP, ones_vjp, "row sums of J in place of J"),
    (DEEP, lambda m, x: jnp.sum(jac(m, x).sum(2) ** 2, 1), "the sum of J's columns"),
    (DEEP, lambda m, x: jnp.sum(jac(m, x) ** 2), "4 times ||J||²_F: summed over the batch"),
    (DEEP, lambda m, x: 0.5 * jnp.sum(jac(m, x) ** 2, (1, 2)), "0.5 times ||J||²_F"),
    (DEEP, lambda m, x: jnp.mean(jac(m, x) ** 2), "averaged over the entries of J"),
    (DEEP, lambda m, x: jnp.sqrt(jnp.sum(jac(m, x) ** 2, (1, 2))), "||J||_F, not squared"),
    (DEEP, lambda m, x: jnp.sqrt(jnp.sum(jac(m, x) ** 2)), "the root of ||J||²_F summed over the batch"),
    (DEEP, lambda m, x: jnp.sum(jac(m, x).mean(0) ** 2), "mean of J over the batch"),
    (DEEP, lambda m, x: detached(jnp.sum(jac(m, x) ** 2, (1, 2))), "gradient is zero: it trains nothing"),
    (DEEP, lambda m, x: jnp.sum(jac(m, x) ** 2) // 4, "its gradient is zero: it trains nothing"),
    (DEEP, lambda m, x: jnp.sum(code(m, x) ** 2), "no known formula"),
]


@pytest.mark.parametrize("row", range(len(WRONG)))
def test_wrong_penalties_are_named(row):
    cfg, penalty, words = WRONG[row]
    with pytest.raises(WrongPenaltyError) as error:
        check_penalty(penalty, made(cfg), X)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_the_usual_gradient_penalty_of_a_decoder_is_named():
    with pytest.raises(WrongPenaltyError, match="row sums of J"):
        check_penalty(ones_decoder, made(DEEP), X, of="decoder")


def test_formulas_on_kernels_are_left_out_where_there_are_none():
    """A convolutional encoder: only what is said of J itself is asked."""
    from models.networks import Conv

    cfg = dataclasses.replace(
        DEEP, encoder=Conv((2,)), likelihood=likelihoods.BernoulliLikelihood(), decoder=Dense((4,))
    )
    with pytest.raises(WrongPenaltyError, match="row sums of J"):
        check_penalty(ones_vjp, made(cfg, (4, 4, 1)), X[:2, :1, None, None] * jnp.ones((2, 4, 4, 1)))
