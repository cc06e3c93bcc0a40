"""Sprites: images of a shape with five known factors, generated, every combination once.

Like dSprites (Matthey et al. 2017) in idea, smaller, and with every image different: orientations cover a
quarter turn, which is injective for a square, an ellipse with two different axes, and a triangle.
"""

import math
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

SIZE = 32
FACTORS: dict[str, tuple[Any, ...]] = {
    "shape": ("square", "ellipse", "triangle"),
    "scale": (4.0, 5.0, 6.0, 7.0),  # radius of the circle around the shape, pixels
    "orientation": tuple(math.radians(90 * k / 8) for k in range(8)),  # radians, counter-clockwise
    "x": tuple(range(7, 26, 2)),  # centre, pixels from the left
    "y": tuple(range(7, 26, 2)),  # centre, pixels from the top
}
_BOX, _FINE = 14, 8  # a shape fits a box of 14 pixels; each pixel is sampled 8 x 8 times


def _inside(shape: str, u: np.ndarray, v: np.ndarray) -> Bool[np.ndarray, "..."]:
    """Whether points (u, v), in units of the circumscribed circle's radius, lie in the shape."""
    if shape == "square":
        return np.maximum(np.abs(u), np.abs(v)) <= math.sqrt(0.5)
    if shape == "ellipse":
        return u**2 + (v / 0.5) ** 2 <= 1
    third = 2 * math.pi / 3
    return np.max([math.cos(k * third) * u + math.sin(k * third) * v for k in range(3)], axis=0) <= 0.5


def _patch(shape: str, radius: float, angle: float) -> UInt8[np.ndarray, "14 14"]:
    """One shape centred in its box: the share of each pixel's samples inside it, 0..255."""
    points = (np.arange(_BOX * _FINE) + 0.5) / _FINE - _BOX / 2
    right, up = np.meshgrid(points, -points)
    u = (math.cos(angle) * right + math.sin(angle) * up) / radius
    v = (math.cos(angle) * up - math.sin(angle) * right) / radius
    share: Float[np.ndarray, "14 14"] = (
        _inside(shape, u, v).reshape(_BOX, _FINE, _BOX, _FINE).mean(axis=(1, 3), dtype=np.float64)
    )
    return np.rint(255 * share).astype(np.uint8)


def generate() -> tuple[UInt8[np.ndarray, "n 32 32 1"], Int[np.ndarray, "n 5"]]:
    """Return all 9,600 images and, for each, the index of every factor's value (columns as in FACTORS).

    The last factor changes fastest. Nothing is random.
    """
    sizes = tuple(len(v) for v in FACTORS.values())
    images = np.zeros((*sizes, SIZE, SIZE), np.uint8)
    half = _BOX // 2
    for a, shape in enumerate(FACTORS["shape"]):
        for b, radius in enumerate(FACTORS["scale"]):
            for c, angle in enumerate(FACTORS["orientation"]):
                patch = _patch(shape, radius, angle)
                for d, x in enumerate(FACTORS["x"]):
                    for e, y in enumerate(FACTORS["y"]):
                        images[a, b, c, d, e, y - half : y + half, x - half : x + half] = patch
    indices = np.indices(sizes).reshape(len(sizes), -1).T.astype(np.int32)
    return images.reshape(-1, SIZE, SIZE, 1), np.ascontiguousarray(indices)
