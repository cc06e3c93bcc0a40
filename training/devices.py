"""Where and how a program runs: the batch mesh, the dtype policy, and choices made by measurement.

Which form of the same computation is faster (a loop of steps inside XLA or one step per call, say) differs
between backends and even between loads of one machine, so it is measured once per (device, JAX version,
program) on throw-away copies and remembered in the user's cache directory.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, PartitionSpec
from jaxtyping import Array, Shaped

from training.store.errors import RunError
from training.store.files import make_folder, write_text


@contextlib.contextmanager
def memory_in_one_line() -> Iterator[None]:
    """Turn an allocation that the device cannot make into RunError; what else goes wrong passes."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        why = str(error).splitlines()[0].removeprefix("RESOURCE_EXHAUSTED: ")
        raise RunError(f"{why}; use a smaller batch_size, model or number of objective.samples") from None


def cache_dir() -> Path:
    """Return the directory of this project's caches: $XDG_CACHE_HOME/autoencoders-jax.

    A process without a home (a container's user without an account) gets one where nothing can be read or written.
    """
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(os.devnull if base.startswith("~") else base) / "autoencoders-jax"


def batch_mesh(batch_size: int, devices: list[jax.Device] | None = None) -> Mesh:
    """Return a mesh with one axis, "batch", over the most devices that divide `batch_size` evenly."""
    devices = devices or jax.devices()
    count = max(n for n in range(1, len(devices) + 1) if batch_size % n == 0)
    return jax.make_mesh((count,), ("batch",), (AxisType.Auto,), devices=devices[:count])


def shard_batch(x: Shaped[Array, "b *shape"]) -> Shaped[Array, "b *shape"]:
    """Split the first axis over the mesh in use (`jax.set_mesh`); return x unchanged where there is none."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or "batch" not in mesh.axis_names or mesh.size == 1:
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec("batch"))


def cast_floats(tree: Any, dtype: str) -> Any:
    """Return `tree` with every floating array in `dtype`; "float32" leaves it as it is (float64 stays)."""
    if dtype == "float32":
        return tree
    to = jnp.dtype(dtype)
    return jax.tree.map(lambda a: a.astype(to) if jnp.issubdtype(a.dtype, jnp.floating) else a, tree)


def hidden(config: Any) -> Any:
    """Return the config with floats that XLA cannot see: a number folded into the program may change its last bits."""
    known = lambda leaf: leaf if isinstance(leaf, int) else jax.lax.optimization_barrier(jnp.asarray(leaf))
    return jax.tree.map(known, config)


def measured_choice(
    question: str, signature: object, candidates: Mapping[str, Callable[[], Any]], repeats: int = 3
) -> tuple[str, dict[str, float]]:
    """Return the fastest candidate's name and seconds per call of each, interleaved minima of `repeats`.

    Each candidate runs once before timing (compilation). The answer is cached per device, core count, JAX
    version and `signature`; an answer found in the cache comes with no timings.
    """
    device = jax.devices()[0]
    identity = (
        question,
        device.platform,
        device.device_kind,
        len(jax.devices()),
        os.cpu_count(),
        jax.__version__,
    )
    name = hashlib.sha256(repr((identity, signature)).encode()).hexdigest()[:24]
    path = cache_dir() / "choices" / f"{name}.json"
    try:
        stored = json.loads(path.read_text())["choice"]
        if stored in candidates:
            return stored, {}
    except (OSError, ValueError, KeyError, TypeError):
        pass
    from grads.costs.timing import best  # here, because few runs measure

    seconds = best(candidates, turns=repeats)
    choice = min(seconds, key=seconds.__getitem__)
    _remember(path, {"question": question, "device": list(map(str, identity)), "choice": choice, "seconds": seconds})
    return choice, seconds


def _remember(path: Path, answer: Mapping[str, Any]) -> None:
    """Write a cache entry whole or not at all; a cache that cannot be written is no error."""
    with contextlib.suppress(RunError):
        make_folder(path.parent)
        write_text(path, json.dumps(answer))
