"""Train one autoencoder, or many at once. Read from top to bottom: a batch goes through in this order.

train -> train_steps -> train_step -> objective(model, batch, key) -> model.encode -> draw
-> model.decode -> likelihood.log_prob -> mean -> update.
"""

import signal
import sys

if __name__ == "__main__":  # while libraries load there is nothing to save: Ctrl-C just ends the process
    signal.signal(signal.SIGINT, signal.SIG_DFL)

try:
    import jax
    import jax.numpy as jnp
    import optax
    from flax import nnx
    from jaxtyping import Array, Float, Int, Key
except ImportError as error:  # pragma: no cover - exercised by hand, in an empty environment
    sys.exit(f"train.py: {error.name} is not installed: run `pip install -r requirements.lock` first")

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from data import DataError, UnknownDataset
from data.options import ScaleKind, SplitKind
from models import metrics
from models.autoencoder import Autoencoder, Model
from models.batch import Batch, Sizes, as_batch
from models.config import ConfigError, config, kind, setting
from models.likelihoods import Auto
from models.objectives import ELBO, Objective, sparse_as_term
from models.terms import Term, weight_penalty
from training import RunError, host
from training.devices import cast_floats, shard_batch
from training.examples import Binarisation, Examples, binarise, example_batch, scale
from training.optimizers import Adam, AnyOptimizer, AnySchedule, Constant, Updates, build, running_mean, together
from training.players import Opponent, Rivals, check_players, make_rivals, network, play
from training.progress import keep_going_without_output
from training.terms import Off, Terms, Weights, last_gradient_is_bad

if TYPE_CHECKING:
    from training.cli import Command


@config
class Config:
    """Everything that defines a run. Floats and the seed are traced: they may be swept in one program."""

    dataset: str = "digits"
    """Data set: digits, mnist, fashion_mnist, binarized_mnist, ..., tfds:NAME or file:PATH."""
    binarise: Binarisation = "none"
    """Pixels to 0 or 1: none, threshold at 1/2, static (one draw, ever), dynamic (a draw per visit)."""
    read: Literal["auto", "memory", "stream"] = "auto"
    """Training examples: memory (all on the device), stream (batches from disk), auto (stream for one large npy)."""
    scale: ScaleKind = "auto"
    """Values as the model sees them: unit (possible range to [0, 1]), standardise, minmax, none; auto: by the data."""
    split: SplitKind = "auto"
    """Splits of a file: random (stratified by label), blocks (ordered data), given (by the file); auto: by the data."""
    label: str = ""
    """Column (or array) of the labels of a file; none: no labels; default: one called so, or the only text."""
    ignore: tuple[str, ...] = ()
    """Columns of a file to leave out."""
    resize: str = ""
    """Size of a file's pictures, HEIGHTxWIDTH."""
    channels: Literal[0, 1, 3] = 0
    """Channels of a file's pictures: 1 (grey) or 3 (colours); 0: as they are."""
    model: Model = Model(likelihood=Auto())
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
    """Stop after this many epochs without a better validation loss, and test the best (0: never stop)."""
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
    config: Config, model: Autoencoder, batch: Batch, key: Key[Array, ""], step: Any, rivals: Rivals = ()
) -> tuple[Float[Array, ""], Terms]:
    """Return a batch's mean loss and the means of its terms; the only place where examples are reduced."""
    per_example, terms, done = config.objective.at(step)(model, batch, key)
    for position, term in enumerate(config.terms):
        value = term(done._replace(key=jax.random.fold_in(done.key, position)), network(rivals, term))
        per_example, terms = per_example + term.weight * value, terms | {kind(type(term)): value}
    loss = jnp.mean(per_example)
    if isinstance(config.penalty, Weights):
        penalty = weight_penalty(nnx.state(model, nnx.Param), config.penalty.l1, config.penalty.l2)
        loss, terms = loss + penalty, terms | {"penalty": penalty}
    return loss, Terms.of({name: jnp.mean(term) for name, term in terms.items()} | {"loss": loss})


def init(config: Config, key: Key[Array, ""], examples: Examples | host.StandIn) -> TrainState:
    """Return fresh parameters, optimizer state and counters."""
    sizes = Sizes(examples.shape, examples.classes, len(examples))
    model = Autoencoder(config.model, sizes, rngs=nnx.Rngs(key))
    params = nnx.state(model, nnx.Param)
    seen = sizes._replace(classes=model.classes)  # a critic sees the labels that the model sees
    rivals = make_rivals(config.terms, config.opponent, seen, config.model.latent, jax.random.fold_in(key, 1))
    batch = example_batch(examples, config.batch_size)
    graphdef, variables = nnx.split(model)
    one_step = lambda v: batch_loss(config, nnx.merge(graphdef, v, copy=True), batch, key, 0, rivals)[1]
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

    def make_pass(key):
        return config.objective.at(state.step)(model_of(params), batch, key)[2]

    rivals = play(config.terms, config.opponent, state.rivals, make_pass, k_loss) if state.rivals else ()

    def mean_loss(params):
        model = model_of(params)
        loss, terms = batch_loss(config, model, batch, k_loss, state.step, rivals)
        return loss, (terms, nnx.state(model, nnx.Not(nnx.Param)))

    grads, (terms, rest) = jax.grad(mean_loss, has_aux=True)(params)
    updates, opt_state = optimizer.update(together(grads), state.opt_state, params)
    params = optax.apply_updates(params, updates)
    ema = running_mean(state.ema, params, config.updates.ema) if config.updates.ema else ()
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
) -> TrainState:
    """Advance by `count` batches of the epoch; `count` may be traced, so one program serves any chunk."""
    optimizer = make_optimizer(config, len(examples))
    per_epoch = steps_per_epoch(config, len(examples))

    def body(_, state: TrainState) -> TrainState:
        start = (state.step % per_epoch) * config.batch_size
        index = jax.lax.dynamic_slice(order, (start,), (config.batch_size,))
        return train_step(state, config, optimizer, key, examples.batch(index))

    if isinstance(count, int) and count == 1:  # no loop at all: XLA compiles the body of one differently
        return last_gradient_is_bad(body(0, state))
    return last_gradient_is_bad(jax.lax.fori_loop(0, count, body, state))


