"""A trained run as a thing to use: encode, reconstruct, sample, interpolate and score in the data's own units.

`train.load_run(folder)` returns a `Trained`. It needs the run folder alone, wherever that was copied: the
config, and the shape, range and scale of the data, are recorded there beside the weights.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray, Shaped

from data import Scale
from models import metrics
from models.config import ConfigError, kind
from training.examples import binarise
from training.store.checkpoint import best_path, latest, restore_like
from training.store.errors import RunError
from training.store.run_folder import read_json

CHUNK = 512  # examples per call of XLA: memory is bounded by it, whatever the number of examples

Which = Literal["best", "last"]
Raw = Shaped[np.ndarray, "n ..."]


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a run recorded of its data.

    name; shape of one example; examples (in the training split); low, high: lowest and highest raw value;
    whole: raw values are whole numbers (levels); scale: raw values to what the model sees; columns: their names, for
    a table; record: all of it.
    """

    name: str
    shape: tuple[int, ...]
    examples: int
    low: float
    high: float
    whole: bool
    scale: Scale
    columns: tuple[str, ...] | None
    record: dict[str, Any]

    @classmethod
    def of(cls, folder: Path) -> "Facts":
        """Read them from a run folder. Raises RunError for one without them."""
        record = read_json(folder / "env.json").get("data")
        try:
            low, high = map(float, record["range"])
            return cls(
                record["name"],
                tuple(record["shape"]),
                int(record["splits"]["train"]),
                low,
                high,
                np.dtype(record["dtype"]).kind in "uib",
                Scale.from_json(record["scale"]),
                None if record.get("columns") is None else tuple(record["columns"]),
                record,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(
                f"{folder / 'env.json'} does not say what the run's data were ({error!r}): "
                "a run of an older version; train again, or use its checkpoint from Python"
            ) from None


def restore(core: Any, config: Any, folder: Path, facts: Facts, which: Which | None) -> tuple[Any, str]:
    """Return the model in evaluation mode and which of the checkpoints it is.

    None: the one that the run's test numbers belong to (see summary.json), else the last. Raises RunError when
    there is none, or none that is sound.
    """
    checkpoints = folder / "checkpoints"
    if which is None:
        summary = folder / "summary.json"
        which = (read_json(summary).get("tested") if summary.exists() else None) or "last"
    if which not in ("best", "last"):
        raise ConfigError(f"which must be 'best' or 'last', got {which!r}")
    if which == "best":
        path = best_path(checkpoints)
        if not path.exists():
            raise RunError(f"{folder} has no best checkpoint: no epoch was validated; use which='last'")
    else:
        found = latest(checkpoints, lambda _: None)
        if found is None:
            raise RunError(f"{folder} has no checkpoint: the run has not saved one yet")
        path = found[0]
    template = jax.eval_shape(lambda: core.init(config, jax.random.key(0), core.sizes(facts)))
    state = restore_like(template, path)
    return core.trained_model(config, jax.tree.map(jnp.asarray, state)), which


class Trained:
    """A trained model and its data's units. Made by `train.load_run`.

    Every method takes raw values, as in the file the run was trained on: NumPy or JAX, one example of `shape` or
    a batch of them. Results are NumPy, one row per example (without the leading axis for a single one). Values are
    scaled as in training, worked on in chunks of 512, and brought back. Raises ConfigError, one line, for values of
    another shape or range, or not finite.
    """

    def __init__(self, path: Path, config: Any, facts: Facts, model: Any, which: str):
        self.path, self.config, self.facts, self.model, self.which = path, config, facts, model, which
        self._compiled: dict[str, Callable[..., Any]] = {}

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.shape))
        return f"Trained({str(self.path)!r}: {self.facts.name}, {shape} -> {self.latent}, {self.which})"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return self.facts.shape

    @property
    def latent(self) -> int:
        """Dimensions of the code."""
        return self.model.latent

    def encode(self, x: Any) -> np.ndarray:
        """Return the mean code of each example, (n, latent)."""
        return self._map("encode", lambda model, x: model.encode(x).mean, x)

    def decode(self, z: Any) -> np.ndarray:
        """Return the mean of p(x|z) for codes (n, latent) or (latent,), in the data's units."""
        z, single = self._codes(z)
        return self._single(self._raw(self._chunks("decode", lambda model, z: model.decode(z).mean, z)), single)

    def reconstruct(self, x: Any) -> np.ndarray:
        """Return the mean of p(x|z) at the mean code of each example, in the data's units."""
        out = self._map("reconstruct", lambda model, x: model.decode(model.encode(x).mean).mean, x)
        return self._raw(out)

    def interpolate(self, a: Any, b: Any, n: int = 8) -> np.ndarray:
        """Return n decoded points of the straight line between the codes of a and b, both ends included.

        a, b: one example each, or batches of equal length. Shape (n, *shape), or (batch, n, *shape).
        """
        if n < 2:
            raise ConfigError(f"n must be at least 2, the two ends, got {n}")
        ends = [self.encode(a), self.encode(b)]
        if ends[0].shape != ends[1].shape:
            raise ConfigError(f"a and b must hold equally many examples, got {ends[0].shape[:-1]} and {ends[1].shape[:-1]}")
        t = np.linspace(0, 1, n, dtype=np.float32)[:, None]
        line = (1 - t) * ends[0][..., None, :] + t * ends[1][..., None, :]
        return self.decode(line.reshape(-1, self.latent)).reshape(*line.shape[:-1], *self.shape)

    def sample(self, n: int, key: PRNGKeyArray | int = 0, mean: bool = True) -> np.ndarray:
        """Return n decoded draws of the prior: means of p(x|z), or draws from it (`mean=False`), (n, *shape).

        A plain autoencoder has no prior: fit one to the codes of data first (`with_prior`). Raises ConfigError.
        """
        if n < 1:
            raise ConfigError(f"n must be at least 1, got {n}")
        if self._plain:
            raise ConfigError(
                "a plain autoencoder (posterior point) has no prior to sample from; fit one to the codes of data: "
                "run.with_prior(x).sample(n, key), or on the command line: sample --data FILE"
            )
        return self._decode_draws(lambda key: self.model.prior().sample(key)[0], n, key, mean)

    def with_prior(self, x: Any, components: int = 10, seed: int = 0) -> "Fitted":
        """Return this run with a mixture of normals fitted to the codes of x as its prior (Ghosh et al. 2020, sec. 4).

        Full covariances, fitted by EM (scikit-learn). Raises ConfigError for fewer examples than components need.
        """
        return Fitted(self, x, components, seed)

    def score(self, x: Any, key: PRNGKeyArray | int = 0, samples: int = 0) -> dict[str, np.ndarray]:
        """Return the metrics of each example, (n,) each, as `models.metrics.per_example` defines them.

        Errors are in scaled units, densities in nats of the scaled values. samples > 0 adds
        log_likelihood_nats, the importance-weighted bound with so many draws (Burda et al. 2016, eq. 8).
        """
        x, single = self._examples(x)
        key = _key(key)
        out = self._chunks("score", lambda model, x, key: metrics.per_example(model, x, key), x, key=key)
        if samples:
            if self._plain:
                raise ConfigError("a plain autoencoder (posterior point) has no likelihood: score it without samples")
            bound = lambda model, x, key: metrics.log_likelihood(model, x, key, samples)
            out["log_likelihood_nats"] = self._chunks(f"bound {samples}", bound, x, key=jax.random.fold_in(key, 1))
        return {name: self._single(value, single) for name, value in out.items()}

    @property
    def _plain(self) -> bool:
        return kind(type(self.config.model.posterior)) == "point"

    def _decode_draws(self, draw: Callable[[Any], Any], n: int, key: PRNGKeyArray | int, mean: bool) -> np.ndarray:
        k_code, k_value = jax.random.split(_key(key))
        codes = np.asarray(jax.jit(jax.vmap(draw))(jax.random.split(k_code, n)))
        if mean:
            return self.decode(codes)
        draws = self._chunks("draw", lambda model, z, key: model.decode(z).sample(key), codes, key=k_value)
        return self._raw(draws)

    def _map(self, name: str, f: Callable[..., Any], x: Any) -> np.ndarray:
        x, single = self._examples(x)
        return self._single(self._chunks(name, f, x), single)

    @staticmethod
    def _single(out: np.ndarray, single: bool) -> np.ndarray:
        return out[0] if single else out

    def _raw(self, x: np.ndarray) -> np.ndarray:
        return self.facts.scale.invert(x)

    def _codes(self, z: Any) -> tuple[np.ndarray, bool]:
        z = np.asarray(z, np.float32)
        single = z.ndim == 1
        z = z[None] if single else z
        if z.ndim != 2 or z.shape[1] != self.latent:
            raise ConfigError(f"codes must have shape (n, {self.latent}), got {z.shape}")
        return z, single

    def _examples(self, x: Any) -> tuple[np.ndarray, bool]:
        """Return raw examples as the model sees them, (n, *shape) float32, and whether there was only one."""
        x = np.asarray(x)
        single = x.shape == self.shape
        x = x[None] if single else x
        if x.shape[1:] != self.shape:
            raise ConfigError(f"this run takes examples of shape {self.shape}, one or a batch of them, got {x.shape}")
        if not len(x):
            raise ConfigError("there is no example to work on: the batch is empty")
        if x.dtype.kind not in "buif":
            raise ConfigError(f"examples must be numbers, got dtype {x.dtype}")
        if x.dtype.kind == "f" and not np.isfinite(x).all():
            raise ConfigError(f"{int((~np.isfinite(x)).sum())} of {x.size} values are not finite; remove or fill them")
        self._check_range(x)
        scaled = self.facts.scale.apply(x)
        how = self.config.binarise
        if how != "none":  # draws by a fixed key: the same example has the same bits every time
            bits = binarise(jnp.asarray(scaled), "dynamic" if how == "static" else how, jax.random.key(0))
            scaled = np.asarray(bits)
        return scaled, single

    def _check_range(self, x: np.ndarray) -> None:
        """Refuse values that the scale would take outside of what the model was trained on."""
        low, high = self.facts.low, self.facts.high
        found = float(x.min()), float(x.max())
        if self.facts.whole:
            if found[0] < low or found[1] > high:
                raise ConfigError(
                    f"values must lie in {low:g} to {high:g}, as in training; got {found[0]:g} to {found[1]:g}"
                )
            if high - low > 1 and found[1] <= 1 and x.dtype.kind == "f" and (x != np.round(x)).any():
                raise ConfigError(
                    f"values are fractions of 1, this run's data were whole numbers from {low:g} to {high:g}: "
                    "pass them as they were, the run scales them itself"
                )

    def _chunks(self, name: str, f: Callable[..., Any], x: np.ndarray, key: PRNGKeyArray | None = None) -> Any:
        """Return f(model, chunk[, key of the chunk]) over all chunks, concatenated; short chunks are filled up."""
        call = self._compiled.setdefault(name, jax.jit(f))
        size = min(CHUNK, 1 << (len(x) - 1).bit_length())
        parts = []
        for i, start in enumerate(range(0, len(x), size)):
            part = x[start : start + size]
            filled = np.concatenate([part, np.repeat(part[-1:], size - len(part), 0)])
            keys = () if key is None else (jax.random.fold_in(key, i),)
            with jax.default_matmul_precision(self.config.matmul_precision):
                out = jax.device_get(call(self.model, jnp.asarray(filled), *keys))
            parts.append(jax.tree.map(lambda a, n=len(part): a[:n], out))
        return jax.tree.map(lambda *a: np.concatenate(a), *parts)


