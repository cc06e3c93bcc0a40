"""Convolutions: both implementations are one function, in values and in every mode of differentiation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models.networks.layers.convolution import (
    Conv2d,
    ConvTranspose2d,
    conv,
    conv_transpose,
    convolution_implementation,
    resolve_implementation,
)

DIMENSIONS = ("NHWC", "HWIO", "NHWC")
# (H, W), kernel, stride, channels in and out: odd and even sizes, kernels below, at and above the stride
CASES = [
    ((7, 8), 1, 1, 3, 2),
    ((6, 5), 3, 1, 1, 4),
    ((7, 4), 5, 1, 2, 1),
    ((8, 7), 1, 2, 2, 3),
    ((5, 6), 2, 2, 3, 1),
    ((7, 7), 3, 2, 1, 4),
    ((4, 9), 4, 2, 2, 2),
    ((8, 5), 5, 2, 1, 1),
    ((5, 9), 2, 3, 2, 2),
    ((7, 10), 4, 3, 3, 2),
    ((3, 1), 5, 3, 1, 2),
    ((6, 6), (2, 5), 2, 130, 3),  # wide enough for the gradient through transposed copies
]


def normal(seed, *shape, dtype=np.float64):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def problem(case, dtype=np.float64):
    size, k, stride, channels, outputs = case
    rows, columns = k if isinstance(k, tuple) else (k, k)
    x = normal(1, 2, *size, channels, dtype=dtype)
    kernel = normal(2, rows, columns, channels, outputs, dtype=dtype)
    y = normal(3, 2, *(-(-n // stride) for n in size), outputs, dtype=dtype)
    return x, kernel, y, stride


def lax_conv(x, kernel, stride):
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=DIMENSIONS)


def values_and_gradients(function, cotangent, *arguments):
    out, pull = jax.vjp(function, *arguments)
    return out, *pull(cotangent)


def assert_close(found, expected, tolerance=1e-12):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        scale = max(1.0, float(jnp.max(jnp.abs(b))))
        np.testing.assert_allclose(np.asarray(a) / scale, np.asarray(b) / scale, rtol=0, atol=tolerance)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_conv_and_its_gradients_are_lax(case):
    x, kernel, y, stride = problem(case)

    @jax.jit
    def three(x, kernel, y):
        reference = lambda x, k: lax_conv(x, k, stride)
        patches = lambda x, k: conv(x, k, stride, implementation="patches")
        pairs = [values_and_gradients(f, y, x, kernel) for f in (patches, reference)]
        return *pairs, conv(x, kernel, stride, implementation="native")

    found, expected, native = three(x, kernel, y)
    assert_close(found, expected)
    assert_close(native, expected[0])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_transposed_conv_is_the_adjoint(case):
    """Compare both with the transpose that JAX derives; their gradients with each other."""
    x, kernel, y, stride = problem(case)
    tied = kernel.swapaxes(2, 3)

    @jax.jit
    def three(x, tied, y):
        call = lambda name: lambda y, k: conv_transpose(y, k, stride, x.shape[1:3], implementation=name)
        pairs = [values_and_gradients(call(name), x, y, tied) for name in ("patches", "native")]
        return *pairs, jax.linear_transpose(lambda x: lax_conv(x, kernel, stride), x)(y)[0]

    patches, native, expected = three(x, tied, y)
    assert_close(patches, native)
    assert_close(native[0], expected)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("width", [2, 130])  # 130: the gradient through transposed copies
def test_all_modes_of_differentiation_agree(transposed, width):
    """Compare forward, reverse, forward over reverse, and each of them under vmap, with native."""
    channels = (width, 2) if not transposed else (2, width)
    x, kernel = normal(1, 3, 1, 4, 5, channels[0]), normal(2, 3, 3, *channels)
    directions = (normal(3, *x.shape), normal(4, *kernel.shape))

    def results(name):
        op = conv_transpose if transposed else conv
        energy = lambda x, k: jnp.sum(jnp.tanh(op(x, k, 2, implementation=name)) ** 2)
        gradient = jax.grad(energy, (0, 1))
        one = lambda x, kernel, dx, dk: (
            jax.jvp(lambda x: op(x, kernel, 2, implementation=name), (x,), (dx,)),
            jax.jvp(lambda k: op(x, k, 2, implementation=name), (kernel,), (dk,)),
            jax.jvp(gradient, (x, kernel), (dx, dk)),
            jax.grad(lambda x: jnp.vdot(gradient(x, kernel)[1], dk))(x),
        )
        return jax.jit(jax.vmap(one, in_axes=(0, None, 0, None)))(x, kernel, *directions)

    assert_close(results("patches"), results("native"), 1e-11)


def test_jacobians_by_columns_and_rows_agree():
    x, kernel = normal(1, 1, 5, 4, 2), normal(2, 3, 3, 2, 2)
    f = lambda x: conv_transpose(conv(x, kernel, 2, implementation="patches"), kernel, 2, (5, 4))
    forward, reverse = jax.jit(lambda x: (jax.jacfwd(f)(x), jax.jacrev(f)(x)))(x)
    assert_close(reverse, forward)
    assert_close(jnp.einsum("abcdefgh,efgh->abcd", forward, x), f(x))  # a linear map is its Jacobian


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
def test_low_precision(dtype):
    x, kernel, y, stride = problem(((7, 8), 3, 2, 4, 3))
    tied = kernel.swapaxes(2, 3)

    @jax.jit
    def everything(x, kernel, y, tied):
        op = lambda x, k: conv(x, k, stride, implementation="patches")
        back = lambda y, k: conv_transpose(y, k, stride, x.shape[1:3], implementation="patches")
        return values_and_gradients(op, y, x, kernel) + values_and_gradients(back, x, y, tied)

    found = everything(*(a.astype(dtype) for a in (x, kernel, y, tied)))
    assert {a.dtype for a in found} == {jnp.dtype(dtype)}
    expected = everything(x, kernel, y, tied)
    assert_close([a.astype(np.float64) for a in found], expected, 20 * float(jnp.finfo(dtype).eps))


def test_same_gradient_inside_a_loop_of_traced_length():
    x, kernel, _, stride = problem(CASES[5])
    gradient = jax.grad(lambda k: jnp.sum(conv(x, k, stride, implementation="patches") ** 2))
    step = lambda _, k: k - 0.01 * gradient(k)
    loop = jax.jit(lambda k, n: jax.lax.fori_loop(0, n, step, k))
    assert_close(loop(kernel, 2), step(0, step(0, kernel)))


def test_implementation_changes_the_program():
    x, kernel, _, _ = problem(CASES[5])
    native = lambda f, *a: "conv_general_dilated" in str(jax.make_jaxpr(f)(*a))
    for op in (conv, conv_transpose):
        channels = x if op is conv else normal(1, 1, 3, 3, 1)
        assert native(lambda x, k: op(x, k, 2, implementation="native"), channels, kernel)
        assert not native(lambda x, k: op(x, k, 2, implementation="patches"), channels, kernel)


def test_auto_follows_the_context_even_under_jit(monkeypatch):
    x, kernel, _, _ = problem(CASES[5])
    traced = []

    @jax.jit
    def f(x):
        traced.append(resolve_implementation())
        return conv(x, kernel)

    with convolution_implementation("native"):
        f(x)
        assert resolve_implementation("patches") == "patches"  # an argument beats the context
    with convolution_implementation("patches"):
        f(x)
    assert traced == ["native", "patches"]
    for platform, expected in {"cpu": "patches", "gpu": "native", "tpu": "native"}.items():
        monkeypatch.setattr(jax, "default_backend", lambda platform=platform: platform)
        assert resolve_implementation() == expected


@pytest.mark.parametrize("implementation", ["native", "patches"])
def test_modules_apply_kernel_and_bias(implementation):
    down = Conv2d(2, 3, 3, 2, rngs=nnx.Rngs(0), implementation=implementation)
    up = ConvTranspose2d(3, 2, 4, 2, rngs=nnx.Rngs(1), implementation=implementation, init="glorot")
    down.bias[...] = jnp.array([1.0, 2.0, 3.0])
    x = normal(1, 2, 7, 5, 2)
    y = down(x)
    assert_close(y, lax_conv(x, down.kernel[...], 2) + jnp.array([1.0, 2.0, 3.0])[None, None, None])
    assert up(y, (7, 5)).shape == (2, 7, 5, 2)
    assert up(y).shape == (2, 8, 6, 2)
    shapes = {"/".join(map(str, path)): v.shape for path, v in nnx.to_flat_state(nnx.state(up, nnx.Param))}
    assert shapes == {"kernel": (4, 4, 3, 2), "bias": (2,)}


def test_initial_scale():
    """He: variance 2 / fan in; Glorot: 2 / (fan in + fan out); with 3 x 3 x 32 weights to each of 64."""
    for init, variance in {"he": 2 / (9 * 32), "glorot": 2 / (9 * 32 + 9 * 64)}.items():
        kernel = Conv2d(32, 64, 3, rngs=nnx.Rngs(0), init=init).kernel[...]
        assert float(jnp.var(kernel)) == pytest.approx(variance, rel=0.05)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Conv2d(1, 1, 0, rngs=nnx.Rngs(0)), "kernel must be at least 1, got 0"),
        (lambda: Conv2d(1, 1, 3, 0, rngs=nnx.Rngs(0)), "stride must be at least 1, got 0"),
        (lambda: ConvTranspose2d(0, 1, 3, rngs=nnx.Rngs(0)), "in_channels must be at least 1, got 0"),
        (lambda: Conv2d(1, 1, 3, rngs=nnx.Rngs(0), init="lecun"), "unknown initializer 'lecun'"),
        (lambda: Conv2d(1, 1, 3, rngs=nnx.Rngs(0), implementation="fft"), "unknown convolution implementation 'fft'"),
        (lambda: conv(jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 3, 1))), "takes 3 channels, got 2"),
        (lambda: conv(jnp.ones((1, 4, 4, 1)), jnp.ones((0, 3, 1, 1))), "at least 1, got"),
        (lambda: conv(jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1)), -1), "stride must be at least 1, got -1"),
        (
            lambda: conv_transpose(jnp.ones((1, 4, 3, 1)), jnp.ones((3, 3, 1, 1)), 2, (9, 6)),
            r"output size \(9, 6\) does not map back to \(4, 3\) at stride 2: take 7..8 x 5..6",
        ),
    ],
)
def test_bad_arguments_are_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
