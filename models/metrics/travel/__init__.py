"""Travel in the code space by the decoder's own ruler: geodesics, distances, volumes, straight-ahead motion."""

from models.metrics.travel.distances import distance_matrix, distances
from models.metrics.travel.exponential import exponential
from models.metrics.travel.geodesics import Geodesics, curve_energy, curve_length, geodesics
from models.metrics.travel.magnification import grid, indicatrices, magnification
from models.metrics.travel.spread import Spread, fit_spread
from models.metrics.travel.surface import Surface, surface

__all__ = [
    "Geodesics",
    "Spread",
    "Surface",
    "curve_energy",
    "curve_length",
    "distance_matrix",
    "distances",
    "exponential",
    "fit_spread",
    "geodesics",
    "grid",
    "indicatrices",
    "magnification",
    "surface",
]
