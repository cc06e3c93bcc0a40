"""A decoder as a list of steps that a page can run: plain numbers, checked against the model."""

import base64
from typing import Any

import numpy as np

from models.autoencoder import Autoencoder
from models.config import ConfigError
from models.distributions import Bernoulli, DiscretizedLogistic, Laplace, Normal
from models.networks.decoder import Decoder
from models.networks.layers import BatchNorm, ConvTranspose2d, Linear
from models.networks.layers.patches import same_padding

LINKS = ((Bernoulli, "sigmoid"), (DiscretizedLogistic, "logistic"), (Normal, "identity"), (Laplace, "identity"))


def packed(a: Any) -> dict[str, Any]:
    """Return an array as {"shape", "data"}: float32, little endian, base64."""
    a = np.ascontiguousarray(np.asarray(a, "<f4"))
    return {"shape": list(a.shape), "data": base64.b64encode(a.tobytes()).decode()}


def steps_of(model: Autoencoder, p: Any) -> list[dict[str, Any]]:
    """Return the decoder's steps, then the link to the mean; `p`: what it decodes to (for its kind and its scale).

    Raises ConfigError, one line, for a decoder or a likelihood that the page cannot run.
    """
    net = model.decoder
    if not isinstance(net, Decoder) or net.tied:
        what = "tied weights" if isinstance(net, Decoder) else type(net).__name__.lower()
        raise ConfigError(f"the page decodes dense and convolutional decoders with weights of their own, not {what}")
    link = next((name for kind, name in LINKS if isinstance(p, kind)), None)
    if link is None:
        kind = type(p).__name__.lower()
        raise ConfigError(f"the page shows means of bernoulli, discretizedlogistic, normal and laplace, not {kind}")
    out: list[dict[str, Any]] = []
    for block in net.hidden:
        out += [_layer(block.layer, None), *_rest(block)]
    for block, size, before in zip(net.convolutions, net.sizes[1:-1], net.sizes, strict=False):
        out += [_layer(block.layer, (before, size)), *_rest(block)]
    out.append(_layer(net.last, (net.sizes[-2], net.sizes[-1]) if net.sizes else None))
    step = {"kind": "link", "name": link, "channels": net.channels}
    if link == "logistic" and net.channels == 1:
        step["log_scale"] = float(np.asarray(p.log_scale).reshape(-1)[0])
    elif link == "logistic":
        held: Any = model.likelihood_module
        step["log_scale"] = float(np.asarray(held().initial_log_scale()))
    return [*out, step]


def _layer(layer: Any, sizes: Any) -> dict[str, Any]:
    if isinstance(layer, Linear):
        return {"kind": "dense", "kernel": packed(layer.kernel[...]), "bias": packed(layer.bias[...])}
    if isinstance(layer, ConvTranspose2d):
        kernel = layer.kernel[...]
        pads = [same_padding(n, k, layer.stride)[0] for n, k in zip(sizes[1], kernel.shape[:2], strict=True)]
        step = {"kind": "conv", "kernel": packed(kernel), "bias": packed(layer.bias[...]), "stride": layer.stride}
        return step | {"from": list(sizes[0]), "to": list(sizes[1]), "pads": pads}
    raise ConfigError(f"the page knows no layer {type(layer).__name__}")


def _rest(block: Any) -> list[dict[str, Any]]:
    """Return a block's normalisation (running statistics as one affine map) and activation."""
    out: list[dict[str, Any]] = []
    if block.norm is not None:
        scale, bias = (np.asarray(v[...], np.float64) for v in (block.norm.scale, block.norm.bias))
        if isinstance(block.norm, BatchNorm):
            mean, var = (np.asarray(v[...], np.float64) for v in (block.norm.mean, block.norm.var))
            slope = scale / np.sqrt(var + 1e-5)
            out.append({"kind": "affine", "scale": packed(slope), "bias": packed(bias - mean * slope)})
        else:
            out.append({"kind": "layernorm", "scale": packed(scale), "bias": packed(bias)})
    return [*out, {"kind": "activation", "name": block.activation}]
