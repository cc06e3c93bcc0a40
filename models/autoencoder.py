"""An autoencoder is encoder, posterior, prior, decoder and likelihood: a config, and the module that joins them."""

import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from models import likelihoods, posteriors, priors
from models.batch import Batch, Sizes
from models.config import ConfigError, config, kind, setting, validate
from models.distributions.strokes import PEN
from models.networks import Bag, Conv, Dense, Dictionary, Mirror, Nothing, Recurrent, Transformer, ViT
from models.networks.encoder import Encoder

Labels = Int[Array, " batch"] | Float[Array, "batch classes"] | None


def full(x: Array) -> Array:
    """Return x in at least float32: distributions and losses never work in half precision."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


@config
class Model:
    """What an autoencoder is made of; the data's shape gives every size."""

    encoder: Dense | Conv | ViT | Recurrent | Transformer | Bag | Nothing = Dense()  # type: ignore[call-arg]
    """network from example to code"""
    decoder: Mirror | Dense | Conv | ViT | Recurrent | Transformer | Dictionary = Mirror()
    """network from code to example; mirror: the encoder reversed"""
    latent: int = setting(20, at_least=1)
    """dimensions of the code"""
    posterior: posteriors.Posterior = posteriors.NormalPosterior()
    """distribution of the code given an example; point: a plain autoencoder"""
    prior: priors.Prior = priors.StandardPrior()
    """distribution of the code"""
    likelihood: likelihoods.Likelihood = likelihoods.BernoulliLikelihood()
    """distribution of an example given its code"""
    labels: Literal["none", "given", "inferred"] = "none"
    """none: unused; given: encoder and decoder see them; inferred: a classifier q(y|x) fills in unknown ones"""
    marks: Literal["auto", "on", "off"] = "auto"
    """on: the encoder is told which values are missing; off: it sees 0 there, as if observed; auto: on for a data set
    with missing values"""

    def check(self) -> None:
        """Raise ConfigError for parts that do not fit each other."""
        if getattr(self.decoder, "tied", False):
            self.check_tied()
        if self.marks == "on" and (why := self.unmarked()):
            raise ConfigError(f"marks on: {why}; use --model.marks off")
        for part in (self.encoder, self.posterior, self.prior, self.decoder, self.likelihood):
            if hasattr(part, "fits"):
                part.fits(self)

    def fits_data(self, examples: int) -> None:
        """Raise ConfigError for parts that so few training examples cannot fill: asked where training begins.

        A prior that was fitted to more examples is no fault, nor a model that is built and not trained.
        """
        for part in (self.posterior, self.prior):
            if hasattr(part, "fits_data"):
                part.fits_data(examples, self.latent)

    def unmarked(self) -> str:
        """Return why the encoder cannot be told what is missing, in words; "" where it can."""
        if getattr(self.decoder, "tied", False):
            return "tied weights have no input for marks"
        if isinstance(self.decoder, Dictionary):
            return "a dictionary's encoder has no input for marks"
        if getattr(self.likelihood, "support", "") == "symbols":
            return "a missing symbol is the unknown one already"
        return "there is no encoder" if isinstance(self.encoder, Nothing) else ""

    def check_tied(self) -> None:
        """Raise ConfigError where the decoder cannot have the encoder's shapes."""
        if self.likelihood.channels() > 1:
            raise ConfigError(
                f"tied weights need one decoder number per value, {kind(type(self.likelihood))} takes "
                f"{self.likelihood.channels()}: use decoder mirror with tied=False, or another likelihood"
            )
        if isinstance(self.encoder, Nothing) or self.labels != "none":
            raise ConfigError("tied weights need an encoder, and labels none: use decoder mirror with tied=False")

    @staticmethod
    def renamed(values: dict[str, Any]) -> dict[str, Any]:
        """Return the fields of an earlier version's config: `code` was the activation of a point."""
        values = dict(values)
        code = values.pop("code", "identity")
        if code != "identity" and values.get("posterior") == "point":
            values["posterior"] = {"kind": "point", "activation": code}
        return values


