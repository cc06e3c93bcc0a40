"""Forty faults of one line, of kinds that people make: a sign, an axis, a factor, a key used twice, one too many."""

from typing import NamedTuple


class Mutation(NamedTuple):
    """`old` stands exactly once below `place`; `tests` touch what it does, those that should notice it first."""

    place: str
    old: str
    new: str
    fault: str
    tests: tuple[str, ...]


DISTRIBUTIONS = "tests/models/test_distributions.py"
OBJECTIVES = "tests/models/test_objectives.py"
NETWORKS = "tests/models/test_networks.py"
TRAIN = "tests/training/test_train.py"
OPTIMIZERS = "tests/training/test_optimizers.py"
STEPS = "tests/laws/test_steps.py"
ESTIMATORS = "tests/grads/matrices/test_estimators.py"
OPERATOR = "tests/grads/matrices/test_operator.py"

MUTATIONS = [
    Mutation(
        "models/distributions/normal.py",
        "self.mean + jnp.exp(self.log_std) * noise",
        "self.mean + jnp.exp(2 * self.log_std) * noise",
        "variance drawn as standard deviation",
        (f"{DISTRIBUTIONS}::test_samples_have_the_distribution",),
    ),
    Mutation(
        "models/distributions/normal.py",
        "jnp.expm1(2 * log_ratio)) - log_ratio",
        "jnp.expm1(2 * log_ratio)) + log_ratio",
        "sign of the KL's logarithm",
        (
            "tests/models/metrics/test_metrics.py",
            f"{OBJECTIVES}::test_elbo_terms_and_weights",
            DISTRIBUTIONS,
        ),
    ),
    Mutation(
        "models/distributions/normal.py",
        "jnp.sum(jnp.where(mask, square, 0)) / jnp.maximum(jnp.sum(mask), 1)",
        "jnp.sum(jnp.where(mask, square, 0)) / square.size",
        "mean over the unobserved, too",
        (
            "tests/models/parts/test_observed.py",
            DISTRIBUTIONS,
        ),
    ),
    Mutation(
        "models/distributions",
        "jnp.where(x >= 0, 1, e) / (1 + e) * tangents[0]",
        "jnp.where(x >= 0, e, 1) / (1 + e) * tangents[0]",
        "derivative of softplus mirrored",
        (
            f"{DISTRIBUTIONS}::test_bernoulli_gradient_is_x_minus_mean",
            f"{DISTRIBUTIONS}::test_logits_of_ten_thousand",
            DISTRIBUTIONS,
        ),
    ),
    Mutation(
        "models/distributions/logistic.py",
        "above = softplus((x - location - half)",
        "above = softplus((x - location + half)",
        "sign of a level's lower edge",
        (
            f"{DISTRIBUTIONS}::test_discretized_logistic_sums_to_one",
            DISTRIBUTIONS,
        ),
    ),
    Mutation(
        "models/objectives/elbo.py",
        "jnp.mean(kl_terms, axis=0, keepdims=True)",
        "jnp.mean(kl_terms, axis=1, keepdims=True)",
        "free bits by example, not by dimension",
        (
            f"{OBJECTIVES}::test_free_bits_are_the_maximum_of_the_batch_means",
            OBJECTIVES,
        ),
    ),
    Mutation(
        "models/objectives/elbo.py",
        "jnp.asarray(step) / steps, 0, 1)",
        "(jnp.asarray(step) + 1) / steps, 0, 1)",
        "ramp one step early",
        (
            f"{OBJECTIVES}::test_schedules_at_traced_steps",
            OBJECTIVES,
        ),
    ),
    Mutation(
        "models/objectives/denoising.py",
        "for_noise, for_model = jax.random.split(key)",
        "for_noise = for_model = jax.random.split(key)[0]",
        "one key for noise and model",
        (
            f"{STEPS}::test_no_key_is_used_twice",
            OBJECTIVES,
        ),
    ),
    Mutation(
        "models/objectives/passing.py",
        "key, for_encoder, for_decoder = jax.random.split(key, 3)",
        "for_encoder = for_decoder = key",
        "one key for code and dropouts",
        (
            f"{STEPS}::test_no_key_is_used_twice",
            OBJECTIVES,
            NETWORKS,
        ),
    ),
    Mutation(
        "models/objectives/corruption.py",
        "(uniform < 0.5 * level)",
        "(uniform < level)",
        "salt without pepper",
        (
            f"{OBJECTIVES}::test_corruptions_have_their_level",
            OBJECTIVES,
        ),
    ),
    Mutation(
        "models/networks/layers/block.py",
        "jnp.where(keep, x / (1 - rate), 0)",
        "jnp.where(keep, x, 0)",
        "dropout without its factor",
        (
            f"{NETWORKS}::test_dropout_keeps_the_mean_and_the_rate",
            NETWORKS,
        ),
    ),
    Mutation(
        "models/networks/layers/norm.py",
        "self.momentum * old + (1 - self.momentum) * jax",
        "(1 - self.momentum) * old + self.momentum * jax",
        "momentum the other way round",
        (
            f"{NETWORKS}::test_batch_norm_normalises_and_its_running_statistics_converge",
            NETWORKS,
        ),
    ),
    Mutation(
        "models/networks/layers/norm.py",
        "jnp.var(full, axes)",
        "jnp.var(full, axes, ddof=1)",
        "n - 1 in the batch's variance",
        (
            f"{NETWORKS}::test_batch_norm_normalises_and_its_running_statistics_converge",
            NETWORKS,
        ),
    ),
    Mutation(
        "models/posteriors/point.py",
        "self.active * z.shape[0]",
        "self.active",
        "k units of the batch, not of each code",
        (
            "tests/models/parts/test_point.py",
            OBJECTIVES,
        ),
    ),
    Mutation(
        "models/terms/sparsity.py",
        "t * jnp.log(t / mean) + (1 - t)",
        "t * jnp.log(mean / t) + (1 - t)",
        "KL of sparsity upside down",
        (
            f"{OBJECTIVES}::test_sparse_penalties",
            OBJECTIVES,
        ),
    ),
    Mutation(
        "models/metrics/basic.py",
        "nll = -model.decode(z, None, label)",
        "nll = -model.decode(q.mean, None, label)",
        "bound at the mean, not at a draw",
        ("tests/models/metrics/test_metrics.py",),
    ),
    Mutation(
        "models/linear.py",
        "noise = variances[k:].mean()",
        "noise = variances[k + 1 :].mean()",
        "one variance too few",
        ("tests/models/test_linear.py",),
    ),
    Mutation("train.py", "jax.random.fold_in(key, state.step)", "key", "every step draws the same noise", (STEPS,)),
    Mutation(
        "train.py",
        "jax.random.permutation(jax.random.fold_in(key, epoch), n)",
        "jax.random.permutation(key, n)",
        "every epoch in the same order",
        (
            f"{TRAIN}::test_every_epoch_visits_examples_at_most_once_and_in_a_new_order",
            STEPS,
        ),
    ),
    Mutation(
        "train.py",
        'binarise(raw, "dynamic", k_binary)',
        'binarise(raw, "dynamic", key)',
        "every visit of an example draws the same pixels",
        (STEPS,),
    ),
    Mutation(
        "training/evaluate.py",
        "jnp.where(index < n, value, 0)",
        "jnp.where(index <= n, value, 0)",
        "one example too many in a mean",
        (
            f"{TRAIN}::test_exact_mean_over_a_short_last_batch",
            STEPS,
        ),
    ),
    Mutation(
        "training/evaluate.py",
        "jax.random.split(jax.random.fold_in(key, i))",
        "jax.random.split(key)",
        "every test batch draws the same noise",
        (STEPS,),
    ),
    Mutation(
        "train.py",
        "(state.step % per_epoch) * config.batch_size",
        "(state.step % max(per_epoch - 1, 1)) * config.batch_size",
        "the last batch of an epoch is never seen",
        (STEPS,),
    ),
    Mutation(
        "train.py",
        "next_mean(config.updates, state, params)",
        "next_mean(config.updates, state, state.ema)",
        "the average of parameters never moves",
        (STEPS,),
    ),
    Mutation(
        "training/optimizers.py",
        "rise = jnp.minimum(1.0, (step + 1) /",
        "rise = jnp.minimum(1.0, step /",
        "warm-up one step late: the first does nothing",
        (OPTIMIZERS,),
    ),
    Mutation(
        "training/optimizers.py",
        "max(1, steps // updates.accumulate)",
        "max(1, steps)",
        "schedule ignores accumulation",
        (OPTIMIZERS,),
    ),
    Mutation(
        "training/optimizers.py",
        "share = (1 - decay) /",
        "share = decay /",
        "factor of the newest parameters",
        (
            f"{OPTIMIZERS}::test_the_running_mean_is_that_of_the_updates_so_far",
            OPTIMIZERS,
        ),
    ),
    Mutation(
        "training/examples.py",
        "(1.0 / (high - low))",
        "(1.0 / (high - low + 1))",
        "white is 255/256",
        (f"{TRAIN}::test_exact_mean_over_a_short_last_batch",),
    ),
    Mutation(
        "training/examples.py",
        "key = jax.random.fold_in(jax.random.key(20_160_000), salt)",
        "key = jax.random.key(20_160_000)",
        "every split draws the same pixels",
        (STEPS,),
    ),
    Mutation(
        "grads/matrices/estimators.py",
        "jnp.std(samples, 0, ddof=1) if count",
        "jnp.std(samples, 0, ddof=0) if count",
        "n in a standard error",
        (ESTIMATORS,),
    ),
    Mutation(
        "grads/matrices/estimators.py",
        "key_range, key_rest = jax.random.split(key)",
        "key_range = key_rest = key",
        "one key for range and rest",
        (ESTIMATORS,),
    ),
    Mutation(
        "grads/matrices/estimators.py",
        "return 2 * (squares - jnp.sum(diagonal**2))",
        "return squares - jnp.sum(diagonal**2)",
        "factor of a probe's variance",
        (
            f"{ESTIMATORS}::test_probe_variance_rule",
            ESTIMATORS,
        ),
    ),
    Mutation(
        "grads/matrices/operator.py",
        "lambda u: other._pull(self._pull(u))",
        "lambda u: self._pull(other._pull(u))",
        "adjoint of a product in the wrong order",
        (
            f"{OPERATOR}::test_products_and_composition",
            OPERATOR,
        ),
    ),
    Mutation(
        "grads/matrices/operator.py",
        "out.standard_error / (2 * root)",
        "out.standard_error / root",
        "factor in the error of a root",
        (OPERATOR,),
    ),
    Mutation(
        "grads/per_example.py",
        "return jnp.sum((left @ left.T) * (right @ right.T))",
        "return jnp.sum((left @ left.T) + (right @ right.T))",
        "Gram matrices added",
        ("tests/grads/test_per_example.py",),
    ),
    Mutation(
        "grads/hessian.py",
        "push = lambda v: pull(v[None])[0]",
        "push = lambda v: -pull(v[None])[0]",
        "sign of a reverse product",
        ("tests/grads/test_hessian.py",),
    ),
    Mutation(
        "grads/methods/coloured.py",
        "(rows, columns) if colouring.reverse else (columns, rows)",
        "(columns, rows) if colouring.reverse else (rows, columns)",
        "rows and columns swapped",
        ("tests/grads/methods/test_coloured.py",),
    ),
    Mutation(
        "grads/methods/order.py",
        "for k in range(i + 1, j)}",
        "for k in range(i + 1, j - 1)}",
        "the last cut is never tried",
        (
            "tests/grads/methods/test_chain.py",
            "tests/grads/methods/test_select.py",
        ),
    ),
    Mutation(
        "grads/costs/work.py",
        'Work("dot", 2.0 * out * contract',
        'Work("dot", out * contract',
        "multiplications without additions",
        ("tests/grads/costs/test_work.py",),
    ),
    Mutation(
        "grads/methods/low_rank.py",
        "return (q @ u)[:, :rank], s[:rank], vt[:rank]",
        "return (q @ u)[:, :rank], s[1 : rank + 1], vt[:rank]",
        "singular values off by one",
        (
            "tests/grads/methods/test_oracles.py::test_randomized_svd",
            OPERATOR,
        ),
    ),
]
