"""Speed of the parts: steps of fourteen configurations and importance weights, over the matrix products they hold.

Claim: A step costs little more than its own matrix products, whatever its parts; 5,000 importance samples an image cost
    what decoding them costs.
Source: a measurement of this project's own; the figures to reach are those under Expected.
Command: python -m experiments parts
Cost: 5 minutes on 2 quiet cores; random images and texts, no files. --images 10000 scores as many (an hour).
Expected: importance weights at most 1.3x the decoder's products, at least 20x faster than a loop over images and draws,
    within 0.01 nat of it; IWAE k = 50 at most 1.3x its floor, VAE-GAN 1.1x, recurrent cells 1.5x, and VQ 1.15x
    the plain step.

Floor: the products (dot operations) of the compiled program itself, with their shapes, alone in a program: what the
program does besides is what it pays for. Program and floor take turns in one process, both as loops inside XLA.
Writes experiments/results/parts.json.
"""

import argparse
import functools
import re
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import data
from experiments.benchmarks.measuring import take_turns, write
from experiments.benchmarks.throughput import images, training
from experiments.running import store
from models import Autoencoder, Dense, Model, Recurrent, posteriors, priors
from models.batch import Batch, Sizes
from models.codes import draw
from models.likelihoods import TokensLikelihood
from models.metrics import log_likelihood
from models.metrics.likelihood import ROWS
from models.metrics.subject import in_chunks
from models.objectives import ELBO, Bound, Reconstruction
from models.terms import MMD, Adversarial, Commitment, TotalCorrelation
from train import Config, init, train_steps
from training.examples import Examples
from training.inputs import Inputs

DRAWS, TURN = 5_000, 0.1  # importance samples; seconds of a turn, about
PLAIN, VQ, VAE_GAN, IWAE50 = "VAE", "VQ, 5 places of 256", "VAE-GAN", "IWAE, k = 50"


def configuration(objective: Any = None, terms: tuple[Any, ...] = (), **slots: Any) -> Config:
    """Return a run of a 784-400-20 model with these parts, batch 128."""
    model = Model(encoder=Dense(hidden=(400,)), latent=20, **slots)
    return Config(model=model, objective=objective or ELBO(), terms=terms, batch_size=128)


CONFIGURATIONS = {
    "autoencoder": configuration(Reconstruction(), posterior=posteriors.PointPosterior()),
    PLAIN: configuration(),
    "IWAE, k = 5": configuration(Bound(5)),
    IWAE50: configuration(Bound(50)),
    "DReG, k = 5": configuration(Bound(5, gradient="dreg")),
    "VampPrior of 50": configuration(prior=priors.VampPrior()),
    "coupling flow": configuration(posterior=posteriors.FlowPosterior()),
    "ladder of 8 and 12": configuration(
        posterior=posteriors.ChainPosterior((8, 12), ladder=True), prior=priors.ChainPrior((8, 12))
    ),
    VQ: configuration(
        ELBO(),
        (Commitment(),),
        posterior=posteriors.VQPosterior(entries=256, width=4),
        prior=priors.CodesPrior(),
    ),
    "WAE-MMD": configuration(Reconstruction(), (MMD(),), posterior=posteriors.PointPosterior()),
    "beta-TC": configuration(ELBO(), (TotalCorrelation(),)),
    VAE_GAN: configuration(ELBO(), (Adversarial(),)),
}
TEXT = (64, 64)  # steps of a text, symbols there are
SEQUENCES = {
    f"{cell.upper()} of {TEXT[0]} steps": Config(
        model=Model(encoder=Recurrent(cell=cell, width=256), latent=20, likelihood=TokensLikelihood(TEXT[1])),
        objective=ELBO(),
        batch_size=64,
    )
    for cell in ("gru", "lstm")
}


def texts(n: int = 6_000) -> Inputs:
    """Return `n` random texts without an end, as a data set."""
    x = np.random.default_rng(0).integers(2, TEXT[1], (n, TEXT[0])).astype(np.float32)
    dataset = data.Dataset("noise", "generated", {"train": data.Split(x)}, TEXT[:1], (0, TEXT[1] - 1), None, {})
    return Inputs({"train": Examples(jnp.asarray(x))}, dataset)


