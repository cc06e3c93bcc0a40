"""How fast this device is: rates by kind of operation, measured once by `calibrate()` and stored per device.

    seconds(one operation) = max(operations / rate(kind, smallest dimension), bytes / bandwidth) + dispatch

The rate of a matrix product falls with its smallest dimension (a product with a vector is bound by memory), so it is a
table in that dimension, interpolated in the logarithm.
"""

import contextlib
import itertools
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from grads.costs.timing import best

Number = int | float


@dataclass(frozen=True)
class Work:
    """Derivative work of one equation: per column (or row) and fixed; `smallest` without and `free` times columns."""

    kind: str
    operations: Number
    bytes: Number
    fixed_bytes: Number
    free: Number
    smallest: Number
    itemsize: int
    repeat: Number = 1.0


def operations(works: Iterable[Work], columns: Number) -> Number:
    """Total operations of these equations for so many columns."""
    return sum([w.operations * w.repeat for w in works]) * columns


def moved_bytes(works: Iterable[Work], columns: Number) -> Number:
    """Total memory traffic of these equations for so many columns."""
    return sum([(w.bytes * columns + w.fixed_bytes) * w.repeat for w in works])


@dataclass(frozen=True)
class Machine:
    """Rates in operations per second (float32), bandwidth in bytes per second, dispatch in seconds per operation.

    `dot`, `conv`, `conv_transposed`: (smallest dimension, rate) pairs, increasing. `cache`: bytes that stay fast.
    `variants`: (kind, bytes per element, inside a loop, pairs) where the rate is another than the usual one: XLA's CPU
    compiler emits other code for a transposed convolution in float64, and again other code in a loop.
    """

    name: str
    dot: tuple[tuple[Number, Number], ...]
    conv: tuple[tuple[Number, Number], ...]
    conv_transposed: tuple[tuple[Number, Number], ...]
    elementwise: Number
    bandwidth: Number
    dispatch: Number
    cache: Number = 1e6
    cached: Number = 2e10
    variants: tuple[tuple[str, int, bool, tuple[tuple[Number, Number], ...]], ...] = ()
    looped: bool = False

    def in_loop(self) -> "Machine":
        """This machine inside a loop."""
        return self if self.looped or not self.variants else replace(self, looped=True)

    def seconds(self, works: Iterable[Work], columns: Number) -> Number:
        """Predicted time of these equations for so many columns at once."""
        return sum([self._seconds(w, columns) for w in works])

    def _seconds(self, w: Work, columns: Number) -> Number:
        rate = self.rate(w.kind, min(w.free * columns, w.smallest), w.itemsize, w.repeat > 1)
        moved = w.bytes * columns
        transfer = moved / (self.cached if moved < self.cache else self.bandwidth)
        transfer += w.fixed_bytes / self.cached
        return w.repeat * (max(w.operations * columns / rate, transfer) + self.dispatch)

    def rate(self, kind: str, smallest: Number, itemsize: int = 4, looped: bool = False) -> Number:
        """Operations per second for this kind of operation; usually float64 runs at half the rate, 16 bit as 32."""
        for name, width, inside, table in self.variants:
            if (name, width, inside) == (kind, itemsize, looped or self.looped):
                return _interpolate(table, smallest)
        if kind == "elementwise":
            return self.elementwise * min(1.0, 4 / itemsize)
        return _interpolate(getattr(self, kind), smallest) * min(1.0, 4 / itemsize)


def _interpolate(table: tuple[tuple[Number, Number], ...], x: Number) -> Number:
    if x <= table[0][0]:
        return table[0][1]
    for (x0, y0), (x1, y1) in itertools.pairwise(table):
        if x <= x1:
            t = math.log(x / x0) / math.log(x1 / x0)
            return y0 ** (1 - t) * y1**t
    return table[-1][1]


_DEFAULTS = {
    "cpu": Machine(
        "cpu (shipped default)",
        dot=((1, 6e9), (4, 2e10), (16, 6e10), (64, 1e11), (256, 1.2e11)),
        conv=((1, 1e10), (8, 4e10), (32, 6e10), (64, 8e10)),
        conv_transposed=((1, 1e10), (8, 2e10), (32, 4e10), (64, 5e10)),
        elementwise=2e9,
        bandwidth=1.5e9,
        dispatch=1e-6,
        variants=(
            ("conv_transposed", 4, True, ((1, 2e9), (32, 1.6e10), (64, 1.8e10))),
            ("conv_transposed", 8, False, ((1, 2.4e9), (64, 2.4e9))),
            ("conv_transposed", 8, True, ((1, 2.2e9), (32, 1.1e10), (64, 1.3e10))),
        ),
    ),
    "gpu": Machine(
        "gpu (shipped default)",
        dot=((1, 5e10), (16, 1e12), (64, 5e12), (256, 1.5e13)),
        conv=((1, 5e10), (32, 3e12), (128, 8e12)),
        conv_transposed=((1, 5e10), (32, 2e12), (128, 6e12)),
        elementwise=2e11,
        bandwidth=1e12,
        dispatch=5e-6,
        cache=3e7,
        cached=4e12,
    ),
    "tpu": Machine(
        "tpu (shipped default)",
        dot=((1, 5e10), (8, 1e12), (128, 2e13), (256, 4e13)),
        conv=((1, 5e10), (32, 3e12), (128, 2e13)),
        conv_transposed=((1, 5e10), (32, 3e12), (128, 2e13)),
        elementwise=2e11,
        bandwidth=1e12,
        dispatch=3e-6,
        cache=3e7,
        cached=4e12,
    ),
}


