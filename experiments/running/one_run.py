"""One run, whole, as a pure function: train, validate every epoch, stop early, test. Groups of runs map it."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

import train
from experiments.running.evaluate import outputs
from training.examples import Examples

Splits = dict[str, Examples]


class Best(NamedTuple):
    """The state of the best validation so far, its value and the epoch (from 1) at whose end it was."""

    state: train.TrainState
    value: Float[Array, ""]
    epoch: Array


def run(config: train.Config, splits: Splits) -> dict[str, Any]:
    """Return what a run leaves behind: metrics of every split but train and validation, history, pictures.

    splits: train, validation, test, and perhaps `seen`, training examples to be measured as test ones are.
    config: a `train.Config` whose floats and seed may be traced. Keys and early stopping are those of
    `train.fit`, so the numbers are those of the same run by command line. `history` holds (epochs,) arrays,
    nan after an early stop; `epochs` counts those that ran, `best_epoch` the one that was tested.
    """
    key = jax.random.key(config.seed)
    with jax.default_matmul_precision(config.matmul_precision):
        state, tested, best_epoch, history = fitted(config, key, splits)
        values = {
            part: train.evaluate(config, tested, splits[part], jax.random.fold_in(key, salt))
            for part, salt in (("test", 2), ("seen", 4))
            if part in splits
        }
        codes, pictures = outputs(config, tested, splits["test"], jax.random.fold_in(key, 2))
    values["test"] = values["test"] | codes
    ran = jnp.sum(jnp.isfinite(history["validation"]["epoch"]))
    ends = {"bad_step": state.bad_step, "bad_terms": state.bad_terms, "epochs": ran, "best_epoch": best_epoch}
    return values | ends | {"history": history, "pictures": pictures}


def fitted(
    config: train.Config, key: Key[Array, ""], splits: Splits
) -> tuple[train.TrainState, train.TrainState, Array, dict[str, dict[str, Array]]]:
    """Return the last state, the state to test, its epoch, and the history of a run.

    Without patience the state to test is the last one. With it, training stops after that many epochs without a
    better validation, and the best state is tested.
    """
    k_init, k_order, k_step = train.run_keys(key)
    examples, k_valid = splits["train"], jax.random.fold_in(key, 1)
    per_epoch = train.steps_per_epoch(config, len(examples))

    def advance(state: train.TrainState, number: Array) -> tuple[train.TrainState, Any]:
        order = train.epoch_order(k_order, number, len(examples))
        state = train.train_steps(train.start_epoch(state), config, k_step, examples, order, per_epoch)
        found = train.evaluate(config, state, splits["validation"], k_valid)
        means = {name: total / per_epoch for name, total in state.sums.items()}
        return state, {"train": means, "validation": found | {"epoch": number + 1.0}}

    state = train.init(config, k_init, examples)
    numbers = jnp.arange(config.epochs)
    if not config.patience:
        state, history = jax.lax.scan(advance, state, numbers)
        return state, state, jnp.asarray(config.epochs), history
    step = functools.partial(patient, advance, config.patience, config.objective.criterion)
    best = Best(state, jnp.asarray(jnp.inf), jnp.zeros((), numbers.dtype))
    (state, best), history = jax.lax.scan(step, (state, best), numbers)
    return state, best.state, best.epoch, history


def patient(
    advance: Any, patience: int, criterion: Any, carry: tuple[train.TrainState, Best], number: Array
) -> Any:
    """Advance by an epoch unless `patience` epochs have passed without a better one, or a term was not finite."""
    state, best = carry
    over = (number - best.epoch >= patience) | (state.bad_step >= 0)
    nothing = jax.tree.map(lambda a: jnp.full(a.shape, jnp.nan, a.dtype), jax.eval_shape(advance, state, number)[1])
    state, row = jax.lax.cond(over, lambda: (state, nothing), lambda: advance(state, number))
    value = criterion(row["validation"])
    better = value < best.value  # false for nan
    keep = jax.tree.map(lambda new, old: jnp.where(better, new, old), state, best.state)
    best = Best(keep, jnp.where(better, value, best.value), jnp.where(better, number + 1, best.epoch))
    return (state, best), row
