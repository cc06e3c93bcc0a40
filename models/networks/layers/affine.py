"""Affine maps with weights of their own, or with the encoder's, transposed."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from models.networks.layers.convolution import conv_transpose


class Linear(nnx.Module):
    """x kernel + bias, kernel (inputs, outputs) drawn by Glorot & Bengio 2010's uniform rule, bias zero."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs):
        self.kernel = nnx.Param(nnx.initializers.glorot_uniform()(rngs.params(), (inputs, outputs)))
        self.bias = nnx.Param(jnp.zeros(outputs))

    def __call__(self, x: Float[Array, "batch inputs"]) -> Float[Array, "batch outputs"]:
        """Return the affine map of x."""
        return x @ self.kernel[...] + self.bias[...][None]


class TiedLinear(nnx.Module):
    """x kernelᵀ + bias: it owns the bias only and is given the encoder's kernel at every call."""

    def __init__(self, outputs: int):
        self.bias = nnx.Param(jnp.zeros(outputs))

    def __call__(
        self, x: Float[Array, "batch inputs"], kernel: Float[Array, "outputs inputs"]
    ) -> Float[Array, "batch outputs"]:
        """Return the affine map of x."""
        return x @ kernel.T + self.bias[...][None]


class TiedConvTranspose(nnx.Module):
    """The adjoint of the encoder's convolution, plus a bias of its own."""

    def __init__(self, outputs: int, stride: int):
        self.bias = nnx.Param(jnp.zeros(outputs))
        self.stride = stride

    def __call__(
        self,
        x: Float[Array, "batch h w inputs"],
        size: tuple[int, int],
        kernel: Float[Array, "rows columns outputs inputs"],
    ) -> Float[Array, "batch height width outputs"]:
        """Return images of `size`."""
        y = conv_transpose(x, jnp.swapaxes(kernel, 2, 3), self.stride, size)
        return y + self.bias[...][None, None, None]
