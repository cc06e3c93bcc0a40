"""The library half works where only jax, flax, optax and numpy are: the rest is imported where it is used."""

import subprocess
import sys

import pytest

from . import source

HEAVY = (
    "tensorflow tensorflow_datasets tyro grain matplotlib ray optuna cmaes sklearn pyarrow tensorboardX asdex h5py "
    "wandb mlflow scipy"
).split()


def loaded(modules: str) -> set[str]:
    """Which of HEAVY a fresh process holds after `import modules`."""
    code = f"import sys, {modules}; print(*sorted({{m.partition('.')[0] for m in sys.modules}} & set({HEAVY!r})))"
    run = subprocess.run([sys.executable, "-c", code], cwd=source.ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


@pytest.mark.parametrize("module", ["models", "grads", "train", "data"])
def test_an_import_loads_nothing_heavy(module):
    assert loaded(module) == set()


def test_the_measure_sees_a_heavy_import():
    assert loaded("models, tyro") == {"tyro"}
