"""Hyperparameter sweeps: a space over any config field, a sampler, a ledger of trials, an engine that runs them.

`python -m experiments.search --lr 1e-4:1e-2:log --objective.beta 0.5:8 --model.latent 2,8,32 --trials 64`

From Python: `options.parse(words)` gives a sweep, `command.run` runs it; `sweep.run_sweep` takes the parts themselves.
"""