class Product(NamedTuple):
    """One dot of a compiled program: operand shapes, `jax.lax.dot_general`'s dimension numbers, runs in loops."""

    left: tuple[int, ...]
    right: tuple[int, ...]
    numbers: Any
    times: int = 1

    @property
    def multiplications(self) -> int:
        """Return the multiplications it takes."""
        (_, contracted), (_, batch) = self.numbers
        free = [n for i, n in enumerate(self.right) if i not in (*contracted, *batch)]
        return int(self.times * np.prod(self.left) * np.prod(free or [1]))


def products_of(text: str) -> list[Product]:
    """Return the dots of a compiled program, by its text; those inside a loop as often as it is known to run."""
    parts = re.split(r"^(?=(?:ENTRY )?%[\w.-]+ \(.*{$)", text, flags=re.M)[1:]
    bodies = {re.match(r"(?:ENTRY )?(%[\w.-]+)", part)[1]: part for part in parts}  # type: ignore[index]
    entry = next(name for name, part in bodies.items() if part.startswith("ENTRY"))

    def within(name: str, times: int) -> list[Product]:
        found = [product._replace(times=times) for product in _dots(bodies[name])]
        for line in bodies[name].splitlines():
            trips = re.search(r'"known_trip_count":{"n":"(\d+)"}', line)
            for called in re.findall(r"(?:calls|body|to_apply)=(%[\w.-]+)", line):
                found += within(called, times * int(trips[1] if trips else 1))
        return found

    return within(entry, 1)


def _dots(text: str) -> list[Product]:
    """Return the dots of one computation."""
    shapes = {
        name: tuple(int(n) for n in dims.split(",") if n)
        for name, dims in re.findall(r"(%[\w.-]+)(?: = |: )\w+\[([\d,]*)\]", text)
    }
    found = []
    for line in text.splitlines():
        if match := re.search(r" dot\((?:\S+ )?(%[\w.-]+), (?:\S+ )?(%[\w.-]+)\)", line):
            axes = lambda what, line=line: tuple(
                int(n) for n in (re.search(rf"{what}={{([\d,]*)}}", line) or ["", ""])[1].split(",") if n
            )
            contracted = (axes("lhs_contracting_dims"), axes("rhs_contracting_dims"))
            numbers = (contracted, (axes("lhs_batch_dims"), axes("rhs_batch_dims")))
            found.append(Product(shapes[match[1]], shapes[match[2]], numbers))
    return found


def replay(products: list[Product]) -> Callable[[int], None]:
    """Return a function that runs the products alone a number of times, in a loop inside XLA."""
    rng = np.random.default_rng(0)
    arrays = [tuple(jnp.asarray(rng.normal(size=s), jnp.float32) for s in (p.left, p.right)) for p in products]
    # every left operand depends on the last product, so that none can leave the loop
    corner = lambda a, o: a.at[(0,) * a.ndim].add(1e-20 * o.reshape(-1)[0])

    def one(product: Product, left: jax.Array, right: jax.Array) -> jax.Array:
        dot = lambda a: jax.lax.dot_general(a, right, product.numbers)
        if product.times == 1:
            return dot(left)
        again = lambda _, carry: ((moved := corner(*carry)), dot(moved))
        return jax.lax.fori_loop(0, product.times, again, (left, jnp.zeros_like(jax.eval_shape(dot, left))))[1]

    def all_of(arrays: list[tuple[jax.Array, jax.Array]]) -> list[jax.Array]:
        return [one(p, *pair) for pair, p in zip(arrays, products, strict=True)]

    def body(_: Any, carry: Any) -> Any:
        arrays, out = carry
        arrays = [(corner(a, o), b) for (a, b), o in zip(arrays, out, strict=True)]
        return arrays, all_of(arrays)

    looped = jax.jit(lambda a, n: jax.lax.fori_loop(0, n, body, (a, jax.tree.map(jnp.zeros_like, all_of(a))))[1])
    return lambda steps: jax.block_until_ready(looped(arrays, steps))


