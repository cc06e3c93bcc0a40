"""Curvature: Gauss-Newton with conjugate gradients, L-BFGS and Adam on a deep autoencoder, at equal cost.

Claim: At the cost of the same number of gradients, methods that use curvature fit the training examples no better than
    Adam, and end with a lower test error; early stopping takes most of that advantage away.
Source: Martens 2010 (Hessian-free: damping by the quality of the quadratic model); Liu & Nocedal 1989 (L-BFGS). The
    comparison is this project's; the published figures are of MNIST and of other budgets.
Command: python -m experiments curvature
Cost: 4 methods, 3 seeds, 64-128-64-32-8 with tanh on digits; 2,000 gradients of all training examples each.
Expected: training and test squared error: Adam 0.197 and 1.09 (its best 0.76), Gauss-Newton 0.45 and 0.70, L-BFGS 0.35
    and 0.69 (a prototype of this project, equal time).
Caveats: cost is counted in gradients of the whole training set: a Gauss-Newton product is 5/3 (five forward passes to
    three), a value 1/3. Time differs from it: batches of Adam are small. One learning rate; the share of examples in a
    Gauss-Newton product and the first damping are the best of a few, by the training error of one seed at half of the
    budget: with all examples in every product and λ = 0.1 it is three times behind. The best point
    is chosen on 147 validation images, so it is noisy. Products and gradients are those of `grads`
    (`gauss_newton_product`, `value_and_gradient`).
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.flatten_util import ravel_pytree
from jax.scipy.sparse.linalg import cg

import grads
from experiments.reporting.plots import headline
from experiments.running.claims import Claim
from experiments.running.study import Case, Data, Study
from experiments.running.table import Profile
from models import Autoencoder, Dense, Model, Sizes, posteriors
from models.likelihoods import NormalLikelihood
from training.pictures.drawing import figure

PRODUCT, VALUE = 5 / 3, 1 / 3  # cost in gradients: jvp 2 and vjp 3 passes, a gradient 3, a value 1


class CurvatureProtocol(NamedTuple):
    """What profiles change."""

    dataset: str = "digits"
    hidden: tuple[int, ...] = (128, 64, 32)
    latent: int = 8
    budget: float = 2000.0
    """gradients of all training examples, or what costs as much"""
    points: int = 40
    """measurements on the way"""
    batch: int = 128
    lr: float = 1e-3
    inner: int = 50
    """steps of conjugate gradients"""
    share: float = 0.25
    """of the training examples in a Gauss-Newton product, drawn anew for every step"""
    damping: float = 3.0
    """λ at the start"""


class Problem(NamedTuple):
    """Squared error of a network as a function of its weights in one vector."""

    outputs: Callable[[jax.Array, jax.Array], jax.Array]
    x: jax.Array
    protocol: CurvatureProtocol

    def error(self, w: jax.Array, x: jax.Array) -> jax.Array:
        """Return the mean over examples of the squared error summed over values."""
        return distance(self.outputs(w, x), x)

    def product(self, w: jax.Array, v: jax.Array, x: jax.Array) -> jax.Array:
        """Return G v, G the Gauss-Newton matrix of the error on these examples."""
        return grads.gauss_newton_product(lambda w: self.outputs(w, x), lambda y: distance(y, x), w, v)


def distance(y: jax.Array, x: jax.Array) -> jax.Array:
    """Return the mean over examples of |y - x|²."""
    return jnp.mean(jnp.sum(jnp.square(y - x), axis=1))


Way = tuple[Callable[[jax.Array], Any], Callable[[jax.Array, Any, Any], tuple[jax.Array, Any, Any]]]
"""Start of a state from the weights; a step: (weights, state, key) -> (weights, state, cost in gradients)."""


def adam(problem: Problem, whole: bool) -> Way:
    """Return Adam on random batches, or on all training examples."""
    p, n = problem.protocol, len(problem.x)
    optimizer, size = optax.adam(p.lr), n if whole else min(p.batch, n)

    def step(w: jax.Array, state: Any, key: Any) -> Any:
        x = problem.x if whole else problem.x[jax.random.choice(key, n, (size,), replace=False)]
        change, state = optimizer.update(grads.gradient(problem.error)(w, x), state)
        return optax.apply_updates(w, change), state, size / n

    return optimizer.init, step


def lbfgs(problem: Problem) -> Way:
    """Return L-BFGS with 20 pairs and a zoom line search, on all training examples."""
    optimizer = optax.lbfgs(memory_size=20)
    error = lambda w: problem.error(w, problem.x)
    both = optax.value_and_grad_from_state(error)

    def step(w: jax.Array, state: Any, key: Any) -> Any:
        value, slope = both(w, state=state)
        change, state = optimizer.update(slope, state, w, value=value, grad=slope, value_fn=error)
        return optax.apply_updates(w, change), state, jnp.maximum(state[-1].info.num_linesearch_steps, 1.0)

    return optimizer.init, step


def gauss_newton(problem: Problem) -> Way:
    """Return damped Gauss-Newton steps by conjugate gradients (Martens 2010, sections 4.1, 4.3 and 4.8).

    (G + λ I) s = -gradient, from the last s times 0.95; the gradient is that of all examples, G of a share of them. λ
    times 3/2 where the error fell by less than a quarter of what the quadratic model says, times 2/3 above three
    quarters; a step that raises the error is not taken.
    """
    p, n = problem.protocol, len(problem.x)
    inner, few = p.inner, max(1, round(p.share * n))

    def step(w: jax.Array, state: Any, key: Any) -> Any:
        last, damping = state
        value, slope = grads.value_and_gradient(problem.error)(w, problem.x)
        some = problem.x[jax.random.choice(key, n, (few,), replace=False)]
        damped = lambda v: problem.product(w, v, some) + damping * v
        move = cg(damped, -slope, x0=0.95 * last, tol=0.0, maxiter=inner)[0]
        fall = problem.error(w + move, problem.x) - value
        ratio = fall / (slope @ move + 0.5 * (move @ damped(move)))
        factor = jnp.where(ratio < 0.25, 1.5, jnp.where(ratio > 0.75, 1 / 1.5, 1.0))
        good = fall < 0
        state = (jnp.where(good, move, 0), damping * jnp.where(good, factor, 1.5))
        return jnp.where(good, w + move, w), state, 1 + VALUE + PRODUCT * few / n * (inner + 2)

    return lambda w: (jnp.zeros_like(w), jnp.float32(p.damping)), step


WAYS: dict[str, Callable[[Problem], Way]] = {
    "Adam, batches": functools.partial(adam, whole=False),
    "Adam, all examples": functools.partial(adam, whole=True),
    "L-BFGS": lbfgs,
    "Gauss-Newton": gauss_newton,
}


def row(protocol: CurvatureProtocol, seed: int, data: Data, way: str) -> dict[str, Any]:
    """Return where a method ends, where it was best on the validation split, and its course."""
    parts = {name: jnp.asarray(data.x(name)) for name in ("train", "validation", "test")}
    course, top = fit(protocol, way, jax.random.key(seed), parts)
    cost, training, validation, test = (np.asarray(a) for a in course)
    best = int(np.nanargmin(validation))
    return {
        "train_error": training[-1],
        "test_error": test[-1],
        "stopped_test_error": test[best],
        "stopped_at_percent": 100 * cost[best] / protocol.budget,
        "top_curvature": float(top),
        "course": np.stack([cost, training, validation, test]),
    }


@functools.partial(jax.jit, static_argnums=(0, 1))
def fit(protocol: CurvatureProtocol, way: str, key: Any, parts: dict[str, jax.Array]) -> Any:
    """Return (cost, error of training, validation, test examples) on the way, and the largest eigenvalue of G."""
    k_start, k_steps, k_top = jax.random.split(key, 3)
    x = parts["train"]
    model = Autoencoder(
        Model(
            encoder=Dense(hidden=protocol.hidden, activation="tanh"),
            latent=protocol.latent,
            posterior=posteriors.PointPosterior(),
            likelihood=NormalLikelihood(),
        ),
        Sizes((x.shape[1],)),
        rngs=nnx.Rngs(k_start),
    )
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    start, tree = ravel_pytree(params)

    def outputs(w: jax.Array, x: jax.Array) -> jax.Array:
        model = nnx.merge(graph, tree(w), rest, copy=True)
        return model.decode(model.encode(x).mean).mean

    problem = Problem(outputs, x, protocol)
    init, step = WAYS[way](problem)

    def once(carry: Any) -> Any:
        w, state, cost, i = carry
        w, state, more = step(w, state, jax.random.fold_in(k_steps, i))
        return w, state, cost + more, i + 1

    def until(carry: Any, goal: Any) -> Any:
        carry = jax.lax.while_loop(lambda c: c[2] < goal, once, carry)
        return carry, (carry[2], *(problem.error(carry[0], parts[p]) for p in ("train", "validation", "test")))

    goals = protocol.budget * jnp.arange(1, protocol.points + 1) / protocol.points
    (w, *_), course = jax.lax.scan(until, (start, init(start), jnp.zeros(()), jnp.zeros((), jnp.int32)), goals)
    unit = lambda v: v / jnp.linalg.norm(v)
    power = lambda i, v: unit(problem.product(w, v, x))
    v = jax.lax.fori_loop(0, 30, power, unit(jax.random.normal(k_top, w.shape)))
    return course, v @ problem.product(w, v, x)


def courses(path: Path, record: dict[str, Any], arrays: Any) -> bool:
    """Draw training and test error of every method against the cost (all seeds)."""
    from matplotlib import colormaps

    with figure(path, 9.0, 4.0) as fig:
        for axes, (index, title) in zip(
            fig.subplots(1, 2, sharex=True), ((1, "training examples"), (3, "test examples")), strict=True
        ):
            for i, way in enumerate(w for w in WAYS if w in arrays):
                for seed, course in enumerate(arrays[way]["course"]):
                    label = way if seed == 0 and index == 1 else None
                    axes.plot(course[0], course[index], color=colormaps["tab10"](i), linewidth=1.0, label=label)
            axes.set(title=title, yscale="log", xlabel="cost, gradients of all training examples")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(lambda x, _: f"{x:.1g}" if f"{x:.1e}"[0] in "235" else "")
            axes.set(ylabel="squared error per image" if index == 1 else None)
        fig.legend(loc="outside center right", fontsize=8)
        headline(fig, record)
    return True


over = lambda way, a, b, other="Adam, batches": lambda rows: rows[way][a] / rows[other][b]
STUDY = Study(
    rows={way: Case(functools.partial(row, way=way)) for way in WAYS},
    protocol=CurvatureProtocol(),
    metric="test_error",
    columns=("train_error", "stopped_test_error", "stopped_at_percent", "top_curvature"),
    claims=(
        Claim(
            "test error, Gauss-Newton over Adam, at the end",
            over("Gauss-Newton", "test_error", "test_error"),
            high=1,
            expected=0.70 / 1.09,
        ),
        Claim(
            "test error, L-BFGS over Adam, at the end",
            over("L-BFGS", "test_error", "test_error"),
            high=1,
            expected=0.69 / 1.09,
        ),
        Claim(
            "training error, Gauss-Newton over Adam, at the end",
            over("Gauss-Newton", "train_error", "train_error"),
            1,
            expected=0.45 / 0.197,
        ),
        Claim(
            "test error, Gauss-Newton at the end over Adam stopped early",
            over("Gauss-Newton", "test_error", "stopped_test_error"),
            expected=0.70 / 0.76,
        ),
        Claim(
            "test error, L-BFGS stopped early over Adam stopped early",
            over("L-BFGS", "stopped_test_error", "stopped_test_error"),
        ),
    ),
    figures=(courses,),
    profiles={
        "smoke": Profile(1, {"budget": 8.0, "points": 2, "inner": 2}, differs="8 gradients"),
        "cpu": Profile(3),
        "paper": Profile(
            3, {"dataset": "mnist", "hidden": (1000, 500, 250), "latent": 30, "budget": 20_000.0, "batch": 1000}
        ),
    },
)
