"""Vision transformers: an image as a sequence of square patches, of which the encoder may see only some."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, Shaped

from models.batch import Sizes
from models.config import ConfigError, config, setting, static
from models.networks.encoder import layer_keys
from models.networks.layers import LayerNorm, Linear
from models.networks.sequences.steps import Vectors, affine
from models.networks.sequences.transformer import Layer, places

Image = Float[Array, "batch height width values"]


@config
class ViT:
    """Layers of attention over the patches of an (H, W, C) image (Dosovitskiy et al. 2021).

    Places are learned vectors; an image that patches do not fill is padded by zeros at its lower and right edge. The
    encoder's answer is one code of the image or a code of every patch (He et al. 2022); with objective `masked` it sees
    some patches only, and computes with those alone. The decoder reads the code of the image at every patch, or each
    patch's own, with one learned vector where it is all zeros: a patch that the encoder did not see.
    """

    patch: int = setting(4, at_least=1)
    """height and width of a patch, pixels"""
    width: int = setting(64, at_least=1)
    """numbers of a patch inside the network"""
    layers: int = setting(2, at_least=1)
    """attention and perceptron, this many times"""
    heads: int = setting(4, at_least=1)
    """attentions side by side, a divisor of the width"""
    code: Literal["image", "patches"] = "image"
    """image: one code of all patches, from their mean; patches: `latent` is cut among the patches, each has its own"""
    dropout: float = static(0.0, at_least=0, below=1)
    """probability with which a number that a layer adds is zeroed in training; 0: none"""

    def check(self) -> None:
        """Raise ConfigError unless the heads divide the width."""
        if self.width % self.heads:
            raise ConfigError(f"heads must divide width {self.width}, got {self.heads}")

    def fits(self, model: Any) -> None:
        """Raise ConfigError for tied weights, and for codes of patches that would be cut wrongly."""
        encodes, mirror = model.encoder is self, hasattr(model.decoder, "tied")
        if encodes and mirror and model.decoder.tied:
            raise ConfigError("encoder vit has no transpose: use decoder mirror with tied=False")
        if self.code == "image":
            return
        if model.labels != "none":
            raise ConfigError(f"codes of patches take no labels, got labels {model.labels!r}: use code image")
        if encodes and model.posterior.numbers(model.latent) != model.latent:
            raise ConfigError("codes of patches need a posterior with one number a unit: use posterior point or vq")
        other = model.decoder
        if encodes and isinstance(other, ViT) and other.code == "patches" and other.patch != self.patch:
            raise ConfigError(f"encoder and decoder must cut the same patches, got {self.patch} and {other.patch}")

    def mirrored(self) -> "ViT":
        """Return the decoder that reverses this encoder: itself."""
        return self

    def build_encoder(self, sizes: Sizes, numbers: int, extra: int, rngs: nnx.Rngs) -> "ViTEncoder":
        """Return the network from image to the numbers of its posterior."""
        return ViTEncoder(self, sizes, numbers, extra, rngs=rngs)

    def build_decoder(self, inputs: int, sizes: Sizes, channels: int, rngs: nnx.Rngs, encoder: Any) -> "ViTDecoder":
        """Return the network from code to the likelihood's numbers; the config of the encoder is unused."""
        return ViTDecoder(self, inputs, sizes, channels, rngs=rngs)


