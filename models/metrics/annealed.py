"""log p(x) by annealed importance sampling: bounds from below on any data, from above where exact codes are known."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from models.autoencoder import Autoencoder
from models.batch import Batch, as_batch, repeated
from models.codes import prior_codes
from models.config import ConfigError

TARGET = 0.65  # acceptance that the step size is adapted to (Neal 2011, section 4.4)
RATE = 1.02  # factor of the step size after an acceptance


class Schedule(NamedTuple):
    """How a chain goes from prior to posterior.

    temperatures: number of steps from p(z) to p(z) p(x|z). leapfrog: steps of each trajectory. chains: for each
    example. step: first step size, before it is adapted.
    """

    temperatures: int = 200
    leapfrog: int = 5
    chains: int = 8
    step: float = 0.1


def annealed(
    model: Autoencoder, batch: Batch | Array, key: PRNGKeyArray, schedule: Schedule = Schedule(), exact: Any = None
) -> dict[str, Float[Array, " batch"]]:
    """Return annealed_lower_nats, E of which is at most log p(x), and with `exact` annealed_upper_nats, at least.

    Forward (Neal 2001): z ~ p(z), then for rising powers b of the likelihood one Hamiltonian step that leaves
    p(z) p(x|z)^b as it is; log w = Σ (b_t - b_t-1) log p(x|z_t-1); log mean_chains w. Backward (Grosse et al. 2015):
    the same steps in reverse from exact draws of p(z|x), (batch, latent), known for data that the model itself made;
    minus log mean 1/w. Powers are a sigmoid's, closest at both ends (Wu et al. 2017, section 3.1). Step sizes of each
    example and power are found by a pilot run of their own and fixed then, so that both bounds are exact in
    expectation. Raises ConfigError for a schedule without steps or chains.
    """
    if min(schedule.temperatures, schedule.leapfrog, schedule.chains) < 1 or schedule.step <= 0:
        raise ConfigError(
            f"annealing needs at least 1 temperature, leapfrog step and chain, a step above 0: {schedule}"
        )
    batch = as_batch(batch)
    n = len(batch.x)
    many = repeated(Batch(batch.x, model.seen_label(batch), batch.mask), schedule.chains)
    likelihood = lambda z: model.decode(z, None, many.label).log_prob(many.x, many.mask)
    prior = model.prior(many.label, jax.random.key(0))
    rise = jax.nn.sigmoid(jnp.linspace(-4.0, 4.0, schedule.temperatures + 1))
    power = (rise - rise[0]) / (rise[-1] - rise[0])
    k_start, k_pilot, k_forward, k_backward = jax.random.split(key, 4)
    start = prior_codes(model, k_start, schedule.chains * n, many.label)
    hmc = lambda z, b, size, k: _hamiltonian(prior.log_prob, likelihood, z, b, size, schedule.leapfrog, k)

    def pilot(carry: Any, t: Array) -> Any:
        z, size = carry
        z, accepted = hmc(z, power[t], size, jax.random.fold_in(k_pilot, t))
        mean = jnp.mean(accepted.reshape(schedule.chains, n), axis=0)
        step = jnp.where(mean > TARGET, RATE, 1 / RATE) ** 3
        return (z, size * jnp.tile(step, schedule.chains)), size

    sizes = jax.lax.scan(pilot, (start, jnp.full(len(start), schedule.step)), jnp.arange(1, len(power)))[1]

    def forward(carry: Any, t: Array) -> Any:
        z, log_w = carry
        log_w = log_w + (power[t] - power[t - 1]) * likelihood(z)
        return (hmc(z, power[t], sizes[t - 1], jax.random.fold_in(k_forward, t))[0], log_w), None

    zero = jnp.zeros(len(start))
    steps = jnp.arange(1, len(power))
    again = prior_codes(model, jax.random.fold_in(k_start, 1), schedule.chains * n, many.label)
    log_w = jax.lax.scan(forward, (again, zero), steps)[0][1].reshape(schedule.chains, n)
    chains = jnp.log(float(schedule.chains))
    out = {"annealed_lower_nats": jax.nn.logsumexp(log_w, axis=0) - chains}
    if exact is None:
        return out

    def backward(carry: Any, t: Array) -> Any:
        z, log_w = carry
        z = hmc(z, power[t], sizes[t - 1], jax.random.fold_in(k_backward, t))[0]
        return (z, log_w - (power[t] - power[t - 1]) * likelihood(z)), None

    log_v = jax.lax.scan(backward, (repeated(exact, schedule.chains), zero), steps[::-1])[0][1]
    return out | {"annealed_upper_nats": chains - jax.nn.logsumexp(log_v.reshape(schedule.chains, n), axis=0)}


def _hamiltonian(
    log_prior: Any, log_likelihood: Any, z: Array, power: Array, size: Array, steps: int, key: PRNGKeyArray
) -> tuple[Array, Array]:
    """Return the chains after one trajectory of leapfrog steps each, and which proposals were accepted.

    Target: p(z) p(x|z)^power, by chain (rows of z), mass 1, step `size` of each chain (Neal 2011, section 3).
    """
    log_target = lambda z: log_prior(z) + power * log_likelihood(z)
    gradient = jax.grad(lambda z: jnp.sum(log_target(z)))
    k_momentum, k_accept = jax.random.split(key)
    momentum = jax.random.normal(k_momentum, z.shape, z.dtype)
    size = size[:, None].astype(z.dtype)

    def leap(carry: Any, _: Any) -> Any:
        at, speed = carry
        at = at + size * speed
        return (at, speed + size * gradient(at)), None

    (new, speed), _ = jax.lax.scan(leap, (z, momentum + 0.5 * size * gradient(z)), length=steps)
    speed = speed - 0.5 * size * gradient(new)
    energy = lambda z, v: log_target(z) - 0.5 * jnp.sum(v * v, axis=1)
    gain = energy(new, speed) - energy(z, momentum)
    accepted = jnp.log(jax.random.uniform(k_accept, gain.shape)) < gain  # not where gain is not a number
    return jnp.where(accepted[:, None], new, z), accepted


def simulated(model: Autoencoder, key: PRNGKeyArray, count: int) -> tuple[Array, Array]:
    """Return x (count, *shape) that the model itself makes, and the codes that made it: exact draws of p(z|x)."""
    k_code, k_value = jax.random.split(key)
    z = prior_codes(model, k_code, count)
    return model.decode(z).sample(k_value), z
