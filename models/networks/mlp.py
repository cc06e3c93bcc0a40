"""A small network from vectors to vectors: what flows, chains and critics are made of."""

import itertools
from collections.abc import Sequence

from flax import nnx
from jaxtyping import Array, Float

from models.networks.layers import Linear, activation

Vectors = Float[Array, "batch inputs"]


class MLP(nnx.Module):
    """Affine layers of these widths with an activation between them; `small`: the last kernel starts near zero."""

    def __init__(self, widths: Sequence[int], *, rngs: nnx.Rngs, between: str = "tanh", small: bool = False):
        self.layers = nnx.List([Linear(i, o, rngs=rngs) for i, o in itertools.pairwise(widths)])
        self.between = between
        if small:
            kernel = self.layers[-1].kernel
            kernel[...] = 0.01 * kernel[...]

    def __call__(self, x: Vectors) -> Float[Array, "batch outputs"]:
        """Return the last layer's numbers."""
        for layer in self.layers[:-1]:
            x = activation(self.between)(layer(x))
        return self.layers[-1](x)
