"""A trained run as a thing to use: encode, reconstruct, sample, interpolate and score in the data's own units.

`train.load_run(folder)` returns a `LoadedRun`. It needs the run folder alone, wherever that was copied: the
config, and the shape, range and scale of the data, are recorded there beside the weights.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import PRNGKeyArray, Shaped

from models import metrics
from models.batch import Batch, observed
from models.codes import draw, has_density
from models.config import ConfigError
from models.metrics import Shown, Subject
from models.metrics.compression import compressed, decompressed
from models.networks import Nothing
from models.priors import FittedKind, fit_prior, with_prior_module
from training.store import schema
from training.store.arrays import params_sha256
from training.trained import exported
from training.trained.facts import Facts
from training.trained.heat import heat
from training.trained.recommended import Recommended, recommended
from training.trained.values import as_key, as_seen, check_whole

CHUNK = 512  # examples per call of XLA: memory is bounded by it, whatever the number of examples

Raw = Shaped[np.ndarray, "n ..."]


class LoadedRun:
    """A trained model and its data's units. Made by `train.load_run`.

    Every method takes raw values, as in the file the run was trained on: NumPy or JAX, one example of `shape` or
    a batch of them. Results are NumPy, one row per example (without the leading axis for a single one). Values are
    scaled as in training, worked on in chunks of 512, and brought back. `label`: of each example, for a model that was
    given labels. nan is a missing value for a run on data with such, and `reconstruct` fills it in. Raises ConfigError,
    one line, for values of another shape or range, or not finite.
    """

    fitted = False

    def __init__(self, path: Path, config: Any, facts: Facts, model: Any, which: str):
        self.path, self.config, self.facts, self.model, self.which = path, config, facts, model, which
        self._compiled: dict[str, Callable[..., Any]] = {}

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.shape))
        return f"LoadedRun({str(self.path)!r}: {self.facts.name}, {shape} -> {self.latent}, {self.which})"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return self.facts.shape

    @property
    def latent(self) -> int:
        """Dimensions of the code."""
        return self.model.latent

    @property
    def classes(self) -> int:
        """Number of classes that the model's parts or its prior know of; 0 for a model that reads no labels."""
        return self.model.classes or getattr(self.model.prior_module, "classes", 0)

    @property
    def given_labels(self) -> bool:
        """Whether the model must be told the labels of examples to be scored: it does not infer them."""
        return bool(self.classes) and self.model.labels != "inferred"

    @property
    def matched(self) -> bool:
        """Whether a term of the loss drew codes to the prior (WAE, AAE, SWAE), or one was fitted to them."""
        return self.fitted or any(getattr(term, "matches_prior", False) for term in self.config.terms)

    def encode(self, x: Any, label: Any = None) -> np.ndarray:
        """Return the mean code of each example, (n, latent)."""
        return self._each("encode", lambda model, x, label: model.encode(x, None, label).mean, x, label)

    def decode(self, z: Any, label: Any = None) -> np.ndarray:
        """Return the mean of p(x|z) for codes (n, latent) or (latent,), in the data's units."""
        z, single = self._codes(z)
        return _first(self._decoded(z, self._labels(label, len(z), "decode")), single)

    def _decoded(self, z: np.ndarray, label: np.ndarray | None) -> np.ndarray:
        """Return decoded codes in the data's units; label: numbers (n,) or probabilities (n, classes)."""
        out = self._chunks("decode", lambda model, z, label: model.decode(z, None, label).mean, z, label)
        return self.facts.scale.invert(out)

    def reconstruct(self, x: Any, label: Any = None) -> np.ndarray:
        """Return the mean of p(x|z) at the mean code of each example, in the data's units."""
        both = lambda model, x, label: model.decode(model.encode(x, None, label).mean, None, label).mean
        return self.facts.scale.invert(self._each("reconstruct", both, x, label))

    def impute(self, x: Any, label: Any = None) -> np.ndarray:
        """Return x with its missing values (nan) filled in by `reconstruct`; observed ones stay what they are."""
        x = np.asarray(self.facts.values(x))
        again = self.reconstruct(x, label).reshape(x.shape)
        return np.where(np.isnan(x), again, x) if x.dtype.kind == "f" else x

    def recommend(self, x: Any, n: int = 10) -> Recommended:
        """Return the n items that each user is likeliest to choose next; see `training.trained.recommended`."""
        return recommended(self, x, n)

    def interpolate(self, a: Any, b: Any, n: int = 8, label: Any = None) -> np.ndarray:
        """Return n decoded points of the straight line between the codes of a and b, both ends included.

        a, b: one example each, or batches of equal length. Shape (n, *shape), or (batch, n, *shape).
        """
        check_whole("n", n, 2, ", the two ends")
        start, end = self.encode(a, label), self.encode(b, label)
        if start.shape != end.shape:
            raise ConfigError(f"a and b must hold equally many examples, got {start.shape[:-1]} and {end.shape[:-1]}")
        t = np.linspace(0, 1, n, dtype=np.float32)[:, None]
        between = lambda p, q: (1 - t) * p[..., None, :] + t * q[..., None, :]
        line = between(start, end)
        codes = line.reshape(-1, self.latent)
        if self.model.classes:
            hot = [self._each("hot", lambda model, x, label: model.hot(label), x, label) for x in (a, b)]
            decoded = self._decoded(codes, between(*hot).reshape(len(codes), -1))
        else:
            decoded = self._decoded(codes, None)
        return decoded.reshape(*line.shape[:-1], *self.shape)

    def sample(
        self, n: int, key: PRNGKeyArray | int = 0, *, label: Any = None, mean: bool = True, **turn: Any
    ) -> np.ndarray:
        """Return n decoded draws of the prior: means of p(x|z), or draws from it (`mean=False`), (n, *shape).

        label: one for all, or (n,); without it, in a model that has labels, they take turns. turn: temperature,
        top_k of draws of symbols in turn. A plain autoencoder whose codes no term drew to its prior has none: fit one
        (`with_prior`). Raises ConfigError.
        """
        if self._is_plain() and not self.matched:
            raise ConfigError(
                "a plain autoencoder (posterior point) has no prior to sample from; fit one to the codes of data: "
                "run.with_prior(x).sample(n, key), or on the command line: sample --data FILE"
            )

        def draw(key: PRNGKeyArray, label: Any) -> Any:
            k, k_prior = jax.random.split(key)
            return self.model.prior(None if label is None else label[None], k_prior).sample(k)[0]

        return self._decoded_draws(draw, n, key, label, mean, heat(self.model, mean, **turn))

    def with_prior(
        self, x: Any, prior: FittedKind = "mixture", components: int = 10, seed: int = 0, *, label: Any = None
    ) -> "FittedRun":
        """Return this run with a prior fitted to the codes of x in place of its own, see `models.priors.fitted`.

        The codes of a point posterior are points, those of a density one draw of each. prior: mixture (of so many
        components), kernel, flow or vae. Samples, scores, likelihoods and exports are then those of the fitted one.
        Raises ConfigError for too few examples.
        """
        x, _ = self._examples(x)
        check_whole("components", components, 1)
        check_whole("seed", seed, 0)
        label, key = self._labels(label, len(x), "encode"), as_key(seed)
        drawn = lambda m, x, y, k: draw(m.encode(x, None, _seen(m, x, y)), k)[0]
        codes = self._chunks("codes", drawn, x, label, key=jax.random.fold_in(key, 1))
        cfg, module = fit_prior(prior, self.model, codes, key, components=components)
        config = dataclasses.replace(self.config, model=dataclasses.replace(self.config.model, prior=cfg))
        return FittedRun(self.path, config, self.facts, with_prior_module(self.model, module), self.which)

    def score(
        self, x: Any, key: PRNGKeyArray | int = 0, *, samples: int = 0, label: Any = None
    ) -> dict[str, np.ndarray]:
        """Return the metrics of each example, (n,) each, as `models.metrics.per_example` defines them.

        Errors are in scaled units, densities in nats of the scaled values. samples > 0 adds
        log_likelihood_nats, the importance-weighted bound with so many draws (Burda et al. 2016, eq. 8).
        """
        check_whole("samples", samples, 0)
        if samples and self._is_plain():
            raise ConfigError("a plain autoencoder (posterior point) has no likelihood: score it without samples")
        if isinstance(self.config.model.encoder, Nothing):
            raise ConfigError("this model has no encoder (encoder none): it has samples, and no scores of examples")
        x, single = self._examples(x, exact=True)
        label, key = self._labels(label, len(x), "score"), as_key(key)
        shown = observed(x, label)
        each = lambda m, *given: metrics.per_example(m, Batch(*given[:-1]), given[-1])
        out = self._chunks("score", each, *shown, key=key)
        if samples:
            bound = lambda m, *given: metrics.log_likelihood(m, Batch(*given[:-1]), given[-1], samples)
            key = jax.random.fold_in(key, 1)
            out |= self._chunks(f"bound {samples}", bound, *shown, key=key)
        return {name: _first(value, single) for name, value in out.items()}

    def export(self, folder: Path | str) -> list[Path]:
        """Write weights, config, scale and a model card in the layout of model hubs; `train.load_run` reads it back."""
        summary = self.path / "summary.json"
        found = schema.read_json(summary, schema.SUMMARY) if summary.exists() else None
        return exported.export(self, Path(folder), found)

    def _is_plain(self) -> bool:
        """Whether codes are points: no density, so no prior that samples come from."""
        if isinstance(self.config.model.encoder, Nothing):
            return False
        x = jax.ShapeDtypeStruct((1, *self.shape), jnp.float32)
        label = jax.ShapeDtypeStruct((1,), jnp.int32) if self.model.classes else None
        found: list[bool] = []
        look = lambda x, label: found.append(has_density(self.model.encode(x, None, label)))
        jax.eval_shape(look, x, label)
        return not found[0]

    def _decoded_draws(
        self, draw: Callable[..., Any], n: int, key: PRNGKeyArray | int, label: Any, mean: bool, told: dict[str, Any]
    ) -> np.ndarray:
        check_whole("n", n, 1)
        if self.classes and label is None:
            label = np.arange(n) % self.classes
        label = self._labels(label, n, "sample")
        k_code, k_value = jax.random.split(as_key(key))
        codes = np.asarray(jax.jit(jax.vmap(draw))(jax.random.split(k_code, n), label), np.float32)
        if mean:
            return self.decode(codes, label)
        drawn = lambda m, z, label, k: m.decode(z, None, label).sample(k, **told)
        return self.facts.scale.invert(self._chunks(f"draw {told}", drawn, codes, label, key=k_value))

    def compress(self, x: Any) -> tuple[bytes, dict[str, Any]]:
        """Return a file that holds raw examples without loss, by bits back (`models.metrics.compression`), its header.

        Of a run with --binarise it holds the bits that the model sees. Needs the extra `compression`. Raises
        ConfigError for a model that has no probabilities to code by.
        """
        if hidden := int(np.isnan(x := self.scaled(x)).sum()):
            raise ConfigError(f"compression keeps every value, {hidden} of {x.size} are missing: fill them first")
        return compressed(Subject(self.model, Shown(Batch(x))), self._weights())

    def decompress(self, content: bytes) -> np.ndarray:
        """Return the examples of a file that `compress` of this run wrote, in the data's units. Raises ConfigError."""
        raw = self.facts.scale.invert(decompressed(self.model, content, self._weights()))
        return np.rint(raw) if self.facts.whole else raw

    def _weights(self) -> str:
        return params_sha256(nnx.state(self.model))

    def _each(self, name: str, f: Callable[..., Any], x: Any, label: Any) -> np.ndarray:
        """Return f(model, x, label) of raw examples; the label is inferred where none is given and the model can."""
        x, single = self._examples(x)
        label = self._labels(label, len(x), name)
        seen = lambda model, x, label: f(model, x, _seen(model, x, label))
        return _first(self._chunks(name, seen, x, label), single)

    def _labels(self, label: Any, n: int, what: str) -> np.ndarray | None:
        """Return labels as (n,) int32; None in a model without."""
        given = self.model.classes and (self.model.labels == "given" or what in ("decode", "sample"))
        needed = given or (self.classes and not self.model.classes and what in ("score", "prior", "sample"))
        if not self.classes or (label is None and not needed):
            return None
        if label is None:
            raise ConfigError(
                f"this model was given labels: {what} needs label=, a number from 0 to {self.classes - 1}"
            )
        label = np.asarray(label)
        if label.dtype.kind not in "iu" or label.ndim > 1 or (label.ndim and len(label) != n):
            raise ConfigError(
                f"label must be one whole number, or {n} of them, got {label.dtype} of shape {label.shape}"
            )
        if label.min() < 0 or label.max() >= self.classes:
            raise ConfigError(f"label must lie in 0..{self.classes - 1}, got {label.min()} to {label.max()}")
        return np.broadcast_to(label, (n,)).astype(np.int32)

    def _codes(self, z: Any) -> tuple[np.ndarray, bool]:
        z = np.asarray(z, np.float32)
        single = z.ndim == 1
        z = z[None] if single else z
        if z.ndim != 2 or z.shape[1] != self.latent or not len(z):
            raise ConfigError(f"codes must have shape (n, {self.latent}), got {z.shape}")
        return z, single

    def scaled(self, x: Any) -> np.ndarray:
        """Return raw examples as the model sees them: scaled, made binary where the run does that, (n, *shape).

        Missing values stay nan: `models.batch.observed` makes a batch of them.
        """
        return as_seen(self.facts, self.config, x)[0]

    def _examples(self, x: Any, exact: bool = False) -> tuple[np.ndarray, bool]:
        """Return raw examples as the encoder takes them, (n, *shape) float32, and whether there was only one.

        exact: nan at missing values also where the encoder is not told of them and takes 0.
        """
        x, single = as_seen(self.facts, self.config, x, exact)
        return x if exact or self.model.marks else observed(x).x, single

    def _chunks(self, name: str, f: Callable[..., Any], *arrays: Any, key: PRNGKeyArray | None = None) -> Any:
        """Return f(model, *chunks[, key of the chunk]), concatenated; a short chunk is filled up, then cut."""
        call = self._compiled.setdefault(name, jax.jit(f))
        n = len(arrays[0])
        size = min(CHUNK, 1 << (n - 1).bit_length())
        parts = []
        for i, start in enumerate(range(0, n, size)):
            index = np.minimum(np.arange(start, start + size), n - 1)
            given = [None if a is None else jnp.asarray(a[index]) for a in arrays]
            keys = () if key is None else (jax.random.fold_in(key, i),)
            with jax.default_matmul_precision(self.config.matmul_precision):
                out = jax.device_get(call(self.model, *given, *keys))
            parts.append(jax.tree.map(lambda a, n=n - start: a[:n], out))
        return jax.tree.map(lambda *a: np.concatenate(a), *parts)


class FittedRun(LoadedRun):
    """A run with a prior fitted to codes in place of its own; see `LoadedRun.with_prior`."""

    fitted = True

    def score(
        self, x: Any, key: PRNGKeyArray | int = 0, *, samples: int = 0, label: Any = None
    ) -> dict[str, np.ndarray]:
        """Return what `LoadedRun.score` does, and log_prior_nats: log p(z) at the mean code of each example."""
        out = super().score(x, key, samples=samples, label=label)
        density = lambda model, x, label: model.prior(label).log_prob(model.encode(x, None, label).mean)
        return out | {"log_prior_nats": self._each("prior", density, x, label)}

    def _is_plain(self) -> bool:
        return False


def _first(out: np.ndarray, single: bool) -> np.ndarray:
    return np.asarray(out[0]) if single else out


def _seen(model: Any, x: Any, label: Any) -> Any:
    """Return the label that encoder and decoder are to see: the given one, else what the model infers."""
    return model.seen_label(Batch(x, None)) if label is None else label