def train_on(
    state: TrainState,
    config: Config,
    key: Key[Array, ""],
    raw: Any,
    label: Any = None,
    *,
    n: int,
    range: tuple[float | int, float | int],
) -> TrainState:
    """Advance by one batch of stored values that comes from a stream over `n` examples."""
    batch = Batch(scale(jnp.asarray(raw), range), label)
    state = train_step(state, config, make_optimizer(config, n), key, batch)
    return last_gradient_is_bad(state)


def start_epoch(state: TrainState) -> TrainState:
    """Return the state with the epoch's sums at zero."""
    return state._replace(sums=jax.tree.map(jnp.zeros_like, state.sums))


def run_keys(key: Key[Array, ""]) -> tuple[Key[Array, ""], Key[Array, ""], Key[Array, ""]]:
    """Return the keys of a run: initial weights, order of examples, steps."""
    return tuple(jax.random.split(key, 3))  # type: ignore[return-value]


def train(config: Config, key: Key[Array, ""], examples: Examples) -> tuple[TrainState, dict[str, Array]]:
    """Return the final state and the mean terms of every epoch: one run as a pure function.

    `jit`, `vmap` (over a stack of configs and keys), `lax.map` and sharding all apply to it.
    """
    k_init, k_order, k_step = run_keys(key)
    per_epoch = steps_per_epoch(config, len(examples))

    def epoch(state: TrainState, number: Int[Array, ""]) -> tuple[TrainState, dict[str, Array]]:
        order = epoch_order(k_order, number, len(examples))
        state = train_steps(start_epoch(state), config, k_step, examples, order, per_epoch)
        return state, {name: total / per_epoch for name, total in state.sums.items()}

    with jax.default_matmul_precision(config.matmul_precision):
        return jax.lax.scan(epoch, init(config, k_init, examples), jnp.arange(config.epochs))


def trained_model(config: Config, state: TrainState) -> Autoencoder:
    """Return the model to evaluate: the averaged parameters where the run keeps them."""
    if not config.updates.ema:
        return state.model
    graphdef, _, rest = nnx.split(state.model, nnx.Param, ...)
    return nnx.merge(graphdef, state.ema, rest, copy=True)


def evaluate(config: Config, state: TrainState, examples: Examples, key: Key[Array, ""]) -> dict[str, Array]:
    """Return the exact means of all metrics over all examples; the short last batch is masked.

    Names carry units (`negative_elbo_nats`, `bits_per_dim`, `mse`, ...). Dynamic binarisation draws each
    example once, by `key`.
    """
    model = trained_model(config, state)
    n, batch = len(examples), min(len(examples), 512)

    def one_batch(i: Int[Array, ""]) -> dict[str, Array]:
        k_binary, k_metrics = jax.random.split(jax.random.fold_in(key, i))
        index = i * batch + jnp.arange(batch)
        some = examples.batch(jnp.minimum(index, n - 1))
        some = some._replace(x=binarise(some.x, config.binarise, k_binary))
        values = metrics.per_example(model, some, k_metrics)
        return {name: jnp.sum(jnp.where(index < n, value, 0)) for name, value in values.items()}

    totals = jax.lax.map(one_batch, jnp.arange(-(-n // batch)))
    means = {name: jnp.sum(value) / n for name, value in totals.items()}
    return means | {"rmse": jnp.sqrt(means["mse"])} if "mse" in means else means


CORE = host.Core(init, train_steps, train_on, start_epoch, epoch_order, run_keys, evaluate, trained_model)


def fit(command: "Command") -> tuple[Path, dict[str, Any], int] | None:
    """Run a command to its end in its run folder; return that folder, the summary and the exit code (None: a dry run).

    The parameters are those of `train` for the key of the config's seed; the host only cuts the same steps
    into dispatches. Raises ConfigError, data.DataError or RunError.
    """
    return host.fit(CORE, command)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    from training.cli import closing, parse, usage_error

    command = parse(Config, sys.argv[1:] if argv is None else argv, (__doc__ or "").split("\n")[0])
    try:
        found = fit(command)
    except (ConfigError, UnknownDataset) as error:
        usage_error(str(error))
    except (DataError, RunError) as error:
        print(f"train.py: {error}", file=sys.stderr)
        return 1
    if found is None:
        return 0
    folder, summary, code = found
    closing(folder, summary)
    return code


if __name__ == "__main__":
    keep_going_without_output()
    sys.exit(main())
