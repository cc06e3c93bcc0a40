"""Convolutions of NHWC images with SAME padding: one interface, the fastest arithmetic of each backend.

    conv(x, K)[b, p, q] = Σ_{i, j} x[b, s p + i - top, s q + j - left] K[i, j],   (h, w) = ⌈(H, W) / s⌉
    conv_transpose(y, K) is its adjoint, from (h, w) back to any (H, W) with ⌈(H, W) / s⌉ = (h, w)

Padding is split as evenly as it can be, the odd row or column at the bottom right. `implementation` says
how it is computed: "native" (XLA's convolution), "patches" (shifted slices times a matrix, `layers.patches`)
or "auto": native on GPU and TPU, patches on CPU, where XLA's own convolution is several times slower.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from models.networks.layers.patches import Image, Kernel, conv_patches, conv_transpose_patches, same_padding

Taps = int | tuple[int, int]  # height and width of a kernel, or both
IMPLEMENTATIONS = ("auto", "native", "patches")
INITIALIZERS: dict[str, Callable[..., Any]] = {
    "he": nnx.initializers.he_normal(),
    "glorot": nnx.initializers.glorot_uniform(),
}
# part of jit's cache key, so a program traced under one choice is never reused under another
_override = jax.make_user_context(None)


def _check_implementation(name: str) -> None:
    if name not in IMPLEMENTATIONS:
        raise ValueError(f"unknown convolution implementation {name!r}: choose from {', '.join(IMPLEMENTATIONS)}")


@contextmanager
def convolution_implementation(name: str) -> Iterator[None]:
    """Make every "auto" convolution traced inside the block use `name`; ValueError for an unknown name."""
    _check_implementation(name)
    with _override(name):
        yield


def resolve_implementation(implementation: str = "auto") -> str:
    """Return "native" or "patches": the argument, else the enclosing context's choice, else the backend's."""
    _check_implementation(implementation)
    if implementation == "auto":
        implementation = _override.value or "auto"
    if implementation == "auto":
        device = jax.config.jax_default_device  # type: ignore[attr-defined]
        platform = getattr(device, "platform", device) or jax.default_backend()
        implementation = "patches" if platform == "cpu" else "native"
    return implementation


def _check(x: Image, kernel: Kernel, stride: int) -> None:
    if stride < 1:
        raise ValueError(f"stride must be at least 1, got {stride}")
    if x.ndim != 4 or kernel.ndim != 4:
        raise ValueError(f"expected (batch, H, W, channels) and a 4-d kernel, got {x.shape}, {kernel.shape}")
    if 0 in kernel.shape:
        raise ValueError(f"every axis of the kernel must be at least 1, got {kernel.shape}")
    if x.shape[3] != kernel.shape[2]:
        raise ValueError(f"the kernel {kernel.shape} takes {kernel.shape[2]} channels, got {x.shape[3]}")


def conv(x: Image, kernel: Kernel, stride: int = 1, *, implementation: str = "auto") -> Image:
    """Return the SAME convolution (cross-correlation) of `x` with `kernel`, of size ⌈H/stride⌉ x ⌈W/stride⌉.

    Raises ValueError for a stride below 1, an empty kernel, or a wrong number of channels.
    """
    _check(x, kernel, stride)
    if resolve_implementation(implementation) == "patches":
        return conv_patches(x, kernel, stride)
    pads = [same_padding(n, k, stride) for n, k in zip(x.shape[1:3], kernel.shape[:2], strict=True)]
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def conv_transpose(
    y: Image,
    kernel: Kernel,
    stride: int = 1,
    output_size: tuple[int, int] | None = None,
    *,
    implementation: str = "auto",
) -> Image:
    """Return the adjoint of `conv`: images of `output_size` (H, W), by default `stride` times the input's.

    With Kᵀ = swapaxes(K, 2, 3): Σ conv(x, K) y = Σ x conv_transpose(y, Kᵀ, output_size=x's size). The kernel
    is (rows, columns, inputs, outputs) as in `conv`, so tied weights are a swap of its last two axes.
    Raises ValueError unless ⌈H/stride⌉, ⌈W/stride⌉ is the input's size, and as `conv` does.
    """
    _check(y, kernel, stride)
    height, width = y.shape[1:3]
    size = (height * stride, width * stride) if output_size is None else tuple(output_size)
    if len(size) != 2 or (-(-size[0] // stride), -(-size[1] // stride)) != (height, width):
        fits = " x ".join(f"{(n - 1) * stride + 1}..{n * stride}" for n in (height, width))
        raise ValueError(f"output size {size} does not map back to {(height, width)} at stride {stride}: take {fits}")
    if resolve_implementation(implementation) == "patches":
        return conv_transpose_patches(y, kernel, stride, (size[0], size[1]))
    pads = []
    for n, k, out in zip((height, width), kernel.shape[:2], size, strict=True):
        before = k - 1 - same_padding(out, k, stride)[0]
        pads.append((before, out + k - 1 - before - ((n - 1) * stride + 1)))
    flipped = kernel[::-1, ::-1]
    return jax.lax.conv_general_dilated(
        y, flipped, (1, 1), pads, lhs_dilation=(stride, stride), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _parameters(
    in_channels: int, out_channels: int, kernel: Taps, stride: int, init: str, rngs: nnx.Rngs, transposed: bool = False
) -> tuple[nnx.Param, nnx.Param]:
    """Return a (rows, columns, in, out) kernel drawn by `init` and a zero bias.

    A transposed convolution at stride s adds up only kernel² / s² taps per output, on average over positions, so He's
    rule (He et al. 2015: variance 2 / inputs of a sum) takes s times the deviation of kernel² taps.
    """
    taps = (kernel, kernel) if isinstance(kernel, int) else kernel
    sizes = {"in_channels": in_channels, "out_channels": out_channels, "kernel": min(taps), "stride": stride}
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if init not in INITIALIZERS:
        raise ValueError(f"unknown initializer {init!r}: choose from {', '.join(INITIALIZERS)}")
    drawn = INITIALIZERS[init](rngs.params(), (*taps, in_channels, out_channels))
    if transposed and init == "he":
        drawn = drawn * (stride if taps[1] > 1 or taps[0] == 1 else stride**0.5)  # one column: of a series
    return nnx.Param(drawn), nnx.Param(jnp.zeros(out_channels))


class Conv2d(nnx.Module):
    """conv(x, kernel) + bias: (batch, H, W, in) to (batch, ⌈H/stride⌉, ⌈W/stride⌉, out)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: Taps,
        stride: int = 1,
        *,
        rngs: nnx.Rngs,
        init: str = "he",
        implementation: str = "auto",
    ):
        _check_implementation(implementation)
        self.kernel, self.bias = _parameters(in_channels, out_channels, kernel, stride, init, rngs)
        self.stride, self.implementation = stride, implementation

    def __call__(self, x: Image) -> Image:
        """Return the convolved images."""
        y = conv(x, self.kernel[...], self.stride, implementation=self.implementation)
        return y + self.bias[...][None, None, None]


class ConvTranspose2d(nnx.Module):
    """conv_transpose(y, kernel) + bias: (batch, h, w, in) to (batch, H, W, out), ⌈(H, W)/stride⌉ = (h, w)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: Taps,
        stride: int = 1,
        *,
        rngs: nnx.Rngs,
        init: str = "he",
        implementation: str = "auto",
    ):
        _check_implementation(implementation)
        self.kernel, self.bias = _parameters(in_channels, out_channels, kernel, stride, init, rngs, transposed=True)
        self.stride, self.implementation = stride, implementation

    def __call__(self, y: Image, output_size: tuple[int, int] | None = None) -> Image:
        """Return the images of `output_size` (H, W), by default `stride` times the size of `y`."""
        x = conv_transpose(y, self.kernel[...], self.stride, output_size, implementation=self.implementation)
        return x + self.bias[...][None, None, None]
