"""One run, whole, as a pure function: train and validate (`train.train`), then test. Groups of runs map it."""

from typing import Any

import jax

import train
from experiments.running.reconstructions import reconstructions
from training.evaluate import trained_model, training_mean
from training.examples import Examples

Splits = dict[str, Examples]


def run(config: train.Config, splits: Splits, measures: tuple[Any, ...] = ()) -> dict[str, Any]:
    """Return what a run leaves behind: metrics of every split but train and validation, history, pictures.

    splits: train, validation, test, and perhaps `seen`, training examples to be measured as test ones are.
    config: a `train.Config` whose floats and seed may be traced. Keys and early stopping are those of
    `train.fit`, so the numbers are those of the same run by command line. `history` holds (epochs,) arrays,
    nan after the end; `epochs` counts those that ran, `best_epoch` the one that was tested. measures: what more is
    measured on the test split, see `experiments.running.measures`; `rows`: what those leave that work on the host.
    """
    key = jax.random.key(config.seed)
    done = train.train(config, key, splits)
    tested = done.tested(config)
    with jax.default_matmul_precision(config.matmul_precision):
        mean = training_mean(splits["train"], config.binarise)
        values = {
            part: train.evaluate(config, tested, splits[part], jax.random.fold_in(key, salt), mean)
            for part, salt in (("test", 2), ("seen", 4))
            if part in splits
        }
        rows: dict[str, Any] = {}
        for salt, measure in enumerate(measures):
            k_measure = jax.random.fold_in(jax.random.fold_in(key, 5), salt)
            found = measure(config, trained_model(config, tested), splits["test"], k_measure)
            if hasattr(measure, "finish"):
                rows[str(salt)] = found
            else:
                values["test"] |= found
        pictures = reconstructions(config, tested, splits["test"], jax.random.fold_in(key, 2))
    ends = {"bad_step": done.state.bad_step, "bad_terms": done.state.bad_terms, "epochs": done.epochs}
    ends["step"] = done.state.step
    ends["best_epoch"] = done.best.epoch if config.patience else done.epochs
    return values | ends | {"history": done.history, "pictures": pictures, "rows": rows}
