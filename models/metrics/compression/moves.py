"""The order in which the parts of a model are coded, and why some models cannot.

An example costs -log2 p(x|z) - log2 p(z) bits, of which -log2 q(z|x) come back where z is drawn with bits that are on
the stack already: in expectation the negative ELBO (Hinton & van Camp 1993; Townsend et al. 2019, BB-ANS).
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from models.distributions import CrossEntropy, Normal, Sequence
from models.distributions.sequence import END, until_end
from models.metrics.compression.stack import LatticeNormals, SymbolTable
from models.metrics.subject import Subject
from models.posteriors.chain import TopDownByExample
from models.posteriors.gumbel import Relaxed
from models.priors.chain import TopDown
from models.priors.codes import UniformCodes
from models.priors.deeper import Inner
from models.priors.in_turn import InTurn

Known = Mapping[str, Array]  # symbols by name, (group, values)


class Move(NamedTuple):
    """One part of an example: popped ("pop", bits come back), pushed ("push"), or computed ("set") when encoding.

    params(model, known) is its distribution given the symbols `given`; of what is set, its symbols. `in_turn`: the
    number of its values where each is given the ones before it, so that decoding takes them one at a time; else 0.
    """

    name: str
    how: str
    given: tuple[str, ...]
    params: Callable[[Any, Known], Any]
    in_turn: int = 0


def example(model: Any, symbols: Array) -> Array:
    """Return examples as the model sees them: levels k / (n - 1), or symbols."""
    values = symbols.reshape(-1, *model.shape)
    top = top_level(model)
    return values / top if top else values.astype(float)


def probabilities(model: Any) -> Any:
    """Return the shapes of p(x|z) of one example."""
    return jax.eval_shape(lambda m: m.decode(jnp.zeros((1, m.latent))), model)


def top_level(model: Any) -> int:
    """Return n - 1 for levels k / (n - 1), 0 for symbols."""
    p = probabilities(model)
    return 0 if getattr(p, "symbolic", False) else jax.eval_shape(lambda d: d.log_table(), p).shape[-1] - 1


def moves_of(model: Any, step: float) -> list[Move]:
    """Return the moves of encoding, in order; decoding takes them backwards, pushing what was popped.

    step: width of the lattice that continuous codes lie on.
    """
    code = lambda known, names=("z",): jnp.concatenate([known[n] * step for n in names], axis=1)
    posterior = lambda m, known: m.encode(example(m, known["x"]))
    if hasattr(model.posterior_module, "lookup"):
        return _chosen(model, posterior)

    def x_given(*names: str) -> Move:
        return _written(model, names, lambda m, known: m.decode(code(known, names)))

    if isinstance(model.posterior_module, TopDownByExample):
        return _levels(model, posterior, x_given, step)
    moves = [Move("z", "pop", ("x",), lambda m, known: _normals(posterior(m, known))), x_given("z")]
    if isinstance(model.prior_module, Inner):  # Bit-Swap (Kingma et al. 2019): x is on the stack before w is drawn
        inner = lambda m: m.prior_module
        return [
            *moves,
            Move("w", "pop", ("z",), lambda m, known: _normals(inner(m).encode(code(known)))),
            Move("z", "push", ("w",), lambda m, known: _normals(inner(m).decode(code(known, ("w",))))),
            Move("w", "push", (), lambda m, known: _normals(inner(m).prior())),
        ]
    return [*moves, Move("z", "push", (), lambda m, known: _normals(m.prior()))]


def _levels(model: Any, posterior: Any, x_given: Callable[..., Move], step: float) -> list[Move]:
    """Return the moves of a hierarchy drawn from the top down (as Townsend et al. 2020, HiLLoC)."""
    count = len(model.posterior_module.levels.groups)
    names = tuple(f"z{i}" for i in range(count))

    def level(chain: Any, i: int, known: Known) -> LatticeNormals:
        rows = next(iter(known.values())).shape[0] if known else 1
        above = jnp.concatenate([jnp.zeros((rows, 0)), *(known[n] * step for n in names[:i])], axis=1)
        return _normals(chain.net.level(i, above, chain.context))

    pops = [
        Move(n, "pop", ("x", *names[:i]), lambda m, known, i=i: level(posterior(m, known), i, known))
        for i, n in enumerate(names)
    ]
    pushes = [Move(n, "push", names[:i], lambda m, known, i=i: level(m.prior(), i, known)) for i, n in enumerate(names)]
    return [*pops, x_given(*names), *reversed(pushes)]


def _chosen(model: Any, posterior: Any) -> list[Move]:
    """Return the moves of codes that are choices: set by the example, or drawn where they have probabilities."""
    random = isinstance(jax.eval_shape(lambda m: m.encode(jnp.zeros((1, *m.shape))), model), Relaxed)
    if random:
        first = Move("c", "pop", ("x",), lambda m, known: SymbolTable(jax.nn.log_softmax(posterior(m, known).logits)))
    else:
        first = Move("c", "set", ("x",), lambda m, known: posterior(m, known).indices)
    x = _written(model, ("c",), lambda m, known: m.decode(m.posterior_module.lookup(known["c"])))
    if isinstance(jax.eval_shape(lambda m: m.prior(), model), InTurn):

        def entries(m: Any, known: Known) -> SymbolTable:
            hot = jax.nn.one_hot(known["c"], m.posterior_module.size)
            return SymbolTable(jax.nn.log_softmax(m.prior_module.net(hot)))

        return [first, x, Move("c", "push", ("c",), entries, in_turn=model.posterior_module.places)]

    def alike(m: Any, known: Known) -> SymbolTable:
        book = m.posterior_module
        return SymbolTable(jnp.zeros((1, book.places, book.size)))

    return [first, x, Move("c", "push", (), alike)]


def _written(model: Any, names: tuple[str, ...], p: Callable[[Any, Known], Any]) -> Move:
    """Return the move of the example, p(model, known) given codes of these names; of symbols in turn one by one."""
    if not isinstance(probabilities(model), Sequence):
        return Move("x", "push", names, lambda m, known: _table(p(m, known)))

    def in_turn(m: Any, known: Known) -> SymbolTable:
        written = p(m, known)
        log_p = jax.nn.log_softmax(written.given(known["x"]))
        if written.ends:  # what follows the end is padding: 0 for certain, and free
            certain = jnp.where(jnp.arange(log_p.shape[-1]) == END, 0.0, -jnp.inf)
            log_p = jnp.where(until_end(known["x"])[..., None], log_p, certain[None, None])
        return SymbolTable(log_p)

    return Move("x", "push", (*names, "x"), in_turn, in_turn=math.prod(model.shape))


def _normals(q: Normal) -> LatticeNormals:
    return LatticeNormals(q.mean, jnp.broadcast_to(jnp.exp(q.log_std), q.mean.shape))


def _table(p: Any) -> SymbolTable:
    log_p = p.log_table()
    return SymbolTable(log_p.reshape(log_p.shape[0], -1, log_p.shape[-1]))


def why_not(subject: Subject) -> str:
    """Return why a model and examples cannot be compressed, in one line; empty where they can."""
    model = subject.model
    if model.classes:  # first: without labels at hand such a model does not encode
        return "a model with labels needs them to decode, and they are not written: use labels none"
    if subject.posterior is None:
        return "the model has no encoder, so there are no codes to write"
    if hasattr(model.prior_module, "classes"):
        return "the prior is one for each label, and labels are not written: use prior standard"
    if subject.test.batch.mask is not None:
        return "values are missing (mask): there is nothing to write for them"
    p = probabilities(model)
    if not hasattr(p, "log_table") and not (isinstance(p, Sequence) and p.symbolic):
        return (
            "the decoder gives no table of probabilities for every value (a density, or counts): use likelihood "
            "bernoulli, tokens or one of levels"
        )
    if isinstance(p, CrossEntropy) and ((subject.test.batch.x != 0) & (subject.test.batch.x != 1)).any():
        return "bits cannot stand for grey values: use --binarise, or a likelihood of levels"
    prior = jax.eval_shape(lambda m: m.prior(None, jax.random.key(0)), model)
    if subject.discrete:
        known = isinstance(prior, UniformCodes | InTurn)
        return "" if known else "its prior over codes cannot be coded place by place: use prior codes or autoregressive"
    q, p_module = model.posterior_module, model.prior_module
    if isinstance(q, TopDownByExample) and isinstance(p_module, TopDown) and q.levels.groups == p_module.levels.groups:
        return ""
    if isinstance(q, TopDownByExample) or isinstance(p_module, TopDown):
        return "a hierarchy is coded level by level: use chain, with equal groups, for both"
    if not isinstance(subject.posterior, Normal):
        return "its codes cannot be drawn unit by unit on a lattice: use posterior normal, chain, vq, fsq or gumbel"
    if isinstance(prior, Normal) or isinstance(p_module, Inner):
        return ""
    return "its prior cannot be coded unit by unit: use prior standard, deeper or chain"
