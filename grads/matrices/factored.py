"""A matrix kept as a product of factors, J = F_1 F_2 ... F_k, each dense, diagonal, a selection or the identity.

A Jacobian through a narrow latent is such a product: for a 784-20-784 autoencoder, (784, 20) times (20, 784). Norms,
traces and singular values are much cheaper from the factors than from the 784 x 784 matrix.
"""

from dataclasses import dataclass, field, replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Integer, Shaped


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class DenseFactor:
    """A dense factor, stored as `array` (rows, cols), or as its transpose when `transposed`."""

    array: Shaped[Array, "a b"]
    transposed: bool = field(default=False, metadata={"static": True})

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols) of the factor."""
        a, b = self.array.shape[-2:]
        return (b, a) if self.transposed else (a, b)

    @property
    def matrix(self) -> Shaped[Array, "rows cols"]:
        """The factor as a (rows, cols) array."""
        return self.array.mT if self.transposed else self.array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class DiagonalFactor:
    """diag(d)."""

    d: Shaped[Array, " n"]

    @property
    def shape(self) -> tuple[int, int]:
        """(n, n)."""
        return (self.d.shape[-1], self.d.shape[-1])

    @property
    def matrix(self) -> Shaped[Array, "n n"]:
        """The factor as an array."""
        return jnp.diag(self.d)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class IdentityFactor:
    """The n x n identity."""

    n: int = field(metadata={"static": True})

    @property
    def shape(self) -> tuple[int, int]:
        """(n, n)."""
        return (self.n, self.n)

    @property
    def matrix(self) -> Shaped[Array, "n n"]:
        """The factor as an array."""
        return jnp.eye(self.n)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SelectionFactor:
    """At most one entry in a row, S[i, index[i]] = weight[i] (none where index[i] = size); S^T when `transposed`.

    A gather, a sort or a top-k is a selection of rows, a scatter or a padding is the transpose of one.
    """

    index: Integer[Array, " k"]
    weight: Shaped[Array, " k"]
    size: int = field(metadata={"static": True})
    transposed: bool = field(default=False, metadata={"static": True})

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols) of the factor."""
        k = self.index.shape[-1]
        return (self.size, k) if self.transposed else (k, self.size)

    @property
    def matrix(self) -> Shaped[Array, "rows cols"]:
        """The factor as an array."""
        here = self.index[:, None] == jnp.arange(self.size)[None, :]
        out = jnp.where(here, self.weight[:, None], jnp.zeros((), self.weight.dtype))
        return out.mT if self.transposed else out

    @property
    def T(self) -> "SelectionFactor":
        """The transpose."""
        return replace(self, transposed=not self.transposed)

    def apply(self, a: Shaped[Array, "cols ..."], axis: int = 0) -> Shaped[Array, "rows ..."]:
        """S a, along one axis of a."""
        weight = jnp.expand_dims(self.weight, [i for i in range(a.ndim) if i != axis])
        if not self.transposed:
            return weight * jnp.take(a, self.index, axis, mode="fill", fill_value=0)
        where = (slice(None),) * axis + (self.index,)
        out = jnp.zeros((*a.shape[:axis], self.size, *a.shape[axis + 1 :]), jnp.result_type(a, self.weight))
        return out.at[where].add(weight * a, mode="drop")


Factor = DenseFactor | DiagonalFactor | SelectionFactor | IdentityFactor


def multiply(a: Factor, b: Factor) -> Factor:
    """Return a @ b, keeping identities, diagonals and selections; a tall dense result is stored transposed."""
    if isinstance(a, IdentityFactor):
        return b
    if isinstance(b, IdentityFactor):
        return a
    if isinstance(a, SelectionFactor):
        return _select(a, b)
    if isinstance(b, SelectionFactor):
        return _transpose(_select(b.T, _transpose(a)))
    if isinstance(a, DiagonalFactor) and isinstance(b, DiagonalFactor):
        return DiagonalFactor(a.d * b.d)
    if isinstance(a, DiagonalFactor) and isinstance(b, DenseFactor):
        d = a.d[None, :] if b.transposed else a.d[:, None]
        return DenseFactor(d * b.array, b.transposed)
    if isinstance(a, DenseFactor) and isinstance(b, DiagonalFactor):
        d = b.d[:, None] if a.transposed else b.d[None, :]
        return DenseFactor(d * a.array, a.transposed)
    assert isinstance(a, DenseFactor)
    assert isinstance(b, DenseFactor)
    if b.shape[1] < a.shape[0]:  # (a b)^T = b^T a^T: the short side leads, which matrix products like best
        return DenseFactor(_matmul(b.array, not b.transposed, a.array, not a.transposed), transposed=True)
    return DenseFactor(_matmul(a.array, a.transposed, b.array, b.transposed))


