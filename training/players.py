"""The second player: networks of terms that are trained against the model, in the same step."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Key

from models.batch import Pass, Sizes
from models.config import ConfigError, config, kind, setting
from training.optimizers import Adam, AnyOptimizer, Constant, Updates, build

Rivals = Any  # {term kind: (network, state of its optimizer)}, or () without such terms
Moved = Callable[[Pass], Rivals]  # what they are after their turns against a pass


def no_rivals(done: Pass) -> Rivals:
    """Return the networks of a run without any."""
    return ()


@config
class Opponent:
    """How the networks of adversarial terms are trained: before the model's own move, at a constant rate."""

    optimizer: AnyOptimizer = Adam()
    """Their optimizer."""
    lr: float = setting(1e-3, above=0)
    """Their learning rate."""
    turns: int = setting(1, at_least=1)
    """Their updates per update of the model."""

    def transformation(self) -> optax.GradientTransformation:
        """Return the optax transformation."""
        return build(self.optimizer, Constant(), Updates(), self.lr, 1)


def with_networks(terms: tuple[Any, ...]) -> dict[str, Any]:
    """Return the terms that own a network, by their kind."""
    return {kind(type(term)): term for term in terms if hasattr(term, "opponent")}


def check_players(terms: tuple[Any, ...], opponent: Opponent) -> None:
    """Raise ConfigError for an opponent that was set up but has nobody to train."""
    (ours, kind_of), (usual, of_usual) = (jax.tree.flatten(one) for one in (opponent, Opponent()))
    number = lambda leaf: isinstance(leaf, int | float)  # not what is traced or a row of a sweep
    moved = any(number(a) and a != b for a, b in zip(ours, usual, strict=False))
    if (moved or str(kind_of) != str(of_usual)) and not with_networks(terms):
        raise ConfigError("opponent trains networks of adversarial terms, here are none: add --terms adversarial")


def make_rivals(terms: tuple[Any, ...], opponent: Opponent, sizes: Sizes, latent: int, key: Key[Array, ""]) -> Rivals:
    """Return a fresh network and optimizer state for every term that has one; () without such terms."""
    rivals = {}
    for number, (name, term) in enumerate(with_networks(terms).items()):
        net = term.build(sizes, latent, nnx.Rngs(jax.random.fold_in(key, number)))
        rivals[name] = (net, opponent.transformation().init(nnx.state(net, nnx.Param)))
    return rivals or ()


def network(rivals: Rivals, term: Any) -> Any:
    """Return the network that a term is called with, or None."""
    name = kind(type(term))
    return rivals[name][0] if name in rivals else None


def mean_loss(graphdef: Any, rest: Any, term: Any, done: Pass, params: Any) -> Array:
    """Return what a term's network minimises, over the batch."""
    return jnp.mean(term.opponent(done, nnx.merge(graphdef, params, rest, copy=True)))


def play(
    terms: tuple[Any, ...],
    opponent: Opponent,
    rivals: Rivals,
    done: Pass,
    make_pass: Callable[[Key[Array, ""]], Pass],
    key: Key[Array, ""],
) -> Rivals:
    """Return the networks after their turns against the model as it stands, without a gradient in the model.

    The first turn is against `done`, the pass of the model's own move; each further one against `make_pass(key)`, the
    batch sent through a copy of the model by a key of its own. Nobody moves where there are none.
    """
    if not rivals:
        return rivals
    optimizer, players = opponent.transformation(), with_networks(terms)
    for turn in range(opponent.turns):
        met = jax.tree.map(jax.lax.stop_gradient, make_pass(jax.random.fold_in(key, turn)) if turn else done)
        moved = {}
        for name, (net, opt_state) in rivals.items():
            graphdef, params, rest = nnx.split(net, nnx.Param, ...)

            loss = functools.partial(mean_loss, graphdef, rest, players[name], met)
            slope = jax.lax.stop_gradient(jax.grad(loss)(params))  # also past what no tree of a pass shows
            updates, opt_state = optimizer.update(slope, opt_state, params)
            moved[name] = (nnx.merge(graphdef, optax.apply_updates(params, updates), rest, copy=True), opt_state)
        rivals = moved
    return rivals