def step_products(config: Config, inputs: Inputs) -> list[Product]:
    """Return the products of one training step."""
    examples, key = inputs.splits["train"], jax.random.key(0)
    state = jax.eval_shape(lambda: init(config, key, examples))
    one = jax.jit(lambda s, order: train_steps(s, config, key, examples, order, 1))
    order = jax.ShapeDtypeStruct((len(examples),), jnp.int32)
    return products_of(one.lower(state, order).compile().as_text() or "")


def paired(call: Callable[[int], None], floor: Callable[[int], None], rounds: int) -> dict[str, Any]:
    """Return milliseconds of a step and of its floor, in turns, and medians over rounds of their ratios.

    `processor_ratio` is that of processor time, which other work on the machine inflates less than the clock's.
    """
    for one in (call, floor):
        one(1)  # compiles
    begin = time.perf_counter()
    call(1)
    steps = max(5, round(TURN / (time.perf_counter() - begin)))  # of the first, memory is not yet in place
    seconds = np.zeros((rounds, 2, 2))  # of a round's step and floor, by the clock and of the processor
    for pair in seconds:
        for i, one in enumerate((call, floor)):
            before = np.array([time.perf_counter(), time.process_time()])
            one(steps)
            pair[i] = (np.array([time.perf_counter(), time.process_time()]) - before) / steps
    step, alone = seconds[:, :, 0].min(axis=0) * 1e3
    ratios, processor = (seconds[:, 0] / seconds[:, 1]).T
    low, middle, high = np.percentile(ratios, (25, 50, 75))
    return {
        "step_ms": step, "floor_ms": alone, "fastest_ratio": step / alone,
        "median_ratio": middle, "quartiles": [low, high], "processor_ratio": np.median(processor),
    }  # fmt: skip


def steps(rounds: int, only: str = "") -> dict[str, Any]:
    """Return for every configuration (whose name holds `only`) its step over its floor."""
    found: dict[str, Any] = {}
    pictures, symbols = images(6_000), texts()
    for name, config in (CONFIGURATIONS | SEQUENCES).items():
        if only not in name:
            continue
        inputs = symbols if name in SEQUENCES else pictures
        products = step_products(config, inputs)
        row = paired(training(config, "loop", inputs), replay(products), rounds)
        found[name] = row | {"products": len(products), "multiplications": sum(p.multiplications for p in products)}
        print(line(name, found[name]), flush=True)
    return found


def line(name: str, row: dict[str, Any]) -> str:
    """Return a configuration's line."""
    low, high = row["quartiles"]
    return (
        f"{name:<20} {row['step_ms']:8.2f} ms, {row['floor_ms']:8.2f} ms its {row['products']} products: "
        f"{row['median_ratio']:.2f} x [{low:.2f}, {high:.2f}], of processor time {row['processor_ratio']:.2f} x"
    )


def against_plain(rounds: int) -> dict[str, Any]:
    """Return VQ's step over the plain one, in turns."""
    inputs = images(6_000)
    vq, plain = (training(CONFIGURATIONS[name], "loop", inputs) for name in (VQ, PLAIN))
    return paired(vq, plain, rounds)


