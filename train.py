"""Train one autoencoder, or many at once. Read from top to bottom: a batch goes through in this order.

train -> train_steps -> train_step -> objective(model, batch, key) -> model.encode -> draw
-> model.decode -> likelihood.log_prob -> mean -> update.
"""

import _signal  # the built-in half of `signal`, which itself takes a while to load

if __name__ == "__main__":  # while libraries load there is nothing to save: Ctrl-C just ends the process
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)

import functools
import sys

try:
    import jax
    import jax.numpy as jnp
    import optax
    from flax import nnx
    from jaxtyping import Array, Float, Int, Key
except ImportError as error:  # pragma: no cover - exercised by hand, in an empty environment
    sys.exit(f"train.py: {error.name} is not installed: run `pip install -r requirements.lock` first")

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from data import DataError, UnknownDataset
from data.options import Kind, ScaleKind, SplitKind
from models.autoencoder import Autoencoder, Model
from models.batch import Batch, Sizes, as_batch
from models.config import ConfigError, config, setting
from models.likelihoods import AutoLikelihood
from models.objectives import ELBO, Objective, sparse_as_term
from models.terms import Term, weight_penalty
from training import RunError, host
from training.cli.progress import keep_going_without_output
from training.devices import cast_floats, hidden, memory_in_one_line, shard_batch
from training.evaluate import Best, Trained, criterion, evaluate, example_loss, patience_is_over, ramp_epochs
from training.evaluate import trained_model as trained_model
from training.examples import Binarisation, Examples, binarise, example_batch
from training.host import Pace
from training.inputs.guard import checked_splits
from training.optimizers import Adam, AnyOptimizer, AnySchedule, Constant, Updates, build, next_mean, together, waiting
from training.players import Moved, Opponent, Rivals, check_players, make_rivals, no_rivals, play
from training.terms import Off, Terms, Weights, last_gradient_is_bad

if TYPE_CHECKING:
    from training.cli.options import Command
    from training.trained import LoadedRun

__all__ = ["Config", "TrainState", "Trained", "evaluate", "fit", "init", "load_run", "main", "train", "trained_model"]


@config
class Config:
    """Everything that defines a run. Floats and the seed are traced: they may be swept in one program."""

    dataset: str = "digits"
    """Data set: digits, mnist, fashion_mnist, ..., tfds:NAME or file:PATH (all in data/README.md)."""
    binarise: Binarisation = "none"
    """Pixels to 0 or 1: none, threshold at 1/2, static (one draw, ever), dynamic (a draw per visit)."""
    read: Literal["auto", "memory", "stream"] = "auto"
    """Training examples: memory (all on the device), stream (batches from disk), auto (stream for one large npy)."""
    scale: ScaleKind = "auto"
    """Values as the model sees them: unit (possible range to [0, 1]), standardise, minmax, none; auto: by the data."""
    split: SplitKind = "auto"
    """Splits of a file: random (stratified by label), blocks (ordered data), given (by the file); auto: by the data."""
    label: str = ""
    """Column (or array) of the labels of a file; none: no labels; '': one called so, or the only text."""
    ignore: tuple[str, ...] = ()
    """Columns of a file to leave out, by name."""
    resize: str = ""
    """Size of a file's pictures, HEIGHTxWIDTH; '': as they are."""
    channels: Literal[0, 1, 3] = 0
    """Channels of a file's pictures: 1 (grey) or 3 (colours); 0: as they are."""
    kind: Kind = "auto"
    """What the data are: image, table, series, text, audio, ratings; auto: by the file's name and values."""
    model: Model = Model(likelihood=AutoLikelihood())
    """The autoencoder's parts."""
    objective: Objective = ELBO()
    """What is minimised."""
    terms: tuple[Term, ...] = ()
    """Further terms of the loss, each times its weight; one of a kind."""
    opponent: Opponent = Opponent()
    """How the networks of adversarial terms are trained."""
    penalty: Off | Weights = Off()
    """Penalty on the weights."""
    optimizer: AnyOptimizer = Adam()
    """The optimizer."""
    lr: float = setting(1e-3, above=0)
    """Learning rate, before the schedule."""
    schedule: AnySchedule = Constant()
    """How the learning rate changes over the run."""
    updates: Updates = Updates()
    """Warm-up, clipping, accumulation, averaging of parameters."""
    epochs: int = setting(100, at_least=1)
    """Passes over the training split."""
    batch_size: int = setting(128, at_least=1)
    """Examples per step; the last, incomplete batch of an epoch is left out (another one each epoch)."""
    patience: int = setting(0, at_least=0)
    """Stop after this many epochs without a better validation, none of them on a ramp; test the best (0: never)."""
    criterion: str = ""
    """Validation metric that decides which epoch is best, lower is better; '': the objective at full weights."""
    matmul_precision: Literal["default", "high", "highest"] = "default"
    """Precision of matrix products on devices that offer several."""
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    """Dtype of the networks' arithmetic; parameters, losses and optimizer stay in float32."""
    seed: int = setting(0, traced=True, at_least=0)
    """Seed of initial weights, batches and noise."""

    renamed = staticmethod(sparse_as_term)

    def check(self) -> None:
        """Raise ConfigError for parts that do not fit each other."""
        check_players(self.terms, self.opponent)


