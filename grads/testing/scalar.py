"""Small programs of scalars without a waist, as published: what vertex elimination is measured on.

Each is a function of one vector to one vector, written out scalar by scalar, with repeated expressions repeated as in
the listings that other tools count.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float


@dataclass(frozen=True)
class ScalarProgram:
    """A program, a point to evaluate it at, and the multiplications that graphax 2025-03 counts (forward, reverse,
    Markowitz) where they are known.
    """

    fun: Callable[[Float[Array, " n"]], Float[Array, " m"]]
    at: tuple[float, ...]
    graphax: tuple[int, int, int] | None = None


def roe_flux(u: Float[Array, " 6"]) -> Float[Array, " 3"]:
    """The numerical flux between two states (density, momentum, energy) of a gas in one dimension: Roe 1981, J. Comput.
    Phys. 43, with the ratio of specific heats 1.4.
    """
    excess = 0.4

    def side(density, momentum, energy):
        velocity = momentum / density
        pressure = excess * (energy - 0.5 * momentum**2 / density)
        enthalpy = (energy + pressure) / density
        flux = (momentum, pressure + momentum * velocity, velocity * (pressure + energy))
        return velocity, pressure, enthalpy, flux

    (l0, l1, l2), (r0, r1, r2) = u[:3], u[3:]
    v_l, p_l, h_l, f_l = side(l0, l1, l2)
    v_r, p_r, h_r, f_r = side(r0, r1, r2)
    total = jnp.sqrt(l0) + jnp.sqrt(r0)
    v = (jnp.sqrt(l0) * v_l + jnp.sqrt(r0) * v_r) / total
    h = (jnp.sqrt(l0) * h_l + jnp.sqrt(r0) * h_r) / total
    square = v**2
    sound_square = excess * (h - 0.5 * square)
    sound, mean = jnp.sqrt(sound_square), jnp.sqrt(l0 * r0)
    dp, dv, scale = p_r - p_l, v_r - v_l, sound * mean
    middle = ((r0 - l0) - dp / sound_square) * jnp.abs(v)
    right = (dv + dp / scale) * jnp.abs(v + sound)
    left = (dv - dp / scale) * jnp.abs(v - sound)
    c = 0.5 * mean / sound
    jump = (
        middle + c * right - c * left,
        middle * v + c * right * (v + sound) - c * left * (v - sound),
        middle * 0.5 * square + c * right * (h + v * sound) - c * left * (h - v * sound),
    )
    return jnp.stack([0.5 * ((a + b) - d) for a, b, d in zip(f_l, f_r, jump, strict=True)])


def robot_arm(t: Float[Array, " 6"]) -> Float[Array, " 6"]:
    """Position (mm) and orientation (rad) of the hand of an arm with six joints, by its angles."""
    a1, a2, a3, d1, d4, d6 = 175.0, 890.0, 50.0, 575.0, 1035.0, 185.0
    t1, t2, t3, t4, t5, t6 = t
    c1, c2, c4, c5, c6 = (jnp.cos(v) for v in (t1, t2, t4, t5, t6))
    s1, s2, s4, s5, s6 = (jnp.sin(v) for v in (t1, t2, t4, t5, t6))
    c23 = jnp.cos(t2) * jnp.cos(t3) - jnp.sin(t2) * jnp.sin(t3)
    s23 = jnp.cos(t2) * jnp.sin(t3) + jnp.sin(t2) * jnp.cos(t3)
    ax = s5 * (c1 * c23 * c4 + s1 * s4) + c1 * s23 * c5
    ay = s5 * (s1 * c23 * c4 - c1 * s4) + s1 * s23 * c5
    az = s23 * c4 * s5 - c23 * c5
    nz = c6 * (c23 * s5 + s23 * c4 * c5) - s23 * s4 * s6
    oz = -s6 * (c23 * s5 + s23 * c4 * c5) - s23 * s4 * c6
    angles = jnp.arctan2(ay, ax), jnp.arctan2(jnp.sqrt(1.0 - az**2), az), jnp.arctan2(oz, -nz)
    px = d6 * (s5 * (c1 * c23 * c4 + s1 * s4) + c1 * s23 * c5) + c1 * (a1 + a2 * c2 + a3 * c23 + d4 * s23)
    py = d6 * (s5 * (s1 * c23 * c4 - c1 * s4) + s1 * s23 * c5) + s1 * (a1 + a2 * c2 + a3 * c23 + d4 * s23)
    pz = a2 * s2 + d1 + a3 * s23 - d4 * c23 + d6 * (s23 * c4 * s5 - c23 * c5)
    return jnp.stack([px, py, pz, *angles])


def heart_dipole(x: Float[Array, " 8"]) -> Float[Array, " 8"]:
    """The residuals of the human heart dipole problem, all sums 1: Averick, Carter & More 1991, MINPACK-2, 3.4."""
    a, b, c, d, t, u, v, w = x
    tv, uw = t**2 - v**2, u**2 - w**2
    ttt, vvv = t * (t**2 - 3 * v**2), v * (v**2 - 3 * t**2)
    uuu, www = u * (u**2 - 3 * w**2), w * (w**2 - 3 * u**2)
    return jnp.stack([
        a + b - 1,
        c + d - 1,
        t * a + u * b - v * c - w * d - 1,
        v * a + w * b + t * c + u * d - 1,
        a * tv - 2 * c * t * v + b * uw - 2 * d * u * w - 1,
        c * tv + 2 * a * t * v + d * uw + 2 * b * u * w - 1,
        a * ttt + c * vvv + b * uuu + d * www - 1,
        c * ttt - a * vvv + d * uuu - b * www - 1,
    ])  # fmt: skip


def propane_combustion(x: Float[Array, " 11"]) -> Float[Array, " 11"]:
    """The residuals of propane burning in air, full formulation at 40 atm: Averick, Carter & More 1991, MINPACK-2, 3.3,
    with all equilibrium constants 1.
    """
    pressure, air = 40.0, 10.0
    a, b, c, d, e, f, g, h, i, j, total = x
    root = jnp.sqrt(pressure / total)
    return jnp.stack([
        a + d - 3,
        2 * a + b + d + g + h + i + 2 * j - air,
        2 * b + 2 * e + f + g - 8,
        2 * c + i - 4 * air,
        b * d - a * e,
        jnp.sqrt(b * d) - jnp.sqrt(a) * root * f,
        jnp.sqrt(a * b) - jnp.sqrt(d) * g * root,
        a - d * h * pressure / total,
        a * jnp.sqrt(c) - d * i * root,
        a**2 - d**2 * j * pressure / total,
        total - a - b - c - d - e - f - g - h - i - j,
    ])  # fmt: skip


SCALAR_PROGRAMS = {
    "roe_flux": ScalarProgram(roe_flux, (1.0, 0.3, 2.5, 0.8, -0.2, 2.0), (620, 364, 407)),
    "robot_arm": ScalarProgram(robot_arm, (0.2, -0.5, 0.7, 0.4, 1.1, -0.3), (397, 301, 288)),
    "heart_dipole": ScalarProgram(heart_dipole, (0.3, 0.6, -0.4, 0.8, 0.2, 1.2, -0.7, 0.5)),
    "propane_combustion": ScalarProgram(propane_combustion, (1.2, 0.7, 15.0, 1.8, 0.4, 0.3, 0.6, 0.9, 8.0, 0.5, 40.0)),
}
