"""Convolution as patches times a matrix, in plain operations that every mode of differentiation passes.

A k x k convolution at stride s is a ⌈k/s⌉ x ⌈k/s⌉ one at stride 1 over s x s blocks of pixels: cut the padded
image into blocks (space to depth), lay shifted copies side by side, leave out the pixels of a block that no
tap reaches, and multiply by the kernel in the same order. So no slice is strided, no product has a known zero
factor, and the adjoint (the transposed convolution, and the gradient by the image) is the same path run
backwards: a product, then shifted sums. On XLA's CPU backend this is several times faster than the native
convolution, most of all inside a loop, where the native one runs on one thread.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Image = Float[Array, "batch _ _ _"]  # NHWC
Kernel = Float[Array, "_ _ _ _"]  # rows, columns, inputs, outputs

WIDE = 128  # columns from which a transposed copy pays


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return one axis's SAME padding (before, after): max(0, (⌈size/stride⌉ - 1) stride + kernel - size)."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _shifts(kernel: tuple[int, int], stride: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield block shifts (a, b) and how many rows and columns of that block the kernel reaches."""
    for a in range(-(-kernel[0] // stride)):
        for b in range(-(-kernel[1] // stride)):
            yield a, b, min(stride, kernel[0] - a * stride), min(stride, kernel[1] - b * stride)


def extract_patches(x: Image, kernel: tuple[int, int], stride: int) -> Float[Array, "positions taps"]:
    """Return what each output position sees: (batch · h · w, rows · columns · channels), h = ⌈H/stride⌉.

    The order of taps is that of `kernel_matrix`. Linear in `x`.
    """
    batch, *size, channels = x.shape
    h, w = (-(-n // stride) for n in size)
    grid = [-(-n // stride) + -(-k // stride) - 1 for n, k in zip(size, kernel, strict=True)]
    before = [same_padding(n, k, stride)[0] for n, k in zip(size, kernel, strict=True)]
    edges = [(p, m * stride - n - p, 0) for p, m, n in zip(before, grid, size, strict=True)]
    padded = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
    blocks = padded.reshape(batch, grid[0], stride, grid[1], stride, channels).transpose(0, 1, 3, 2, 4, 5)
    seen = [
        blocks[:, a : a + h, b : b + w, :rows, :columns].reshape(batch * h * w, rows * columns * channels)
        for a, b, rows, columns in _shifts(kernel, stride)
    ]
    return jnp.concatenate(seen, axis=1)


def kernel_matrix(kernel: Kernel, stride: int) -> Float[Array, "taps outputs"]:
    """Return the kernel as (rows · columns · inputs, outputs), its taps in the order of `extract_patches`."""
    parts = [
        kernel[a * stride : a * stride + rows, b * stride : b * stride + columns]
        for a, b, rows, columns in _shifts((kernel.shape[0], kernel.shape[1]), stride)
    ]
    return jnp.concatenate([part.reshape(-1, kernel.shape[3]) for part in parts])


@jax.custom_jvp
def _tall_product(rows: Float[Array, "n k"], matrix: Float[Array, "k m"]) -> Float[Array, "n m"]:
    """rows @ matrix, n much larger than k and m, with a gradient by `matrix` that suits XLA's CPU library."""
    return rows @ matrix


def _by_matrix(rows: Float[Array, "n k"], tangent: Float[Array, "k m"]) -> Float[Array, "n m"]:
    """rows @ tangent, written such that its transpose multiplies by a transposed copy of the wider operand.

    A product that contracts the long axis of two row-major arrays misses the cache there, worst when the
    wider one is a power of two wide (1.8 times the time at 512); a copy of narrow ones costs more than it
    saves. The barriers keep XLA from undoing the copy.
    """
    (k, m) = tangent.shape
    if max(k, m) < WIDE:
        return rows @ tangent
    if k >= m:
        transposed = lax.optimization_barrier(rows.T)
        return lax.dot_general(transposed, tangent, (((0,), (0,)), ((), ())))
    return lax.optimization_barrier(lax.dot_general(tangent, rows, (((0,), (1,)), ((), ())))).T


def _tall_product_jvp(primals, tangents):  # type: ignore[no-untyped-def]
    """d(R M) = dR M + R dM; absent tangents cost nothing."""
    rows, matrix = primals
    d_rows, d_matrix = tangents
    out = _tall_product(rows, matrix)
    terms = []
    if not isinstance(d_rows, jax.custom_derivatives.SymbolicZero):
        terms.append(_tall_product(d_rows, matrix))
    if not isinstance(d_matrix, jax.custom_derivatives.SymbolicZero):
        terms.append(_by_matrix(rows, d_matrix))
    return out, sum(terms[1:], terms[0]) if terms else jnp.zeros_like(out)


_tall_product.defjvp(_tall_product_jvp, symbolic_zeros=True)


def conv_patches(x: Image, kernel: Kernel, stride: int) -> Image:
    """Return `models.networks.layers.convolution.conv` by patches: extract_patches(x) @ kernel_matrix."""
    size = (-(-x.shape[1] // stride), -(-x.shape[2] // stride))
    patches = extract_patches(x, (kernel.shape[0], kernel.shape[1]), stride)
    return _tall_product(patches, kernel_matrix(kernel, stride)).reshape(x.shape[0], *size, kernel.shape[3])


def conv_transpose_patches(y: Image, kernel: Kernel, stride: int, size: tuple[int, int]) -> Image:
    """Return `convolution.conv_transpose` by patches: the adjoint of extraction on y @ matrixᵀ."""
    rows, columns, inputs, outputs = kernel.shape
    image = jax.ShapeDtypeStruct((y.shape[0], *size, outputs), jnp.result_type(y, kernel))
    place = jax.linear_transpose(lambda x: extract_patches(x, (rows, columns), stride), image)
    matrix = kernel_matrix(kernel.swapaxes(2, 3), stride).T
    return place(_tall_product(y.reshape(-1, inputs), matrix))[0]