class TrainState(NamedTuple):
    """All that changes from step to step: a pytree, so it can be scanned, vmapped, sharded and saved."""

    model: Autoencoder
    opt_state: optax.OptState
    ema: Any  # running mean of the parameters, () where there is none
    step: Int[Array, ""]
    sums: Terms  # of this epoch's steps
    bad_step: Int[Array, ""]  # first step with a non-finite term or gradient, else -1
    bad_terms: Terms  # which were not finite there
    rivals: Rivals = ()  # networks that play against the model and their optimizers' states, () without


def steps_per_epoch(config: Config, n: int) -> int:
    """Return the number of whole batches in `n` examples."""
    return n // config.batch_size


def make_optimizer(config: Config, n: int) -> optax.GradientTransformation:
    """Return the optimizer of a run over `n` training examples (its schedule needs the number of steps)."""
    steps = config.epochs * steps_per_epoch(config, n)
    return build(config.optimizer, config.schedule, config.updates, config.lr, steps)


def batch_loss(
    config: Config, model: Autoencoder, batch: Batch, key: Key[Array, ""], step: Any, moved: Moved = no_rivals
) -> tuple[Float[Array, ""], Terms, Rivals]:
    """Return a batch's mean loss, means of its terms, and networks as moved; the only place that reduces examples."""
    per_example, terms, rivals = example_loss(config, model, batch, key, step, moved)
    loss = jnp.mean(per_example)
    if isinstance(config.penalty, Weights):
        penalty = weight_penalty(nnx.state(model, nnx.Param), config.penalty.l1, config.penalty.l2)
        loss, terms = loss + penalty, terms | {"penalty": penalty}
    return loss, Terms.of({name: jnp.mean(term) for name, term in terms.items()} | {"loss": loss}), rivals


def init(config: Config, key: Key[Array, ""], examples: Examples | host.StandIn) -> TrainState:
    """Return fresh parameters, optimizer state and counters."""
    sizes = Sizes(examples.shape, examples.classes, len(examples))
    model = Autoencoder(config.model, sizes, rngs=nnx.Rngs(key))
    params = nnx.state(model, nnx.Param)
    seen = sizes._replace(classes=model.classes)  # a critic sees the labels that the model sees
    rivals = make_rivals(config.terms, config.opponent, seen, config.model.latent, jax.random.fold_in(key, 1))
    batch = example_batch(examples, config.batch_size)
    graphdef, variables = nnx.split(model)
    one_step = lambda v: batch_loss(config, nnx.merge(graphdef, v, copy=True), batch, key, 0, lambda _: rivals)[1]
    sums = jax.tree.map(jnp.zeros_like, jax.eval_shape(one_step, variables))
    return TrainState(
        model,
        make_optimizer(config, len(examples)).init(params),
        params if config.updates.ema else (),
        jnp.zeros((), jnp.int32),
        sums,
        jnp.full((), -1, jnp.int32),
        Terms(jnp.zeros(len(sums.names) + 1, bool), (*sums.names, "gradient")),
        rivals,
    )


