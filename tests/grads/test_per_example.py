"""Per-example norms equal the norms of explicit gradients, whatever the loss does with its parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grads import per_example_gradient_norms, per_example_gradients

RNG = np.random.default_rng(0)
BATCH = 5


def normal(*shape):
    return jnp.asarray(RNG.normal(size=shape))


def dense(p, x):
    h = jnp.tanh(x @ p["w"] + p["b"])
    return jnp.sum((h @ p["v"] - x) ** 2)


def tied(p, x):
    h = jax.jit(lambda x: jax.nn.relu(x @ p["w"] + p["b"]))(x)
    return jnp.sum((p["w"] @ h - x @ (p["w"] @ p["w"].T)) ** 2)  # W W^T is no product with an activation


def tied_by_formula(p, x):
    return jnp.sum((jnp.tanh(x @ p["w"]) @ p["w"].T - x) ** 2 * jnp.exp(p["b"][0]))


def sequence(p, x):
    """Shared over positions, read from the left, the right and with a transpose."""
    h = jnp.tanh(jnp.stack([x, x**2, jnp.sin(x)]) @ p["w"])
    return jnp.sum(jnp.einsum("kd,td->tk", p["v"].T, h) ** 2) + jnp.sum((p["w"].T @ x) ** 3) + p["b"].sum()


def in_a_loop(p, x):
    step = lambda h, _: (jnp.tanh(h @ (p["w"] @ p["v"])), None)
    return jnp.sum(jax.lax.scan(step, x, None, length=3)[0] ** 2) + jnp.sum((x @ p["w"]) ** 2)


def regularised(p, x):
    return dense(p, x) + 0.1 * jnp.sum(p["w"] ** 2)


def conv(p, x):
    names = ("NHWC", "HWIO", "NHWC")
    image = x.reshape(1, 2, 3, 1)
    run = lambda y: jax.lax.conv_general_dilated(y, p["k"], (1, 2), ((1, 1), (1, 2)), (2, 1), (1, 1), names)
    return jnp.sum(jnp.tanh(run(image)) ** 2) + jnp.sum(run(jnp.sin(image)) ** 3) + p["w"].sum()


LOSSES = [dense, tied, tied_by_formula, sequence, in_a_loop, regularised, conv]


def parameters():
    return {"w": normal(6, 4), "b": normal(4), "v": normal(4, 6), "k": normal(2, 3, 1, 2)}


CHUNKS = {"tied": 2, "conv": 2}


@pytest.mark.parametrize("loss", LOSSES, ids=lambda f: f.__name__)
def test_norms_are_the_norms_of_the_gradients(loss):
    chunk = CHUNKS.get(loss.__name__)
    p, x = parameters(), normal(BATCH, 6)
    norms = per_example_gradient_norms(loss, per_leaf=True, chunk_size=chunk)
    both = jax.jit(lambda p, x: (norms(p, x), per_example_gradients(loss, chunk_size=chunk)(p, x)))
    got, each = both(p, x)
    for name in p:
        want = np.sqrt(np.sum(each[name] ** 2, axis=tuple(range(1, each[name].ndim))))
        np.testing.assert_allclose(got[name], want, rtol=1e-12, err_msg=name)


def test_total_norm_and_explicit_method():
    p, x = parameters(), normal(BATCH, 6)
    norms = [per_example_gradient_norms(dense, method=m)(p, x) for m in ("auto", "explicit")]
    np.testing.assert_allclose(*norms, rtol=1e-12)
    leaves = per_example_gradient_norms(dense, per_leaf=True)(p, x)
    np.testing.assert_allclose(norms[0] ** 2, sum(v**2 for v in leaves.values()), rtol=1e-12)


def largest(jaxpr):
    sizes = [v.aval.size for e in jaxpr.eqns for v in e.outvars]
    inner = [getattr(j, "jaxpr", j) for e in jaxpr.eqns for j in e.params.values()]
    return max([*sizes, *(largest(j) for j in inner if hasattr(j, "eqns"))])


@pytest.mark.parametrize("loss", [dense, tied_by_formula], ids=lambda f: f.__name__)
def test_gradients_are_not_formed(loss):
    p = {"w": normal(30, 20), "b": normal(20), "v": normal(20, 30)}
    jaxpr = jax.make_jaxpr(per_example_gradient_norms(loss))(p, normal(BATCH, 30)).jaxpr
    assert largest(jaxpr) <= 30 * 20  # a weight, never BATCH of them


def test_norms_have_gradients_and_take_trees():
    p, x = parameters(), {"x": normal(BATCH, 6), "scale": normal(BATCH)}
    loss = lambda p, e: dense(p, e["x"]) * e["scale"]
    slopes = [
        jax.grad(lambda p, m=m: per_example_gradient_norms(loss, method=m)(p, x).sum())(p)
        for m in ("auto", "explicit")
    ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), *slopes)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="ghost"):
        per_example_gradient_norms(dense, method="ghost")
    with pytest.raises(ValueError, match="common first axis"):
        per_example_gradients(lambda p, e: p)(1.0, {"a": normal(3), "b": normal(4)})
    with pytest.raises(TypeError, match="scalar"):
        per_example_gradient_norms(lambda p, e: p * e)(normal(2), normal(3, 2))