def weights(count: int, draws: int, rounds: int) -> dict[str, Any]:
    """Return what importance weights cost over the decoder's products, and over a loop of images and draws."""
    model = Autoencoder(CONFIGURATIONS[PLAIN].model, Sizes((28, 28, 1)), rngs=nnx.Rngs(0))
    x = np.random.default_rng(0).integers(0, 2, (count, 28, 28, 1)).astype(np.float32)
    key, together = jax.random.key(1), min(count, 256)
    chunk, scores = max(1, ROWS // together), _scores(draws)
    score = functools.partial(in_chunks, scores, model, Batch(x), key, together)
    text = scores.lower(model, Batch(jnp.asarray(x[:together])), key).compile().as_text() or ""
    alone, times = replay(products_of(text)), -(-count // together)
    turns = take_turns({"weights": (lambda n: score(), 1), "products": (lambda n: alone(times), 1)}, rounds)
    ours, theirs = (turns[name]["median_ms"] / 1e3 for name in ("weights", "products"))
    some = min(2, count)
    values, seconds = one_by_one(model, x, jax.random.fold_in(key, 0), draws, chunk, together, some)
    apart = float(np.abs(values - score()[:some]).max())
    memory = {n: _memory(model, x[:together], n) for n in (draws // 10, draws)}
    return {
        "images": count, "draws": draws, "seconds": ours, "products_seconds": theirs, "ratio": ours / theirs,
        "processor_ratio": turns["weights"]["cpu_ms"] / turns["products"]["cpu_ms"],
        "loop_seconds_an_image": seconds / some, "loop_ratio": seconds / some / (ours / count), "apart_nats": apart,
        "temporary_mib": memory,
    }  # fmt: skip


@functools.cache
def _scores(draws: int) -> Any:
    return jax.jit(lambda m, batch, k: log_likelihood(m, batch, k, draws)["log_likelihood_nats"])


def _memory(model: Any, x: np.ndarray, draws: int) -> float:
    compiled = _scores(draws).lower(model, Batch(jnp.asarray(x)), jax.random.key(0)).compile()
    return compiled.memory_analysis().temp_size_in_bytes / 2**20


def one_by_one(
    model: Any, x: np.ndarray, key: Any, draws: int, chunk: int, together: int, some: int
) -> tuple[np.ndarray, float]:
    """Return log p(x) of the first images by one compiled call a draw, (some,), and the seconds of the calls.

    The draws are those of `log_likelihood` with this key and chunk, so the values are to agree to rounding.
    """
    q = model.encode(jnp.asarray(x[:together]))

    @jax.jit
    def drawn(i: Any) -> Any:
        k_draw, _ = jax.random.split(jax.random.fold_in(key, i))
        return jax.vmap(lambda k: draw(q, k))(jax.random.split(k_draw, chunk))

    @jax.jit
    def weigh(m: Any, x: Any, z: Any, log_q: Any) -> Any:
        return m.decode(z).log_prob(x)[0] + m.prior().log_prob(z)[0] - log_q

    z, log_q = (np.concatenate(a)[:draws] for a in zip(*(drawn(i) for i in range(-(-draws // chunk))), strict=True))
    one = [jnp.asarray(x[i : i + 1]) for i in range(some)]
    weigh(model, one[0], z[0, :1], log_q[0, 0])
    begin = time.perf_counter()
    log_w = np.array(
        [[float(weigh(model, x, z[k, i : i + 1], log_q[k, i])) for k in range(draws)] for i, x in enumerate(one)]
    )
    seconds = time.perf_counter() - begin
    return np.logaddexp.reduce(log_w, axis=1) - np.log(draws), seconds


def main(argv: list[str]) -> None:
    """Measure, print, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--images", type=int, default=32, help="images that are scored by importance weights")
    parser.add_argument("--draws", type=int, default=DRAWS, help="importance samples of each")
    parser.add_argument("--only", default="", help="configurations whose name holds this; writes nothing")
    options, begin = parser.parse_args(argv), time.monotonic()
    rows = steps(options.rounds, options.only)
    if options.only:
        return
    vq = against_plain(options.rounds)
    iw = weights(options.images, options.draws, max(3, options.rounds // 3))
    hours = iw["seconds"] / iw["images"] * 10_000 / 3600
    lines = [
        f"{iw['draws']:,} importance samples of {iw['images']:,} images: {iw['ratio']:.2f} x the decoder's products, "
        f"of processor time {iw['processor_ratio']:.2f} x "
        f"({iw['seconds']:.1f} s; 10,000 images {hours:.2f} h), {iw['loop_ratio']:.0f} x faster than a compiled call "
        f"a draw, values {iw['apart_nats']:.1e} nats apart, temporary memory "
        + ", ".join(f"{m:.0f} MiB for {n:,} draws" for n, m in iw["temporary_mib"].items()),
        f"VQ over the plain step: {vq['median_ratio']:.2f} x [{vq['quartiles'][0]:.2f}, {vq['quartiles'][1]:.2f}]",
        "step over its own matrix products, fastest times, median and quartiles of the ratio over rounds:",
        *(line(name, row) for name, row in rows.items()),
    ]
    measured = {"steps": rows, "vq_over_plain": vq, "importance_weights": iw}
    write(store.RESULTS / "parts.json", __file__, argv, lines, measured, begin)
