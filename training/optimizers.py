"""Optimizers and learning-rate schedules as configs; `build` turns them into one optax transformation.

Hyperparameters are float fields, so they are traced: a sweep over `optimizer.b1` or `schedule.final`
rides in one program. Sources: SGD with (Nesterov) momentum, Sutskever et al. 2013; AdaGrad, Duchi et al.
2011; RMSprop, Hinton 2012, lecture 6e; Adam, Kingma & Ba 2015; AdamW, Loshchilov & Hutter 2019; Lion,
Chen et al. 2023; cosine decay, Loshchilov & Hutter 2017.
"""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from models.config import ConfigError, config, nearest, setting
from models.terms.weights import is_kernel

Learning = Callable[[Int[Array, ""]], Float[Array, ""]]


@config
class SGD:
    """Stochastic gradient descent: w -= lr * g."""


@config
class Momentum:
    """Heavy ball: v = momentum * v + g; w -= lr * v (Nesterov's form looks one step ahead)."""

    momentum: float = setting(0.9, at_least=0, below=1)
    """Share of the last step that is kept."""
    nesterov: bool = False
    """Use Nesterov's form."""


@config
class AdaGrad:
    """w -= lr * g / sqrt(sum of squared g + eps)."""

    initial: float = setting(0.1, at_least=0)
    """Start of the accumulated squares."""
    eps: float = setting(1e-7, above=0)
    """Added to the sum of squares, inside the square root."""


@config
class RMSprop:
    """w -= lr * g / sqrt(running mean of squared g + eps)."""

    decay: float = setting(0.9, at_least=0, below=1)
    """Decay of the running mean of squares."""
    eps: float = setting(1e-8, above=0)
    """Added to the mean of squares, inside the square root."""


@config
class Adam:
    """w -= lr * m / (sqrt(v) + eps) with bias-corrected running means m of g and v of g^2."""

    b1: float = setting(0.9, at_least=0, below=1)
    """Decay of the mean of gradients."""
    b2: float = setting(0.999, at_least=0, below=1)
    """Decay of the mean of squared gradients."""
    eps: float = setting(1e-8, above=0)
    """Added to the denominator."""


@config
class AdamW:
    """Adam with decoupled weight decay: w -= lr * (adam step + weight_decay * w), the decay of kernels alone."""

    b1: float = setting(0.9, at_least=0, below=1)
    """Decay of the mean of gradients."""
    b2: float = setting(0.999, at_least=0, below=1)
    """Decay of the mean of squared gradients."""
    eps: float = setting(1e-8, above=0)
    """Added to the denominator."""
    weight_decay: float = setting(1e-4, at_least=0)
    """Strength of the decay, times the learning rate; kernels alone: no biases, norms' or likelihoods' scales."""


@config
class Lion:
    """w -= lr * sign(interpolated momentum), with decoupled weight decay of kernels alone."""

    b1: float = setting(0.9, at_least=0, below=1)
    """Interpolation between momentum and gradient inside the sign."""
    b2: float = setting(0.99, at_least=0, below=1)
    """Decay of the momentum."""
    weight_decay: float = setting(1e-3, at_least=0)
    """Strength of the decay, times the learning rate; kernels alone: no biases, norms' or likelihoods' scales."""


@config
class Optax:
    """Any optimizer of optax by its function's name, with its own defaults; weight decay acts on kernels alone."""

    name: str = "nadam"
    """Name of a function in optax that takes a learning rate, such as nadam, adabelief, lamb, yogi."""

    def check(self) -> None:
        """Raise ConfigError when optax has no such optimizer, naming the nearest."""
        if callable(getattr(optax, self.name, None)) and self.name in NO_SCHEDULE:
            raise ConfigError(f"optimizer.name: optax's {self.name} takes no learning rate that changes: use another")
        if self.name not in optax_names():
            close = ", ".join(nearest(self.name, optax_names()))
            raise ConfigError(f"optimizer.name: optax has no optimizer {self.name!r}; nearest: {close}")


AnyOptimizer = Adam | AdamW | SGD | Momentum | AdaGrad | RMSprop | Lion | Optax


@config
class Constant:
    """lr at every step."""


@config
class Exponential:
    """lr * final ** (step / steps): reaches `final` times lr at the end."""

    final: float = setting(0.01, above=0, at_most=1)
    """Factor of the learning rate at the last step."""