class Fitted(Trained):
    """A run whose prior is a mixture of normals fitted to codes; see `Trained.with_prior`."""

    def __init__(self, run: Trained, x: Any, components: int, seed: int):
        from sklearn.mixture import GaussianMixture

        super().__init__(run.path, run.config, run.facts, run.model, run.which)
        codes = np.atleast_2d(run.encode(x)).astype(np.float64)
        needed = components * (self.latent + 1)
        if components < 1 or len(codes) < needed:
            raise ConfigError(
                f"a mixture of {components} normals in {self.latent} dimensions needs at least {needed} examples, got "
                f"{len(codes)}; give more, or fewer components"
            )
        self.mixture = GaussianMixture(components, random_state=seed).fit(codes)

    def sample(self, n: int, key: PRNGKeyArray | int = 0, mean: bool = True) -> np.ndarray:
        """Return n decoded draws of the fitted mixture, (n, *shape)."""
        if n < 1:
            raise ConfigError(f"n must be at least 1, got {n}")
        means = jnp.asarray(self.mixture.means_)
        chol = jnp.asarray(np.linalg.cholesky(self.mixture.covariances_))
        log_weights = jnp.log(jnp.asarray(self.mixture.weights_))

        def draw(key: PRNGKeyArray) -> Any:
            k_which, k_where = jax.random.split(key)
            i = jax.random.categorical(k_which, log_weights)
            return means[i] + chol[i] @ jax.random.normal(k_where, (self.latent,), chol.dtype)

        return self._decode_draws(draw, n, key, mean)


def _key(key: PRNGKeyArray | int) -> PRNGKeyArray:
    return jax.random.key(key) if isinstance(key, int) else key
