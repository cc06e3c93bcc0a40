"""Labels as a second code: known for some examples, summed over for the rest."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from models.batch import Batch, Pass, as_batch, repeated
from models.config import ConfigError, config, setting
from models.distributions import sum_event
from models.objectives.passing import Result, Step, bound_terms, run, watched


@config
class SemiSupervised:
    """M2 (Kingma et al. 2014, equations 6 to 9): minus a bound on log p(x, y) or log p(x), and a classifier's loss.

    Known y: nll + kl - log p(y) - alpha log q(y|x). Unknown (-1): Σ_y q(y|x) (nll_y + kl_y - log p(y)) - H(q(y|x)).
    p(y) is uniform; all classes go through the model beside each other, as one batch. Needs labels inferred.
    """

    alpha: float = setting(10.0, at_least=0)
    """weight of the classifier's cross-entropy on known labels"""

    criterion = staticmethod(watched)

    def __call__(self, model: Any, batch: Batch | Any, key: PRNGKeyArray, training: bool = True) -> Result:
        """Return the loss with the terms nll, kl, cross_entropy (of known labels, else 0) and known (share), nats.

        The pass is that of the known label, or of the likeliest one.
        """
        batch, c = as_batch(batch), model.classes
        if model.labels != "inferred" or batch.label is None:
            raise ConfigError("semisupervised needs model.labels inferred and data with labels")
        log_y = model.classify(model.sees(batch), jax.random.fold_in(key, 9) if training else None)
        every = repeated(batch, c)._replace(label=jnp.repeat(jnp.arange(c), batch.size))
        done = run(model, every, key, training)
        nll, kl_terms = bound_terms(done, "semisupervised")
        nll, kl = nll.reshape(c, -1).T, sum_event(kl_terms).reshape(c, -1).T
        known, hot = batch.label >= 0, jax.nn.one_hot(batch.label, c, dtype=log_y.dtype)
        weight = jnp.where(known[:, None], hot, jnp.exp(log_y))
        over = lambda values: jnp.sum(weight * values, axis=1)
        entropy = -jnp.sum(jnp.exp(log_y) * log_y, axis=1)
        cross_entropy = -jnp.sum(hot * log_y, axis=1)
        bound = over(nll + kl) + jnp.log(float(c))
        loss = bound + jnp.where(known, self.alpha * cross_entropy, -entropy)
        terms = {"nll": over(nll), "kl": over(kl), "cross_entropy": cross_entropy, "known": known.astype(loss.dtype)}
        return loss, terms, _of_one_label(done, batch, jnp.where(known, batch.label, jnp.argmax(log_y, axis=1)))

    def at(self, step: Step) -> "SemiSupervised":
        """Return itself: nothing is scheduled."""
        return self


def _of_one_label(done: Pass, batch: Batch, label: Any) -> Pass:
    """Return the pass of one label per example out of that of all labels."""
    row = label * batch.size + jnp.arange(batch.size)
    z, log_q = done.z[row], None if done.log_q is None else done.log_q[row]
    q, p = done.model.encode(done.model.sees(batch), None, label), done.model.decode(z, None, label)
    return done._replace(batch=batch._replace(label=label), q=q, z=z, log_q=log_q, p=p, numbers=None, kept=())
