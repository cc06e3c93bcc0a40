"""`check_jacobian` passes right Jacobians and names wrong ones; `compare` measures; modules work."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from grads import UnknownMethodError, check_jacobian, compare, jacobian, of_module
from grads.testing.catalogue import problem
from grads.testing.check import WrongJacobianError

CASES = ("tree", "dense_autoencoder", "recurrent", "convolution", "tridiagonal")


@pytest.mark.parametrize("name", CASES)
def test_right_jacobians_pass(name):
    case = problem(name)
    finding = check_jacobian(lambda x: case.fun(x, *case.args[1:]), case.args[0])
    assert set(finding) == {"float64", "complex_step", "probes"}
    assert max(finding.values()) < 1e-13


@pytest.mark.parametrize("method", ["fwd", "rev", "chain", "auto"])
def test_float32_against_float64(method):
    case = problem("deep_autoencoder", jnp.float32)
    fun = lambda x: case.fun(x, *case.args[1:])
    finding = check_jacobian(fun, case.args[0], method=method, against=("float64",), rtol=1e-6)
    assert 0 < finding["float64"]  # it is not compared with itself


@pytest.mark.parametrize("against", ["float64", "complex_step", "probes"])
def test_wrong_jacobians_are_named(against):
    case = problem("tree")

    def wrong(x):
        jac = jax.jacfwd(case.fun)(x)
        block = jac[1]["m"]["a"]
        jac[1]["m"]["a"] = block.at[1, 2, 0].add(1e-6 * jnp.max(jnp.abs(block)))
        return jac

    where = r"\[1\]\['m'\]" if against == "probes" else r"\[1\]\['m'\]\['a'\]\[1, 2, 0\]"
    with pytest.raises(WrongJacobianError, match=where):
        check_jacobian(case.fun, case.args[0], jac=wrong, against=(against,))
    with pytest.raises(WrongJacobianError):
        check_jacobian(
            case.fun, case.args[0], jac=lambda x: jax.tree.map(lambda a: a * jnp.nan, jax.jacfwd(case.fun)(x))
        )


def test_references_that_do_not_apply_are_reported():
    finding = check_jacobian(jax.scipy.special.erf, jnp.ones(2))
    assert "erf" in finding["complex_step"]
    assert finding["float64"] < 1e-14
    with pytest.raises(ValueError, match="no reference applies"):
        check_jacobian(jax.scipy.special.erf, jnp.ones(2), against=("complex_step",))
    with pytest.raises(ValueError, match="float32"):
        check_jacobian(jnp.sin, jnp.ones(2), against=("float32",))


def test_compare_measures_every_method():
    case = problem("dense_autoencoder", jnp.float32)
    table = compare(
        case.fun,
        *case.args,
        methods=("fwd", "naive_loop", "finite_difference", "sparse", "auto"),
        seconds=0.01,
    )
    assert {row.method for row in table.rows} == {"fwd", "naive_loop", "finite_difference", "sparse", "auto"}
    assert "no sparsity" in table["sparse"].refused
    assert table.fastest.run == min(r.run for r in table.rows if not r.refused)
    for name in ("fwd", "naive_loop", "auto"):
        row = table[name]
        assert row.error < 2e-6
        assert row.output >= 4 * 12 * 12
        assert row.compile > 0 < row.run
    assert 1e-6 < table["finite_difference"].error < 1e-1
    assert "finite_difference" in str(table)
    with pytest.raises(UnknownMethodError, match="fwd"):
        compare(case.fun, *case.args, methods=("fwdd",))


class Net(nnx.Module):
    def __init__(self, rngs):
        self.dense = nnx.Linear(3, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, use_running_average=True, rngs=rngs)

    def __call__(self, x, scale=1.0):
        return jnp.tanh(self.norm(self.dense(x))) * scale


class Linen(linen.Module):
    @linen.compact
    def __call__(self, x, scale=1.0):
        return linen.BatchNorm(use_running_average=True)(jnp.tanh(linen.Dense(4)(x))) * scale


def test_nnx_modules():
    net, x = Net(nnx.Rngs(0)), jnp.asarray([[0.1, -0.4, 0.7]])
    fun, at = of_module(net, x, scale=2.0)
    np.testing.assert_allclose(jacobian(fun)(at), jax.jacfwd(lambda x: net(x, 2.0))(x), atol=1e-6)
    fun, at = of_module(net, x, "params")
    got = jacobian(fun, method="rev")(at)
    np.testing.assert_allclose(
        got["dense"]["bias"][...][0], np.diag(np.diagonal(got["dense"]["bias"][...][0])), atol=1e-7
    )
    assert jnp.all(jax.tree.leaves(at)[0] == jax.tree.leaves(nnx.state(net, nnx.Param))[0])


def test_linen_modules():
    net, x = Linen(), jnp.asarray([[0.1, -0.4, 0.7]])
    variables = net.init(jax.random.key(0), x)
    want = jax.jacfwd(lambda x: net.apply(variables, x))(x)
    for given in ({"module": net.bind(variables)}, {"module": net, "variables": variables}):
        fun, at = of_module(x=x, **given)
        np.testing.assert_allclose(jacobian(fun)(at), want, atol=1e-6)
    fun, at = of_module(net, x, "params", variables=variables)
    assert jacobian(fun, method="rev")(at)["Dense_0"]["kernel"].shape == (1, 4, 3, 4)


def test_other_modules_are_refused():
    with pytest.raises(TypeError, match="NNX or Linen module, got int"):
        of_module(3, jnp.ones(2))
    with pytest.raises(ValueError, match="parameters"):
        of_module(Net(nnx.Rngs(0)), jnp.ones(3), wrt="parameters")
    with pytest.raises(ValueError, match="variables"):
        of_module(Linen(), jnp.ones((1, 3)))
