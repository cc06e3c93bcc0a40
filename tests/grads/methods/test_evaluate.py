"""What a call costs beyond its arithmetic: imports of the first, compilations of the next."""

import functools
import logging
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

import grads


def compilations(call):
    """The number of programs XLA compiles during `call`."""
    found = []
    handler = logging.Handler()
    handler.emit = lambda record: found.append("XLA compilation" in record.getMessage())
    logger = logging.getLogger("jax")
    logger.addHandler(handler)
    try:
        with jax.log_compiles(True):
            jax.block_until_ready(call())
    finally:
        logger.removeHandler(handler)
    return sum(found)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def clipped(x, bound):
    return jnp.sin(x)


clipped.defvjp(lambda x, bound: (jnp.sin(x), x), lambda bound, x, g: (jnp.clip(g, -bound, bound) * jnp.cos(x),))


@jax.custom_vjp
def recursive(x, steps):
    return x * steps


recursive.defvjp(lambda x, k: (x * k, k), lambda k, g: (recursive(g, k), None))  # the rule calls its function


def made_anew(scale):
    """A rule that is another Python object at every call."""

    def fun(x):
        @jax.custom_jvp
        def inner(x):
            return x**2

        inner.defjvp(lambda p, t: (p[0] ** 2, scale * p[0] * t[0]))
        return inner(x)

    return fun


FUNCTIONS = {
    "plain": lambda x: jnp.tanh(x)[::-1],
    "custom_jvp": made_anew(2.0),
    "custom_vjp": lambda x: clipped(x, 0.5) * 2,
    "custom_vjp of an integer": lambda x: recursive(x, 3),
    "in a loop": lambda x: jax.lax.scan(lambda c, _: (clipped(c, 0.5), None), x, None, length=2)[0],
    "checkpoint": jax.checkpoint(lambda x: jax.nn.gelu(x) * x[0]),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_second_call_compiles_nothing(name):
    x, other = jnp.linspace(0.0, 1.0, 3), jnp.linspace(1.0, 2.0, 3)
    fun = FUNCTIONS[name]
    assert compilations(lambda: grads.jacobian(fun)(x)) > 0
    assert compilations(lambda: grads.jacobian(fun)(x)) == 0
    assert compilations(lambda: grads.jacobian(fun)(other)) == 0


def test_other_rules_are_other_programs():
    """The same function with another rule must not find the first one's program."""
    x = jnp.linspace(0.0, 1.0, 3)
    for scale in (2.0, 5.0):
        assert jnp.allclose(jnp.diagonal(grads.jacobian(made_anew(scale))(x)), scale * x)
    for bound in (0.5, 0.1):
        got = jnp.diagonal(grads.jacobian(lambda x, bound=bound: clipped(x, bound))(x))
        assert jnp.allclose(got, bound * jnp.cos(x))


IMPORTS = """
import sys
import jax
before = set(sys.modules)
import grads
heavy = {"scipy", "sklearn", "flax", "asdex", "optax", "matplotlib", "jax.experimental.sparse"}
assert not heavy & (set(sys.modules) - before), heavy & set(sys.modules)
import jax.numpy as jnp
x = jnp.ones(6)
for fun in (lambda x: jnp.tanh(x @ jnp.ones((6, 3))), lambda x: x[1:] * x[:-1], lambda x: jnp.cumsum(x)):
    grads.jacobian(fun)(x)
    grads.explain(fun, x)
grads.hessian(lambda x: jnp.sum(x**3))(x)
grads.jacobian_operator(jnp.sin, x).frobenius()
assert not heavy & (set(sys.modules) - before), heavy & set(sys.modules)
print("light")
"""


def test_the_first_call_loads_nothing_heavy():
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, timeout=120)
    assert done.stdout == "light\n", done.stderr