@config
class Steps:
    """lr * factor ** floor(step / steps * (drops + 1)): falls by `factor` at equal intervals."""

    factor: float = setting(0.1, above=0, at_most=1)
    """Factor of each drop."""
    drops: int = setting(2, at_least=1)
    """How many drops, equally spaced inside the run."""


@config
class Cosine:
    """lr * (final + (1 - final) * (1 + cos(pi * step / steps)) / 2)."""

    final: float = setting(0.0, at_least=0, at_most=1)
    """Factor of the learning rate at the last step."""


@config
class Tripling:
    """lr * round(10 ** (1 - i / 7), 1) / 10 in stage i = 0, 1, ..., each three times as long as the one before.

    Burda et al. 2016, section 5: 8 stages of 3 ** i epochs, 3,280 in all, from lr 1e-3. In a run of as many epochs as
    its stages have, (3 ** stages - 1) / 2, they change at the ends of epochs 1, 4, 13, 40, 121, 364 and 1,093.
    """

    stages: int = setting(8, at_least=1, at_most=8)
    """Stages of the run: the first so many of the paper's 8."""


AnySchedule = Constant | Exponential | Steps | Cosine | Tripling


@config
class Updates:
    """How a gradient becomes an update, besides the optimizer itself."""

    warmup: float = setting(0.0, at_least=0, at_most=1)
    """Share of all updates, before those of the schedule, in which the rate rises in N equal steps from lr/N to lr."""
    clip: float = setting(0.0, static=True, at_least=0)
    """Largest global norm of a gradient; larger ones are scaled down to it (0: no clipping)."""
    accumulate: int = setting(1, at_least=1)
    """Batches whose gradients are averaged into one update."""
    ema: float = setting(0.0, static=True, at_least=0, below=1)
    """Decay per update of the running mean (bias-corrected) of the parameters, used for evaluation (0: none)."""
    decoder_every: int = setting(1, at_least=1)
    """Batches per move of all but encoder and posterior, at first, against idle codes (He et al. 2019; 1: no wait)."""
    decoder_waits: int = setting(1000, at_least=1)
    """Over how many batches it waits, where decoder_every is above 1; `--metrics aggregate` says what codes hold."""


NO_SCHEDULE = ("optimistic_adam", "rprop", "sm3")  # take a number as learning rate, no function of the step


