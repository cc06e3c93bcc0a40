"""A pytree of arrays as named NumPy arrays and back, bit for bit, with one hash over all of them."""

import hashlib
from typing import Any, NamedTuple

import jax
import ml_dtypes
import numpy as np

_KEY = "key:"  # dtype label of typed random keys: "key:" and the name of the generator


class Stored(NamedTuple):
    """One array as it lies in a file: `data` holds little-endian bytes, `dtype` its true type's name."""

    dtype: str
    shape: tuple[int, ...]
    data: np.ndarray  # (bytes,) uint8


def named_leaves(tree: Any) -> list[tuple[str, Any]]:
    """Return (name, leaf) of every leaf, named by its key path as `jax.tree_util.keystr` writes it."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    names = [jax.tree_util.keystr(path) for path, _ in leaves]
    if len(set(names)) != len(names):
        twice = sorted({n for n in names if names.count(n) > 1})
        raise ValueError(f"two leaves of the tree share a name: {', '.join(twice)}")
    return list(zip(names, (leaf for _, leaf in leaves), strict=True))


def is_key(leaf: Any) -> bool:
    """Whether a leaf is an array of typed random keys (`jax.random.key`)."""
    return hasattr(leaf, "dtype") and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def signature(leaf: Any) -> tuple[str, tuple[int, ...]]:
    """Return (dtype name, shape) under which a leaf is stored; a key array keeps the shape of its keys."""
    if is_key(leaf):
        spec = leaf.dtype.name  # "key<fry>"
        return f"{_KEY}{spec[4:-1]}", tuple(leaf.shape)
    if hasattr(leaf, "dtype") and hasattr(leaf, "shape"):
        return np.dtype(leaf.dtype).name, tuple(leaf.shape)
    array = np.asarray(leaf)
    return array.dtype.name, array.shape


def store(name: str, leaf: Any) -> Stored:
    """Return a leaf's bytes. Raises TypeError for a leaf that is no array of numbers."""
    dtype, shape = signature(leaf)
    array = np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf)
    if array.dtype.hasobject or array.dtype.names is not None or array.dtype.kind in "USMm":
        raise TypeError(f"cannot store {name}: {type(leaf).__name__} of dtype {array.dtype} is no array of numbers")
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    return Stored(dtype, shape, np.ascontiguousarray(array).reshape(-1).view(np.uint8))


def unstore(stored: Stored) -> Any:
    """Return the array that `store` took apart: NumPy, or a typed key array. The result owns its bytes."""
    if stored.dtype.startswith(_KEY):
        return _wrap_keys(stored)
    dtype = _dtype(stored.dtype)
    return stored.data.copy().view(dtype).reshape(stored.shape)


def _wrap_keys(stored: Stored) -> jax.Array:
    short = {"fry": "threefry2x32", "rbg": "rbg", "urbg": "unsafe_rbg"}
    impl = short.get(stored.dtype[len(_KEY) :], stored.dtype[len(_KEY) :])
    words = stored.data.copy().view(np.uint32).reshape(*stored.shape, -1)
    return jax.random.wrap_key_data(jax.numpy.asarray(words), impl=impl)


def _dtype(name: str) -> np.dtype:
    extended = getattr(ml_dtypes, name, None)  # bfloat16, float8_*, int4: not NumPy's own
    return np.dtype(name if extended is None else extended)


def sha256(data: np.ndarray) -> str:
    """Return the SHA-256 of an array's bytes in hexadecimal."""
    return hashlib.sha256(data.data).hexdigest()


def params_sha256(tree: Any) -> str:
    """Return one SHA-256 over the names, dtypes, shapes and bytes of all leaves, sorted by name.

    Two trees have the same hash exactly when `store` gives the same for all their leaves, wherever they lie.
    """
    total = hashlib.sha256()
    for name, leaf in sorted(named_leaves(tree), key=lambda pair: pair[0]):
        dtype, shape, data = store(name, leaf)
        total.update(f"{name}\0{dtype}\0{shape}\0".encode())
        total.update(data.data)
    return total.hexdigest()