def train_step(
    state: TrainState,
    config: Config,
    optimizer: optax.GradientTransformation,
    key: Key[Array, ""],
    batch: Batch | Array,
) -> TrainState:
    """Advance by one batch of scaled examples: binarise, gradient of the mean loss, update, bookkeeping.

    Networks that play against the model move first, then the model moves against them.
    """
    batch, k_loss = as_batch(batch), jax.random.fold_in(key, state.step)
    raw = batch.x
    if config.binarise == "dynamic":
        k_binary, k_loss = jax.random.split(k_loss)
        raw = binarise(raw, "dynamic", k_binary)
    x = binarise(raw, config.binarise, None) if config.binarise == "threshold" else raw
    batch = jax.tree.map(shard_batch, batch._replace(x=x))
    graphdef, params, rest = nnx.split(state.model, nnx.Param, ...)

    def model_of(params):
        return nnx.merge(graphdef, cast_floats(params, config.compute_dtype), rest, copy=True)

    make_pass = lambda key: config.objective.at(state.step)(model_of(params), batch, key)[2]
    moved = lambda done: play(config.terms, config.opponent, state.rivals, done, make_pass, k_loss)

    def mean_loss(params):
        model = model_of(params)
        loss, terms, rivals = batch_loss(config, model, batch, k_loss, state.step, moved)
        return loss, (terms, rivals, nnx.state(model, nnx.Not(nnx.Param)))

    grads, (terms, rivals, rest) = jax.grad(mean_loss, has_aux=True)(params)
    updates, opt_state = optimizer.update(together(grads), state.opt_state, params)
    params = optax.apply_updates(params, waiting(config.updates, state.step, updates))
    ema = () if not config.updates.ema else next_mean(config.updates, state, params)
    bad = ~jnp.isfinite(terms.values)  # a bad gradient shows in the next step's loss: see last_gradient_is_bad
    first = (state.bad_step < 0) & jnp.any(bad)
    names = state.bad_terms.names
    return TrainState(
        nnx.merge(graphdef, params, rest, copy=True),
        opt_state,
        ema,
        state.step + 1,
        Terms(state.sums.values + terms.values.astype(state.sums.values.dtype), terms.names),
        jnp.where(first, state.step, state.bad_step),
        Terms(jnp.where(first, jnp.append(bad, False), state.bad_terms.values), names),
        rivals,
    )


def epoch_order(key: Key[Array, ""], epoch: Int[Array, ""] | int, n: int) -> Int[Array, " n"]:
    """Return the order in which an epoch visits `n` examples: a function of (key, epoch) alone."""
    return jax.random.permutation(jax.random.fold_in(key, epoch), n)


def train_steps(
    state: TrainState,
    config: Config,
    key: Key[Array, ""],
    examples: Examples,
    order: Int[Array, " n"],
    count: Any,
    step: Callable[..., TrainState] = train_step,
) -> TrainState:
    """Advance by `count` batches of the epoch; `count` may be traced, so one program serves any chunk."""
    optimizer = make_optimizer(config, len(examples))
    per_epoch = steps_per_epoch(config, len(examples))

    def body(_, state: TrainState) -> TrainState:
        start = (state.step % per_epoch) * config.batch_size
        index = jax.lax.dynamic_slice(order, (start,), (config.batch_size,))
        return step(state, config, optimizer, key, examples.batch(index))

    if isinstance(count, int) and count == 1:  # no loop at all: XLA compiles the body of one differently
        return last_gradient_is_bad(body(0, state))
    return last_gradient_is_bad(jax.lax.fori_loop(0, count, body, state))


def start_epoch(state: TrainState) -> TrainState:
    """Return the state with the epoch's sums at zero."""
    return state._replace(sums=jax.tree.map(jnp.zeros_like, state.sums))


def run_keys(key: Key[Array, ""]) -> tuple[Key[Array, ""], Key[Array, ""], Key[Array, ""]]:
    """Return the keys of a run: initial weights, order of examples, steps."""
    return tuple(jax.random.split(key, 3))  # type: ignore[return-value]


