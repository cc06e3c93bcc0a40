"""The geometry of an autoencoder: what its two Jacobians say of every example, on one page."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from models.autoencoder import Autoencoder
from models.batch import Batch, as_batch
from models.codes import has_density
from models.config import ConfigError
from models.networks.held import Held
from models.terms.geometry.halves import decoder, encoder, tall

Rows = Any  # {name: array with one row per example}
SATURATED = {"sigmoid": (0.05, 0.95), "tanh": (-0.9, 0.9)}


def report_card(
    model: Autoencoder, batch: Batch | Any, key: PRNGKeyArray | None, *, chunk: int = 64
) -> dict[str, float | list[float]]:
    """Return the report card of encoder f (at x) and decoder g (at the mean code), evaluation mode, exact Jacobians.

    encoder_, decoder_jacobian_squared: E ||J||²_F. _singular_values: mean spectra, falling. _participation: mean of
    (Σσ²)² / Σσ⁴. _lipschitz: largest σ of all examples; _secant: largest |f(x) - f(x')| / |x - x'| of random pairs:
    both bound the Lipschitz constant from below. intrinsic_dimension: mean number of σ(J_g J_f) above ½;
    reconstruction_trace: E tr J_g J_f. saturation: share of code units outside (0.05, 0.95) of a sigmoid, or
    (-0.9, 0.9) of a tanh; absent for unbounded codes.

    The rest is over active units (`active_units`, of variance above 0.01, of a point above 10⁻⁴ of the largest):
    orthogonality_distance: E ||V - P(V)||_F, J_g = UΣVᵀ, P the nearest signed permutation (Rolinek et al. 2019), beside
    that of random rotations (_random) and of the same Jacobians with the code turned (_rotated); where singular values
    meet V is arbitrary, and so is it. independence_contrast_nats: E Σ log|J_i| - ½ log det G (Gresele et al. 2021).
    metric_condition, _median: of G = J_gᵀJ_g. metric_variance: E of the squared affine-invariant distance of G from its
    mean (Lee et al. 2022). decoder_log_volume_nats ½ log det J_gᵀJ_g, encoder_log_volume_nats ½ log det J_f J_fᵀ,
    log_volume_gap_nats: mean of their sum, 0 where f inverts g. inverse_error: E ||J_f J_g - I||_F.

    Examples with a singular metric (σ_min below rounding) are left out of contrast, condition, variance and volumes;
    singular_share says how many. Memory: `chunk` whole Jacobians at a time, and three latent x latent matrices for each
    example (QR factors: G is never formed). Raises ConfigError without key, encoder, or a second example, or for a
    decoder narrower than its code; ValueError for Jacobians that are not finite.
    """
    batch = as_batch(batch)
    if key is None or batch.size < 2:
        raise ConfigError("geometry draws rotations and pairs of examples: give a key, and at least 2 examples")
    graph, state = nnx.split(model)
    k_pairs, k_turn = jax.random.split(key)
    parts = []
    for start in range(0, batch.size, chunk):
        index = np.arange(start, start + chunk) % batch.size  # the last chunk is filled up: one program
        some = Batch(*(None if a is None else np.asarray(a)[index] for a in batch))  # no copy of all of them
        rows = _jitted(graph, state, some, k_pairs)
        parts.append({name: np.asarray(value)[: batch.size - start] for name, value in rows.items()})
    rows = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
    return card_of(rows, int(jax.random.randint(k_turn, (), 0, 2**31 - 1)))


def card_of(rows: Rows, seed: int) -> dict[str, float | list[float]]:
    """Return the card that rows (`rows_of`, of all examples, on the host) hold; seed: of the random rotations.

    Raises ValueError for Jacobians that are not finite.
    """
    rows = {name: np.asarray(value, np.float64) for name, value in rows.items()}
    _finite(rows)
    out = _whole(rows) | ({"saturation": float(rows["saturated"].mean())} if "saturated" in rows else {})
    return out | _on_active(rows, _active(rows), np.random.default_rng(seed))


@functools.partial(jax.jit, static_argnums=0)
def _jitted(graph: Any, state: Any, batch: Batch, key: Any) -> Rows:
    return rows_of(nnx.merge(graph, state), batch, key)


def rows_of(model: Autoencoder, batch: Batch, key: PRNGKeyArray) -> Rows:
    """Return codes, secants and the small matrices R_f, R_g, J_f J_g of each example, all that `card_of` needs.

    May be called inside a program. Memory: the whole Jacobians of the batch. Raises ConfigError as `report_card`.
    """
    with jax.default_matmul_precision("highest"):
        f = encoder(model, batch.x, batch.label, batch.mask, "geometry")
        code = f(f.at)
        g = decoder(model, code, batch.label, "geometry")
        tall(g, "geometry")
        j_f, j_g = f.jacobians(), g.jacobians()
        other = jax.random.permutation(key, batch.x.shape[0])

        def secant(half: Any) -> Float[Array, " batch"]:
            apart = jnp.linalg.norm(half.at - half.at[other], axis=1)
            values = half(half.at)
            ratio = jnp.linalg.norm(values - values[other], axis=1) / jnp.where(apart > 0, apart, 1)
            return jnp.where(apart > 0, ratio, 0)

        rows = {
            "code": code,
            "r_f": jnp.linalg.qr(jnp.swapaxes(j_f, 1, 2), mode="r"),
            "r_g": jnp.linalg.qr(j_g, mode="r"),
            "product": j_f @ j_g,
            "secant_f": secant(f),
            "secant_g": secant(g),
            "density": jnp.full(code.shape[:1], has_density(model.encode(model.sees(batch), None, batch.label))),
        }
    module = model.posterior_module
    activation = getattr(module(), "activation", "") if isinstance(module, Held) else ""
    if activation in SATURATED:
        low, high = SATURATED[activation]
        rows["saturated"] = jnp.mean((code < low) | (code > high), axis=1)
    return rows


def _finite(rows: Rows) -> None:
    bad = np.zeros(len(rows["code"]), bool)
    for name in ("r_f", "r_g", "product"):
        bad |= ~np.isfinite(rows[name]).all((1, 2))
    if bad.any():
        raise ValueError(f"{bad.sum()} of {bad.size} Jacobians are not finite, first that of example {bad.argmax()}")


def _active(rows: Rows) -> np.ndarray:
    """Return which units move with the example (Burda et al. 2016 for a posterior with a density)."""
    variance = rows["code"].var(0)
    return variance > (0.01 if rows["density"].all() else 1e-4 * variance.max())


def _singular(r: np.ndarray) -> np.ndarray:
    return np.linalg.svd(r, compute_uv=False)


def _whole(rows: Rows) -> dict[str, Any]:
    """Return what is told of the whole Jacobians."""
    out: dict[str, Any] = {"examples": float(len(rows["code"]))}
    for name, r, secant in (("encoder", "r_f", "secant_f"), ("decoder", "r_g", "secant_g")):
        s = _singular(rows[r])
        square, fourth = (s**2).sum(1), (s**4).sum(1)
        out |= {
            f"{name}_jacobian_squared": float(square.mean()),
            f"{name}_singular_values": s.mean(0).tolist(),
            f"{name}_participation": _mean(square[fourth > 0] ** 2 / fourth[fourth > 0]),
            f"{name}_lipschitz": float(s.max()),
            f"{name}_secant": float(rows[secant].max()),
        }
    both = _singular(rows["r_g"] @ rows["r_f"].transpose(0, 2, 1))
    out["intrinsic_dimension"] = float((both > 0.5).sum(1).mean())
    return out | {"reconstruction_trace": float(np.trace(rows["product"], axis1=1, axis2=2).mean())}


def _on_active(rows: Rows, active: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
    """Return what is told of active units; nan where nothing is left to tell it of."""
    r_g = np.linalg.qr(rows["r_g"][:, :, active], mode="r")
    r_f = np.linalg.qr(rows["r_f"][:, :, active], mode="r")
    d = int(active.sum())
    out: dict[str, Any] = {"active_units": float(d)}
    out["inverse_error"] = _mean(np.linalg.norm(rows["product"][:, active][:, :, active] - np.eye(d), axis=(1, 2)))
    regular = np.zeros(len(r_g), bool)
    if d:
        eps = float(np.finfo(np.float32).eps)
        regular = np.logical_and(*((lambda s: s[:, -1] > d * eps * s[:, 0])(_singular(r)) for r in (r_g, r_f)))
        v = np.linalg.svd(r_g)[2].transpose(0, 2, 1)
        turn = _rotations(rng, 1, d)[0]
        out["orthogonality_distance"] = distance_to_permutations(v)
        out["orthogonality_distance_rotated"] = distance_to_permutations(turn @ v)
        out["orthogonality_distance_random"] = distance_to_permutations(_rotations(rng, 1000, d))
    out["singular_share"] = float(1 - regular.mean())
    return out | _regular(r_g[regular], r_f[regular])


def _regular(r_g: np.ndarray, r_f: np.ndarray) -> dict[str, Any]:
    """Return what needs metrics that are not singular."""
    volume = lambda r: np.log(np.abs(np.diagonal(r, axis1=1, axis2=2))).sum(1)
    s = _singular(r_g)
    condition = (s[:, 0] / s[:, -1]) ** 2 if s.size else np.zeros(0)
    columns = np.log(np.linalg.norm(r_g, axis=1)).sum(1) if s.size else np.zeros(0)
    outer, inner = volume(r_g) if s.size else columns, volume(r_f) if s.size else columns
    variance = np.zeros(0)
    if s.size:
        root = np.linalg.qr(r_g.reshape(-1, r_g.shape[2]), mode="r") / len(r_g) ** 0.5  # of the mean metric
        variance = (np.log(_singular(r_g @ np.linalg.inv(root)) ** 2) ** 2).sum(1)
    return {
        "independence_contrast_nats": _mean(columns - outer),
        "metric_condition": _mean(condition),
        "metric_condition_median": float(np.median(condition)) if condition.size else float("nan"),
        "metric_variance": _mean(variance),
        "decoder_log_volume_nats": _mean(outer),
        "encoder_log_volume_nats": _mean(inner),
        "log_volume_gap_nats": _mean(outer + inner),
    }


def distance_to_permutations(v: Float[np.ndarray, "n d d"]) -> float:
    """Return the mean of ||V - P(V)||_F over orthogonal V, P(V) the nearest permutation with signs (an assignment).

    ||V - P||² = 2 d - 2 Σ |V_iπ(i)|, so the nearest one takes the largest sum of absolute entries.
    """
    from scipy.optimize import linear_sum_assignment

    d = v.shape[1]
    best = [np.abs(one)[linear_sum_assignment(-np.abs(one))].sum() for one in v]
    return _mean(np.sqrt(np.maximum(2 * d - 2 * np.asarray(best), 0)))


def _rotations(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    """Return orthogonal matrices, uniform: QR of normals with the signs of R put right (Mezzadri 2007)."""
    q, r = np.linalg.qr(rng.normal(size=(n, d, d)))
    return q * np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None]


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")