def _select(s: SelectionFactor, other: Factor) -> Factor:
    """s @ other, where the other is not the identity."""
    if isinstance(other, DiagonalFactor):
        d = other.d if s.transposed else jnp.take(other.d, s.index, mode="fill", fill_value=0)
        return replace(s, weight=s.weight * d)
    if isinstance(other, DenseFactor):
        return DenseFactor(s.apply(other.array, 1 if other.transposed else 0), other.transposed)
    assert isinstance(other, SelectionFactor)
    if s.transposed and other.transposed:
        return _transpose(_select(other.T, s.T))
    if s.transposed:  # entries at (s.index[k], other.index[k])
        out = jnp.zeros((s.size, other.size), jnp.result_type(s.weight, other.weight))
        return DenseFactor(out.at[s.index, other.index].add(s.weight * other.weight, mode="drop"))
    if other.transposed:  # entries where both select the same
        same = (s.index[:, None] == other.index[None, :]) & (s.index[:, None] < s.size)
        return DenseFactor(jnp.where(same, s.weight[:, None] * other.weight[None, :], 0))
    index = jnp.take(other.index, s.index, mode="fill", fill_value=other.size)
    return replace(other, index=index, weight=s.weight * jnp.take(other.weight, s.index, mode="fill", fill_value=0))


def _matmul(left: jax.Array, flip_left: bool, right: jax.Array, flip_right: bool) -> jax.Array:
    """left @ right, either given as its transpose.

    A small left operand is laid out by rows first: XLA's CPU product is about 1.7 times slower when it must read its
    left operand by columns, and without the barrier XLA folds the transposition back into the product. A product
    through a narrow waist spends its time on the result, and is faster without.
    """
    inner = left.shape[0 if flip_left else 1]
    waist = 4 * inner <= min(left.size, right.size) // max(inner, 1)
    if flip_left and left.size <= right.size and not waist:
        left, flip_left = jax.lax.optimization_barrier(left.mT), False
    contract = ((0 if flip_left else 1,), (1 if flip_right else 0,))
    return jax.lax.dot_general(left, right, (contract, ((), ())))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Factored:
    """J = factors[0] @ factors[1] @ ..., of shape (m, n): outputs and inputs raveled and concatenated."""

    factors: tuple[Factor, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        return (self.factors[0].shape[0], self.factors[-1].shape[1])

    @property
    def dtype(self) -> jnp.dtype:
        """The dtype of the materialised matrix."""
        leaves = jax.tree.leaves(self.factors)
        return jnp.result_type(*leaves) if leaves else jnp.result_type(float)

    @property
    def rank(self) -> int:
        """The narrowest dimension of the product: an upper bound on rank(J)."""
        return min([f.shape[0] for f in self.factors] + [f.shape[1] for f in self.factors])

    def _split(self) -> int:
        widths = [f.shape[0] for f in self.factors[1:]]
        return 1 + widths.index(min(widths))

    @property
    def left(self) -> Shaped[Array, "m r"]:
        """The product of the factors left of the narrowest inner dimension; J = left @ right."""
        if len(self.factors) == 1:
            return self.factors[0].matrix.astype(self.dtype)
        return _product(self.factors[: self._split()]).matrix

    @property
    def right(self) -> Shaped[Array, "r n"]:
        """The product of the factors right of the narrowest inner dimension; J = left @ right."""
        if len(self.factors) == 1:
            return jnp.eye(self.shape[1], dtype=self.dtype)
        return _product(self.factors[self._split() :]).matrix

    @property
    def T(self) -> "Factored":
        """The transpose, still factored."""
        return Factored(tuple(_transpose(f) for f in reversed(self.factors)))

    def __matmul__(self, v: Shaped[Array, "n ..."]) -> Shaped[Array, "m ..."]:
        """J v for a vector or a matrix of columns, factor by factor from the right."""
        for factor in reversed(self.factors):
            v = _apply(factor, v)
        return v

    def materialize(self) -> Shaped[Array, "m n"]:
        """Return the dense (m, n) array."""
        if len(self.factors) == 1:
            return self.factors[0].matrix.astype(self.dtype)
        split = self._split()
        left, right = _product(self.factors[:split]), _product(self.factors[split:])
        if isinstance(left, DiagonalFactor) and isinstance(right, DenseFactor):
            # transpose first: XLA writes (d A)^T slower than d A^T; not into the product that A may be, though
            array = jax.lax.optimization_barrier(right.array) if right.transposed else right.array
            return (left.d[:, None] * DenseFactor(array, right.transposed).matrix).astype(self.dtype)
        return multiply(left, right).matrix.astype(self.dtype)


def _product(factors: tuple[Factor, ...]) -> Factor:
    """Multiply from the end that is narrower, so that no intermediate is wider than it must be."""
    factors = tuple(factors)
    if factors[0].shape[0] < factors[-1].shape[1]:
        out = factors[0]
        for f in factors[1:]:
            out = multiply(out, f)
        return out
    out = factors[-1]
    for f in reversed(factors[:-1]):
        out = multiply(f, out)
    return out


def _transpose(f: Factor) -> Factor:
    return replace(f, transposed=not f.transposed) if isinstance(f, (DenseFactor, SelectionFactor)) else f


def _apply(f: Factor, v):
    if isinstance(f, IdentityFactor):
        return v
    if isinstance(f, SelectionFactor):
        return f.apply(v)
    if isinstance(f, DiagonalFactor):
        return f.d.reshape((-1,) + (1,) * (v.ndim - 1)) * v
    axis = 0 if f.transposed else 1
    return jax.lax.dot_general(f.array, v, (((axis,), (0,)), ((), ())))