def train(config: Config, key: Key[Array, ""], splits: Mapping[str, Any]) -> Trained:
    """Train, validate after each epoch, stop early: one run as a pure function, the loop that everything runs.

    splits: "train", and "validation" where epochs are to be compared: `Examples` or arrays, (n, *shape). A run ends
    before `config.epochs` when patience is over, or when a term or a metric is not finite. `jit`, `vmap` (over a stack
    of configs and keys), `lax.map` and sharding all apply. The command line cuts the same steps into dispatches
    (`training/host`): parameters are equal to the bit. Raises ConfigError: see `training/inputs/guard.py`.
    """
    splits = checked_splits(config, splits)
    config = hidden(config)
    k_init, k_order, k_step = run_keys(key)
    k_valid, per_epoch = jax.random.fold_in(key, 1), steps_per_epoch(config, len(splits["train"]))
    ramps = ramp_epochs(config, per_epoch)

    def epoch(state: TrainState, number: Int[Array, ""]) -> tuple[TrainState, dict[str, Any]]:
        order = epoch_order(k_order, number, len(splits["train"]))
        state = train_steps(start_epoch(state), config, k_step, splits["train"], order, per_epoch)
        row = {"train": {name: total / per_epoch for name, total in state.sums.items()}}
        if "validation" in splits:
            row["validation"] = evaluate(config, state, splits["validation"], k_valid)
        return state, row

    def unless_over(run: Trained, number: Int[Array, ""]) -> tuple[Trained, dict[str, Any]]:
        over = run.over | patience_is_over(config.patience, number, run.best, ramps)
        none = jax.tree.map(lambda s: jnp.full(s.shape, jnp.nan, s.dtype), jax.eval_shape(epoch, run.state, number)[1])
        state, row = jax.lax.cond(over, lambda: (run.state, none), lambda: epoch(run.state, number))
        ran, value, better, over = ~over, run.best.value, ~over, over | (state.bad_step >= 0)
        if validation := row.get("validation"):
            value = criterion(config, validation)
            better = ran & (value < run.best.value)
            over = over | ~jnp.isfinite(jnp.stack(list(validation.values()))).all()
        pick = lambda new, old: jax.tree.map(functools.partial(jnp.where, better), new, old)
        kept, best = pick((state, Best(value, number + 1)), (run.best_state, run.best))
        return Trained(state, kept, best, run.epochs + ran, over), row

    with jax.default_matmul_precision(config.matmul_precision):
        state, zero = init(config, k_init, splits["train"]), jnp.zeros((), jnp.int32)
        start = Trained(state, state, Best(jnp.full((), jnp.inf), zero), zero, jnp.zeros((), bool))
        run, history = jax.lax.scan(unless_over, start, jnp.arange(config.epochs, dtype=jnp.int32))
        return run._replace(history=history)


CORE = host.Core(init, train_steps, train_step, make_optimizer, start_epoch, epoch_order, run_keys, steps_per_epoch)


def fit(command: "Command", pace: Pace = Pace()) -> tuple[Path, dict[str, Any], int] | None:
    """Run a command to its end in its run folder; return that folder, the summary and the exit code (None: a dry run).

    The steps are those of `train`, cut into dispatches at its `pace`. Raises ConfigError, data.DataError or RunError.
    """
    return host.fit(CORE, command, pace)


def load_run(path: str | Path, which: str | None = None) -> "LoadedRun":
    """Return the "best", "last" or (None) tested model of a run folder or an exported one. Raises RunError."""
    from training.trained import load

    return load(init, Config, Path(path), which)


def main(argv: list[str] | None = None, pace: Pace = Pace()) -> int:
    """Run the command line; return the exit code."""
    from training.cli.closing import closing
    from training.cli.parse import parse, usage_error
    from training.trained.measured import measured

    command = parse(Config, sys.argv[1:] if argv is None else argv, (__doc__ or "").split(". ")[0] + ".")
    try:
        found = memory_in_one_line()(fit)(command, pace)
    except (ConfigError, UnknownDataset) as error:
        usage_error(str(error))
    except (DataError, RunError) as error:
        print(f"train.py: {error}", file=sys.stderr)
        return 1
    if found is None:  # a dry run
        return 0
    closing(*found[:2])
    return found[2] or measured(command, found[0], load_run)


if __name__ == "__main__":
    keep_going_without_output()
    sys.exit(main())