class Patches:
    """How an image (H, W, C) is cut: `rows` x `columns` patches of `side`² pixels, in reading order."""

    def __init__(self, shape: tuple[int, ...], side: int):
        if len(shape) != 3:
            raise ConfigError(f"vit needs images of shape (H, W, C), got examples of shape {shape}: use dense")
        self.height, self.width, self.side = shape[0], shape[1], side
        self.rows, self.columns = -(-shape[0] // side), -(-shape[1] // side)

    def __len__(self) -> int:
        return self.rows * self.columns

    def cut(self, x: Image) -> Float[Array, "batch patches numbers"]:
        """Return every patch's numbers, zeros beyond the image."""
        edges = [(0, self.rows * self.side - self.height), (0, self.columns * self.side - self.width)]
        x = jnp.pad(x, [(0, 0), *edges, (0, 0)])
        x = x.reshape(len(x), self.rows, self.side, self.columns, self.side, -1)
        return x.transpose(0, 1, 3, 2, 4, 5).reshape(len(x), len(self), -1)

    def joined(self, patches: Shaped[Array, "batch patches numbers"]) -> Shaped[Array, "batch height width values"]:
        """Return the image that `cut` gives these patches of."""
        n = len(patches)
        x = patches.reshape(n, self.rows, self.columns, self.side, self.side, -1).transpose(0, 1, 3, 2, 4, 5)
        x = x.reshape(n, self.rows * self.side, self.columns * self.side, -1)
        return x[:, : self.height, : self.width]

    def pixels(self, chosen: Bool[Array, "batch patches"]) -> Bool[Array, "batch height width 1"]:
        """Return which pixels belong to the chosen patches."""
        return self.joined(jnp.repeat(chosen[..., None], self.side**2, axis=2))


def codes_of(patches: Patches, latent: int) -> int:
    """Return the numbers of each patch's code. Raises ConfigError where the patches do not divide them."""
    if latent % len(patches):
        n = len(patches)
        raise ConfigError(f"codes of {n} patches: latent must be a multiple of {n}, such as {8 * n}, got {latent}")
    return latent // len(patches)


class ViTEncoder(nnx.Module):
    """Patches, places, layers; then an affine head of the mean over patches, or of every patch."""

    def __init__(self, cfg: ViT, sizes: Sizes, outputs: int, extra: int, *, rngs: nnx.Rngs):
        self.patches, self.each = Patches(sizes.shape, cfg.patch), cfg.code == "patches"
        self.entry = Linear(cfg.patch**2 * sizes.shape[2], cfg.width, rngs=rngs)
        self.place = places(len(self.patches), cfg.width, rngs)
        self.layers = nnx.List([Layer(cfg, rngs=rngs) for _ in range(cfg.layers)])
        numbers = codes_of(self.patches, outputs) if self.each else outputs
        self.norm, self.head = LayerNorm(cfg.width), Linear(cfg.width + extra, numbers, rngs=rngs)

    def __call__(
        self,
        x: Image,
        key: PRNGKeyArray | None = None,
        extra: Float[Array, "batch extra"] | None = None,
        seen: Int[Array, "batch seen"] | None = None,
    ) -> Float[Array, "batch outputs"]:
        """Return the head's numbers; a key means training mode.

        seen: which patches there are, all others are left out of every product; their own codes are zeros.
        """
        cut, place = self.patches.cut(x), self.place[...][None]
        if seen is not None:
            cut = jnp.take_along_axis(cut, seen[..., None], axis=1)
            place = self.place[...][seen]
        h = attended(self.layers, affine(self.entry, cut.astype(place.dtype)) + place, key)
        h = self.norm(h, False)
        if not self.each:
            mean = jnp.mean(h, axis=1)
            return self.head(mean if extra is None else jnp.concatenate([mean, extra.astype(mean.dtype)], axis=1))
        codes = affine(self.head, h)
        if seen is not None:
            none = jnp.zeros((len(codes), len(self.patches), codes.shape[2]), codes.dtype)
            codes = jax.vmap(lambda all, at, value: all.at[at].set(value))(none, seen, codes)
        return codes.reshape(len(codes), -1)


class ViTDecoder(nnx.Module):
    """A vector for every patch from the code, places, layers; then an affine map to the patch's numbers."""

    def __init__(self, cfg: ViT, inputs: int, sizes: Sizes, channels: int, *, rngs: nnx.Rngs):
        self.patches, self.each = Patches(sizes.shape, cfg.patch), cfg.code == "patches"
        self.entry = Linear(codes_of(self.patches, inputs) if self.each else inputs, cfg.width, rngs=rngs)
        self.place = places(len(self.patches), cfg.width, rngs)
        self.unseen = nnx.Param(0.1 * jax.random.normal(rngs.params(), (cfg.width,))) if self.each else None
        self.layers = nnx.List([Layer(cfg, rngs=rngs) for _ in range(cfg.layers)])
        self.norm = LayerNorm(cfg.width)
        self.out = Linear(cfg.width, cfg.patch**2 * sizes.shape[2] * channels, rngs=rngs)
        self.shape, self.channels = sizes.shape, channels

    def __call__(
        self, z: Float[Array, "batch inputs"], key: PRNGKeyArray | None = None, encoder: Any = None
    ) -> Float[Array, "batch height width values channels"]:
        """Return the likelihood's numbers; a key means training mode; the encoder is unused."""
        if self.unseen is None:
            h = self.entry(z)[:, None]
        else:
            codes = z.reshape(len(z), len(self.patches), -1)
            there = jnp.any(codes != 0, axis=2, keepdims=True)
            h = jnp.where(there, affine(self.entry, codes), self.unseen[...][None, None])
        h = attended(self.layers, h + self.place[...][None], key)
        numbers = affine(self.out, self.norm(h, False))
        return self.patches.joined(numbers).reshape(len(z), *self.shape, self.channels)

    def set_bias(self, bias: Float[Array, "*shape channels"]) -> None:
        """Start every patch from the mean of `bias` over the patches."""
        flat = self.patches.cut(bias.reshape(1, *self.shape[:2], -1))[0]
        self.out.bias[...] = flat.mean(0).astype(self.out.bias[...].dtype)


def attended(layers: Any, h: Vectors, key: PRNGKeyArray | None) -> Vectors:
    """Return the layers' value where every step sees every other."""
    every = jnp.ones((1, 1, h.shape[1]), bool)
    for layer, k in zip(layers, layer_keys(key, len(layers)), strict=True):
        h, _ = layer(h, every, k)
    return h
