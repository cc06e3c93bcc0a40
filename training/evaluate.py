"""What a run is judged by: its metrics on a split, the value that early stopping follows, and when patience ends."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from models import metrics
from models.autoencoder import Autoencoder
from models.batch import Batch, as_batch
from models.config import ConfigError, kind, nearest
from training.examples import Binarisation, Examples, binarise
from training.players import Moved, network, no_rivals

BATCH = 512  # examples that are evaluated together
ACTIVE = 0.01  # variance of a code's posterior mean above which Burda et al. 2016, section 5, call it active


class Best(NamedTuple):
    """The best validation so far: its value, the epoch (from 1) at whose end it was, and its metrics where kept."""

    value: Any = float("inf")
    epoch: Any = 0
    metrics: dict[str, Any] | None = None


class Trained(NamedTuple):
    """What a run leaves: its last state, the state after the best epoch, and which that was.

    history: {"train": means of the loss's terms, "validation": metrics} of (config.epochs,) arrays, nan after the
    end; `epochs` counts those that ran. Without a validation split the last epoch is the best.
    """

    state: Any  # a `train.TrainState`
    best_state: Any
    best: Best
    epochs: Any
    over: Any  # patience has ended, or a term or metric was not finite
    history: Any = None

    def tested(self, config: Any) -> Any:
        """Return the state to test: the best where patience selects one, else the last."""
        return self.best_state if config.patience else self.state


def criterion(config: Any, validation: Mapping[str, Any]) -> Any:
    """Return what early stopping minimises: the metric that the config names, else the objective's own choice."""
    name = config.criterion
    if not name:
        return config.objective.criterion(validation)
    if name not in validation:
        close = ", ".join(nearest(name, validation))
        raise ConfigError(f"criterion: no validation metric is called {name!r}; nearest: {close}")
    return validation[name]


def ramp_steps(config: Any) -> int:
    """Return after how many steps every weight of the objective is at its full value."""
    return getattr(config.objective, "ramp_steps", 0)  # an objective without a schedule has none


def ramp_epochs(config: Any, per_epoch: int) -> Any:
    """Return after how many epochs (whole ones) every ramp of a run is over; 0 without any, may be traced."""
    warm = jnp.ceil if isinstance(config.updates.warmup, jax.Array) else math.ceil
    rate = warm(config.updates.warmup * config.epochs)
    weights = -(-ramp_steps(config) // per_epoch)
    return jnp.maximum(rate, weights) if isinstance(rate, jax.Array) else max(rate, weights)


def patience_is_over(patience: int, done: Any, best: Best, ramps: Any) -> Any:
    """Whether `patience` epochs have passed both since the best one and since the end of every ramp."""
    if not patience:
        return False
    return (done - best.epoch >= patience) & (done - ramps >= patience)


def trained_model(config: Any, state: Any) -> Autoencoder:
    """Return the model to evaluate: the averaged parameters where the run keeps them."""
    if not config.updates.ema:
        return state.model
    graphdef, _, rest = nnx.split(state.model, nnx.Param, ...)
    return nnx.merge(graphdef, state.ema, rest, copy=True)


def example_loss(
    config: Any,
    model: Autoencoder,
    batch: Batch,
    key: Key[Array, ""],
    step: Any,
    moved: Moved = no_rivals,
    training: bool = True,
) -> tuple[Float[Array, " b"], dict[str, Array], Any]:
    """Return the loss of each example, the objective's plus every term's times its weight; what it consists of; the
    networks that terms played against, which make their moves, `moved(pass)`, between the objective and the terms.

    Out of training a term with a network that plays against the model is left out: its value is no measure.
    """
    loss, terms, done = config.objective.at(step)(model, batch, key, training)
    rivals = moved(done)
    for position, term in enumerate(config.terms):
        if training or not hasattr(term, "opponent"):
            value = term(done._replace(key=jax.random.fold_in(done.key, position)), network(rivals, term))
            loss, terms = loss + term.weight * value, terms | {kind(type(term)): value}
    return loss, terms, rivals


def training_mean(examples: Examples, how: Binarisation) -> Float[Array, "*shape"]:
    """Return the mean of all (scaled, binarised) examples of a split, of each value where observed, in chunks."""
    n, batch = len(examples), min(len(examples), BATCH)
    zero, count = jnp.zeros(examples.shape), n if examples.mask is None else jnp.maximum(jnp.sum(examples.mask, 0), 1)

    def one_batch(total: Array, i: Array) -> tuple[Array, None]:
        index = i * batch + jnp.arange(batch)
        x = examples.take(index % n).astype(zero.dtype)
        if how == "threshold":  # draws of 0 and 1 have the mean that they are drawn by
            x = binarise(x, "threshold", None)
        if examples.mask is not None:
            x = jnp.where(jnp.asarray(examples.mask)[index % n], x, 0)
        kept = (index < n).reshape(-1, *(1,) * (x.ndim - 1))
        return total + jnp.sum(jnp.where(kept, x, 0), axis=0), None

    return jax.lax.scan(one_batch, zero, jnp.arange(-(-n // batch)))[0] / count


def measure(
    config: Any, state: Any, examples: Examples, key: Key[Array, ""], mean: Float[Array, "*shape"] | None = None
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return the exact means of all metrics over all examples, and what there is per dimension of the code.

    Names carry units (`negative_elbo_nats`, `bits_per_dim`, `mse`, ...). `objective` is the objective's own loss at
    full weights. A denoiser has `noisy_mse` beside `mse`: from corrupted examples to clean ones, beside clean to
    clean; a masked autoencoder has `masked_mse`, of the patches that it was not shown. With `mean`, that of the
    training examples, there is `baseline_mse`, the error of whoever answers with it.
    A variational model has `active_units`, and per dimension `kl_per_dim_nats`, (latent,). Dynamic binarisation draws
    each example once, by `key`. The short last batch is filled up with examples that do not count.
    """
    model = trained_model(config, state)
    n, batch = len(examples), min(len(examples), BATCH)

    def one_batch(i: Int[Array, ""]) -> tuple[dict[str, Array], dict[str, Array]]:
        k_binary, k_metrics = jax.random.split(jax.random.fold_in(key, i))
        index = i * batch + jnp.arange(batch)
        some = examples.batch(index % n)
        some = as_batch(some._replace(x=binarise(some.x, config.binarise, k_binary)))
        values = metrics.per_example(model, some, k_metrics)
        values["objective"] = example_loss(config, model, some, k_metrics, ramp_steps(config), training=False)[0]
        if "mse" in values and hasattr(config.objective, "answer"):
            found = config.objective.answer(model, some, k_metrics, model.seen_label(some))
            judged = some if found.mask is None else some._replace(mask=found.mask)
            values[f"{found.name}_mse"] = metrics.squared_error(judged, found.mean)
        if "mse" in values and mean is not None:
            values["baseline_mse"] = metrics.squared_error(some, mean[None])
        sums = {name: jnp.sum(jnp.where(index < n, value, 0)) for name, value in values.items()}
        return sums, metrics.per_dimension(model, some, k_metrics)

    totals, codes = jax.lax.map(one_batch, jnp.arange(-(-n // batch)))
    means = {name: jnp.sum(value) / n for name, value in totals.items()}
    if "mse" in means:
        means |= {"rmse": jnp.sqrt(means["mse"])}
    means |= metrics.perplexity(means)
    if not codes:
        return means, {}
    every = {name: value.reshape(-1, value.shape[-1])[:n] for name, value in codes.items()}
    active = jnp.sum(jnp.var(every["mean"], axis=0) > ACTIVE).astype(every["mean"].dtype)
    return means | {"active_units": active}, {"kl_per_dim_nats": jnp.mean(every["kl"], axis=0)}


def evaluate(
    config: Any, state: Any, examples: Examples, key: Key[Array, ""], mean: Float[Array, "*shape"] | None = None
) -> dict[str, Array]:
    """Return the exact means of all metrics over all examples; see `measure`."""
    return measure(config, state, examples, key, mean)[0]


def first_bad_metric(values: Mapping[str, Any]) -> str | None:
    """Return the name of the first metric that is not finite, or None."""
    return next((name for name, value in values.items() if not math.isfinite(float(value))), None)