class Autoencoder(nnx.Module):
    """encode(x) = q(z|x), decode(z) = p(x|z), prior() = p(z), for examples of `sizes`, or of a bare shape.

    `encode` and `decode` with a key are in training mode (dropout on, batch statistics used and updated);
    without, in evaluation mode. What changes in training besides `nnx.Param` are `nnx.BatchStat`s: split them
    off and return them. Raises ConfigError for an impossible config or shape.

    labels "given" and "inferred": the label stands one-hot, or as probabilities, beside the flat features of the
    encoder and beside the code; an unknown one (-1) is zeros. Every call takes `label`; a model without labels
    ignores it.

    marks "on": `encode` and `classify` take nan at values that are missing (see `sees`). The encoder is given 0 there
    and beside the example, on its last axis, 1 where a value was observed and 0 where not (Mattei & Frellsen 2019).
    """

    def __init__(self, cfg: Model, sizes: Sizes | tuple[int, ...], *, rngs: nnx.Rngs, pixel_mean: Array | None = None):
        validate(cfg)
        sizes = sizes if isinstance(sizes, Sizes) else Sizes(tuple(sizes))
        if not sizes.shape or min(sizes.shape) < 1:
            raise ConfigError(f"every axis of an example must be at least 1, got shape {tuple(sizes.shape)}")
        if cfg.labels != "none" and not sizes.classes:
            raise ConfigError(f"labels {cfg.labels!r} needs data with labels, these have none: use labels none")
        self.shape, self.latent, self.labels = tuple(sizes.shape), cfg.latent, cfg.labels
        self.examples = sizes.examples
        self.classes = classes = sizes.classes if cfg.labels != "none" else 0
        channels, numbers = cfg.likelihood.channels(), cfg.posterior.numbers(cfg.latent)
        support = getattr(cfg.likelihood, "support", "")
        self.symbolic = support == "symbols"
        pen = support == "pen" and sizes.shape[1:] == (PEN,)
        sizes = sizes._replace(symbols=channels if self.symbolic else 0, pen=pen)
        self.marks = cfg.marks == "on"
        seen = sizes._replace(shape=(*sizes.shape[:-1], 2 * sizes.shape[-1])) if self.marks else sizes
        self.encoder = cfg.encoder.build_encoder(seen, numbers, classes, rngs)
        self.decoder: Any = cfg.decoder.build_decoder(cfg.latent + classes, sizes, channels, rngs, cfg.encoder)
        if hasattr(self.decoder, "start_encoder"):
            self.decoder.start_encoder(self.encoder)
        self.likelihood_module = cfg.likelihood.build(sizes, rngs)
        self.posterior_module = cfg.posterior.build(cfg.latent, rngs)
        if isinstance(cfg.prior, priors.AutoregressivePrior):  # its network is as large as the posterior's code
            self.prior_module: Any = cfg.prior.build_over(self.posterior_module, rngs)
        else:
            self.prior_module = cfg.prior.build(cfg.latent, sizes, rngs)
        self.classifier = cfg.encoder.build_encoder(seen, classes, 0, rngs) if cfg.labels == "inferred" else None
        if pixel_mean is not None:
            self.decoder.set_bias(cfg.likelihood.bias(jnp.asarray(pixel_mean, float).reshape(self.shape)))

    def encode(self, x: Float[Array, "batch *shape"], key: PRNGKeyArray | None = None, label: Labels = None) -> Any:
        """Return q(z|x, label): codes of shape (batch, latent)."""
        return self.posterior(self.numbers(x, key, label), key)

    def numbers(
        self,
        x: Float[Array, "batch *shape"],
        key: PRNGKeyArray | None = None,
        label: Labels = None,
        patches: Int[Array, "batch seen"] | None = None,
        kept: list[Any] | None = None,
    ) -> Float[Array, "batch numbers"]:
        """Return what the encoder's head says of each example, and the flat example where the posterior looks at it.

        patches: those that an encoder of patches is to see; None: all. kept: see `Encoder`, the others give nothing.
        """
        if x.shape[1:] != self.shape:
            raise ValueError(f"this model takes examples of shape {self.shape}, got {x.shape[1:]}")
        some: tuple[Any, ...] = () if patches is None else (patches,)
        some = (kept,) if kept is not None and isinstance(self.encoder, Encoder) else some
        dictionary = hasattr(self.decoder, "seen")
        looked = self.decoder.seen(x) if dictionary else self.marked(x)
        numbers = full(self.encoder(looked if self.symbolic else self.cast(looked), key, self.hot(label), *some))
        numbers = self.decoder.limited(numbers) if dictionary else numbers
        if not getattr(self.posterior_module, "sees_example", False):
            return numbers
        flat = x.reshape(x.shape[0], -1).astype(numbers.dtype)
        return jnp.concatenate([numbers, jnp.nan_to_num(flat, nan=0.0) if self.marks else flat], axis=1)

    def sees(self, batch: Batch) -> Array:
        """Return the examples of a batch as `encode` takes them: nan at missing values where marks are on, else 0."""
        return batch.x if batch.mask is None or not self.marks else jnp.where(batch.mask, batch.x, jnp.nan)

    def marked(self, x: Array) -> Array:
        """Return what the encoder is given: x itself, or with marks on (..., 2 C), 0 at nan and whether observed."""
        if not self.marks:
            return x
        missing = jnp.isnan(x)
        return jnp.concatenate([jnp.where(missing, 0, x), (~missing).astype(x.dtype)], axis=-1)

    def target(self, batch: Batch) -> Batch:
        """Return the batch as the decoder is judged by it: a transcoder's inputs are hidden, else all as it is."""
        return self.decoder.target(batch) if hasattr(self.decoder, "target") else batch

    def posterior(self, numbers: Float[Array, "batch numbers"], key: PRNGKeyArray | None = None) -> Any:
        """Return the posterior that these numbers of the encoder's head stand for."""
        return self.posterior_module(numbers, self, key)

    def decode(self, z: Float[Array, "batch latent"], key: PRNGKeyArray | None = None, label: Labels = None) -> Any:
        """Return p(x|z, label): examples of shape (batch, *shape)."""
        hot = self.hot(label)
        z = self.cast(z if hot is None else jnp.concatenate([z, hot.astype(z.dtype)], 1))
        if hasattr(self.decoder, "sequence"):  # autoregressive: the numbers depend on x itself
            return self.decoder.sequence(z, key, self.likelihood_module)
        return self.likelihood_module(full(self.decoder(z, key, self.encoder)), key)

    def prior(self, label: Labels = None, key: PRNGKeyArray | None = None) -> Any:
        """Return p(z): a batch of one that serves every example, or one per label. `key`: for what is random in it."""
        return self.prior_module(self, label, key)

    def classify(
        self, x: Float[Array, "batch *shape"], key: PRNGKeyArray | None = None
    ) -> Float[Array, "batch classes"]:
        """Return log q(y|x) of every class. Raises ConfigError unless labels are inferred."""
        if self.classifier is None:
            raise ConfigError(f"this model has no classifier (labels {self.labels!r}): use labels inferred")
        return jax.nn.log_softmax(full(self.classifier(self.cast(self.marked(x)), key, None)))

    def seen_label(self, batch: Batch) -> Any:
        """Return the label that `encode` and `decode` are to see of a batch: the given, or the likeliest one."""
        if self.labels == "inferred":
            return jnp.argmax(self.classify(self.sees(batch)), axis=1)
        return batch.label

    def hot(self, label: Labels) -> Float[Array, "batch classes"] | None:
        """Return labels one-hot (zeros where unknown); probabilities pass; None in a model without labels."""
        if not self.classes:
            return None
        if label is None:
            raise ValueError(f"this model has labels {self.labels!r}: give the label of every example")
        return jax.nn.one_hot(label, self.classes) if jnp.issubdtype(label.dtype, jnp.integer) else label

    def cast(self, x: Array) -> Array:
        """Return x in the networks' dtype where that is a short one: bfloat16 parameters mean bfloat16 arithmetic."""
        dtype = jax.tree.leaves(nnx.state(self.decoder, nnx.Param))[0].dtype
        return x.astype(dtype) if dtype.itemsize < 4 and jnp.issubdtype(x.dtype, jnp.floating) else x

    def track(self, p: Any, batch: Batch) -> None:
        """Let the likelihood learn from a training batch what it learns without a gradient (a running scale)."""
        if hasattr(self.likelihood_module, "track"):
            self.likelihood_module.track(p, batch)

    @property
    def dimensions(self) -> int:
        """Return the number of values in an example."""
        return math.prod(self.shape)