def optax_names() -> list[str]:
    """Return the names of all optax functions that need a `learning_rate`, perhaps a schedule, and nothing else."""
    names = []
    for name, function in vars(optax).items():
        if name.startswith(("_", "scale_by_")) or not callable(function) or inspect.isclass(function):
            continue
        try:
            parameters = inspect.signature(function).parameters.values()
        except ValueError:  # a builtin without a signature
            continue
        required = [p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
        if required == ["learning_rate"] and name not in NO_SCHEDULE:
            names.append(name)
    return names


def learning_rate(schedule: AnySchedule, lr: Array | float, steps: int, warmup: Array | float = 0.0) -> Learning:
    """Return step -> learning rate for a run of `steps` updates; all else may be traced.

    The first N = warmup * steps updates rise from lr / N to lr, then the schedule runs its course over the rest.
    """

    def factor(t: Float[Array, ""]) -> Float[Array, ""] | float:
        match schedule:
            case Constant():
                return 1.0
            case Exponential(final=final):
                return final**t
            case Steps(factor=drop, drops=drops):
                return drop ** jnp.floor(t * (drops + 1))
            case Cosine(final=final):
                return final + (1 - final) * 0.5 * (1 + jnp.cos(jnp.pi * t))
            case Tripling(stages=stages):
                ends = jnp.asarray([(3**i - 1) / (3**stages - 1) for i in range(1, stages)])
                factors = jnp.asarray([round(10 ** (1 - i / 7), 1) / 10 for i in range(stages)])
                return factors[jnp.sum(t >= ends * (1 - 2e-7))]  # less a rounding of t: a stage ends with an epoch

    def at(step: Int[Array, ""]) -> Float[Array, ""]:
        rising = warmup * steps
        after = jnp.clip((step - rising) / jnp.maximum(steps - rising, 1.0), 0.0, 1.0)
        t = jnp.where(rising > 0, after, jnp.minimum(step / steps, 1.0))  # the same, but for the last bit
        rise = jnp.minimum(1.0, (step + 1) / jnp.maximum(rising, 1.0))
        return lr * rise * factor(t)

    return at


def kernels(params: Any) -> Any:
    """Return the tree of `params` with True at every kernel: what weight decay acts on."""
    return jax.tree_util.tree_map_with_path(lambda path, _: is_kernel(path), params)


def _optimizer(cfg: AnyOptimizer, rate: Learning) -> optax.GradientTransformation:
    match cfg:
        case SGD():
            return optax.sgd(rate)
        case Momentum():
            return optax.sgd(rate, cfg.momentum, cfg.nesterov)
        case AdaGrad():
            return optax.adagrad(rate, cfg.initial, cfg.eps)
        case RMSprop():
            return optax.rmsprop(rate, cfg.decay, cfg.eps)
        case Adam():
            return optax.adam(rate, cfg.b1, cfg.b2, cfg.eps)
        case AdamW():
            return optax.adamw(rate, cfg.b1, cfg.b2, cfg.eps, weight_decay=cfg.weight_decay, mask=kernels)
        case Lion():
            return optax.lion(rate, cfg.b1, cfg.b2, weight_decay=cfg.weight_decay, mask=kernels)
        case Optax():
            cfg.check()
            function = getattr(optax, cfg.name)
            return function(rate, mask=kernels) if "mask" in inspect.signature(function).parameters else function(rate)


def build(
    cfg: AnyOptimizer, schedule: AnySchedule, updates: Updates, lr: Array | float, steps: int
) -> optax.GradientTransformation:
    """Return the whole transformation: clip, optimizer at the scheduled rate, accumulation.

    `steps` counts batches; with accumulation the schedule runs over `steps / accumulate` updates.
    """
    updates_in_run = max(1, steps // updates.accumulate)
    rate = learning_rate(schedule, lr, updates_in_run, updates.warmup)
    chain = [_optimizer(cfg, rate)]
    if updates.clip:
        chain.insert(0, optax.clip_by_global_norm(updates.clip))
    transformation = optax.chain(*chain) if len(chain) > 1 else chain[0]
    if updates.accumulate > 1:
        multi = optax.MultiSteps(transformation, updates.accumulate)
        return optax.GradientTransformation(multi.init, multi.update)
    return transformation


def waiting(cfg: Updates, step: Int[Array, ""], updates: Any) -> Any:
    """Return the updates with those of decoder, likelihood and prior at 0, but for every `decoder_every`-th step.

    The aggressive encoder of He et al. 2019 (Lagging Inference Networks, algorithm 1) with a fixed number of steps in
    place of a test on the mutual information. The optimizer sees all gradients all the time.
    """
    if cfg.decoder_every == 1:
        return updates
    moves = (step >= cfg.decoder_waits) | (step % cfg.decoder_every == cfg.decoder_every - 1)
    own = ("encoder", "posterior_module", "classifier")
    keep = lambda path, update: update if path[0].key in own else jnp.where(moves, update, 0)
    return jax.tree_util.tree_map_with_path(keep, updates)


def next_mean(updates: Updates, state: Any, params: Any) -> Any:
    """Return the running mean after a batch; it moves where the batch completes an update, and stands still else."""
    done, rest = jnp.divmod(state.step + 1, updates.accumulate)
    moved = running_mean(state.ema, params, updates.ema, done)
    return moved if updates.accumulate == 1 else jax.tree.map(lambda m, e: jnp.where(rest == 0, m, e), moved, state.ema)


def running_mean(mean: Any, new: Any, decay: float, updates: Any) -> Any:
    """Return the mean of all parameters so far, those of k updates ago weighted by decay ** k (Polyak averaging).

    updates: how many there were, this one included, 0 for none yet. The weights are normalised, so the random initial
    parameters, which `mean` holds before the first update, have none (Adam's correction, in running form).
    """
    share = (1 - decay) / jnp.where(updates > 0, -jnp.expm1(updates * jnp.log(decay)), 1.0)
    return jax.tree.map(lambda m, p: m + share.astype(p.dtype) * (p - m), mean, new)


def together(grads: Any) -> Any:
    """Return the gradients, each made to depend on all: no parameter changes before the last one is known.

    Otherwise XLA cannot prove that a kernel's last use precedes its update, and copies it at every step.
    """
    nothing = 0 * jnp.stack([jnp.ravel(g)[0] for g in jax.tree.leaves(grads) if g.size]).sum()
    return jax.tree.map(lambda g: g + nothing.astype(g.dtype), grads)