def _cache_file() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(os.devnull if root.startswith("~") else root) / "autoencoders-jax" / "rates.json"  # no home: no cache


def _device_name() -> str:
    device = jax.devices()[0]
    return f"{device.platform}:{device.device_kind}:{os.cpu_count()}:{jax.__version__}"


@lru_cache(maxsize=1)
def machine() -> Machine:
    """Return the calibrated rates of the default device, or the shipped defaults of its platform."""
    try:
        stored = json.loads(_cache_file().read_text()).get(_device_name())
        if stored:
            tables = {k: _tuples(stored[k]) for k in ("dot", "conv", "conv_transposed", "variants")}
            return Machine(**{**stored, **tables})
    except (OSError, ValueError, TypeError, KeyError):
        pass  # a missing or damaged cache is the same as no calibration
    return _DEFAULTS.get(jax.devices()[0].platform, _DEFAULTS["gpu"])


def _tuples(x: Any) -> Any:
    return tuple(map(_tuples, x)) if isinstance(x, list) else x


def _best_seconds(fun: Callable, *args: Any, repeats: int = 5) -> Number:
    run = jax.jit(fun)
    return best({"": lambda: run(*args)}, turns=repeats)[""]


def calibrate(store: bool = True) -> Machine:
    """Measure the rates of the default device (two to five seconds) and store them in the user's cache folder.

    The folder is `$XDG_CACHE_HOME/autoencoders-jax` (default `~/.cache`). With `store=False` nothing is written; the
    measured rates are used for the rest of the process in both cases.
    """
    ones = lambda *shape: jnp.ones(shape, jnp.float32)
    base = _best_seconds(lambda x: x + 1, ones(4), repeats=50)
    dot: list[tuple[Number, Number]] = []
    for d in (1, 4, 16, 64, 256):
        seconds = _best_seconds(lambda a, b: a @ b, ones(d, 784), ones(784, 512))
        dot.append((d, 2 * d * 784 * 512 / max(seconds - base, 1e-7)))
    stream = ones(1 << 23)
    bandwidth = 2 * stream.nbytes / _best_seconds(lambda x: x + 1.0, stream)
    cached = ones(1 << 16)
    inside = max(_best_seconds(lambda x: x * x + 1.0, cached, repeats=50) - base, 1e-7)
    shipped = _DEFAULTS.get(jax.devices()[0].platform, _DEFAULTS["gpu"])
    chained = _best_seconds(_chain_of_products, ones(8, 8), repeats=50)
    found = replace(
        shipped,
        name=_device_name(),
        dot=_increasing(dot),
        conv=_increasing(_conv_rates(False, base)),
        conv_transposed=_increasing(_conv_rates(True, base)),
        variants=_variants(base) if shipped.variants else (),
        elementwise=cached.size / inside,
        bandwidth=bandwidth,
        cached=max(2 * cached.nbytes / inside, bandwidth),
        dispatch=max((chained - base) / 32, 1e-7),
    )
    if store:
        _store(found)
    _measured[:] = [found]
    return found


def _chain_of_products(x):
    for _ in range(32):
        x = jnp.tanh(x @ x)
    return x


def _variants(base: Number) -> tuple:
    """Rates of transposed convolutions in a loop and in float64."""
    cases = ((jnp.float32, True), (jnp.float64, False), (jnp.float64, True))
    with jax.enable_x64(True):
        rates = [_conv_rates(True, base, dtype, looped) for dtype, looped in cases]
    return tuple(
        ("conv_transposed", jnp.dtype(dtype).itemsize, looped, _increasing(found))
        for (dtype, looped), found in zip(cases, rates, strict=True)
    )


def _conv_rates(transposed: bool, base: Number, dtype: Any = jnp.float32, looped: bool = False) -> list:
    """Rates of a 4x4 stride 2 convolution of 16 images (or of its transpose), by number of channels."""

    def conv(x, w):
        return jax.lax.conv_general_dilated(x, w, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def pull(y, w):
        like = jax.ShapeDtypeStruct((y.shape[0], 16, 16, w.shape[2]), dtype)
        return jax.linear_transpose(lambda x: conv(x, w), like)(y)[0]

    def in_loop(y, w):
        return jax.lax.map(lambda part: pull(part, w), y.reshape(2, 8, *y.shape[1:]))

    rates: list[tuple[Number, Number]] = []
    for channels in (1, 8, 32, 64):
        x = jnp.ones((16, 16, 16, channels), dtype)
        w = jnp.ones((4, 4, channels, 32), dtype)
        operations = 2 * 16 * 8 * 8 * 32 * 16 * channels
        run = (in_loop if looped else pull) if transposed else conv
        seconds = _best_seconds(run, conv(x, w) if transposed else x, w)
        rates.append((channels, operations / max(seconds - base, 1e-7)))
    return rates


def _increasing(table: list[tuple[Number, Number]]) -> tuple[tuple[Number, Number], ...]:
    highest, out = 0.0, []
    for x, y in table:
        highest = max(highest, y)
        out.append((float(x), highest))
    return tuple(out)


def _store(found: Machine) -> None:
    path = _cache_file()
    try:
        known = json.loads(path.read_text())
    except (OSError, ValueError):
        known = {}
    with contextlib.suppress(OSError):  # a cache that cannot be written is no error
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**known, found.name: asdict(found)}, indent=1))


_measured: list[Machine] = []


def current() -> Machine:
    """The rates `auto` uses now: measured in this process, else stored, else shipped."""
    return _measured[-1] if _measured else machine()


@contextmanager
def using(rates: Machine) -> Iterator[None]:
    """Predict with these rates inside the context."""
    _measured.append(rates)
    try:
        yield
    finally:
        _measured.pop()
