"""One call of `jacobian` can be read in one sitting."""

import itertools
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np

import grads
from grads.methods.evaluate import forget
from tests.entered import entered

FOLDER = Path(grads.__file__).parent
FILES = 19  # reached, and so are the changes: one more file or a tenth more changes is a step back
CHANGES = 410 if sys.version_info >= (3, 12) else 450  # before 3.12 a list comprehension is a function of its own


def autoencoder(sizes=(784, 400, 20, 400, 784)):
    rng = np.random.default_rng(0)
    normal = lambda *shape: jnp.asarray(rng.normal(size=shape) / shape[0] ** 0.5, jnp.float32)
    layers = [(normal(a, b), normal(b)) for a, b in itertools.pairwise(sizes)]

    def fun(x):
        for kernel, bias in layers[:-1]:
            x = jnp.tanh(x @ kernel + bias)
        return x @ layers[-1][0] + layers[-1][1]

    return fun


def test_files_and_changes_of_file_of_a_first_jacobian():
    forget()
    fun, x = autoencoder(), jnp.ones(784, jnp.float32)
    found = entered(lambda: grads.jacobian(fun)(x), FOLDER)
    names = sorted(str(Path(name).relative_to(FOLDER)) for name in found.files)
    assert {"jacobian.py", "methods/chain.py"} <= set(names)  # it was planned and built, not looked up
    assert len(names) <= FILES, names
    assert found.changes <= CHANGES


def test_a_second_call_neither_plans_nor_builds():
    fun, x = autoencoder((30, 20, 5, 20, 30)), jnp.ones(30, jnp.float32)
    grads.jacobian(fun)(x)
    again = entered(lambda: grads.jacobian(fun)(x), FOLDER)
    assert not any("chain" in name or "order" in name for name in again.files)
