"""Whatever happens to a file of a run folder: the outcome is the same, or one line refuses it. Nothing is silent."""

import collections
import itertools
import os
import random
import shutil
import signal

import numpy as np
import pytest

from tests.training.store.damage import call, damages, judge, outcome
from training.host import Pace

OPTIONS = ["--model.encoder.hidden", 8, "--model.latent", 2, "--epochs", 6, "--patience", 5, "--batch-size", 32]
WRONG = ("silent", "traceback", "wordy")
QUIET = ["--no-figures", "--dispatch", "loop"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return real run folders: one finished with figures, one stopped, one killed, another's of the same shapes."""
    root = tmp_path_factory.mktemp("damage")
    x = np.random.default_rng(0).integers(0, 256, (320, 4, 4)).astype(np.uint8)
    np.savez(root / "small.npz", x=x)
    options = ["--dataset", f"file:{root / 'small.npz'}", *OPTIONS]
    assert call("--run-dir", root / "finished", "--dispatch", "loop", *options)[0] == 0
    assert call("--run-dir", root / "other", "--seed", 7, "--dispatch", "loop", *options)[0] == 0

    class Killed(BaseException):
        pass

    def stop(step):
        if step >= 20:
            os.kill(os.getpid(), signal.SIGTERM)

    def kill(step):
        if step >= 29:
            raise Killed

    one_step = Pace(chunk=1, save_seconds=0)
    assert call("--run-dir", root / "stopped", *QUIET, *options, pace=one_step._replace(after=stop))[0] == 143
    assert call("--run-dir", root / "killed", *QUIET, *options, pace=one_step._replace(after=kill))[0] == "traceback"
    return root


def reference(root, name, scratch):
    """Return what becomes of a run that nothing damaged."""
    shutil.copytree(root / name, scratch / f"{name}-reference")
    code, said = call("--resume", "--run-dir", scratch / f"{name}-reference", *QUIET)
    assert code == 0, said
    return outcome(scratch / f"{name}-reference")


def attack(root, name, scratch, seed, count):
    """Damage copies of a run and resume them; return the verdicts by name of the damage."""
    verdicts, expected = {}, reference(root, name, scratch)
    rng = random.Random(f"{seed} {name}")
    some = list(itertools.islice(damages(root / name, root / "other", rng), 4 * count))
    for number, damage in enumerate(rng.sample(some, count)):
        folder = scratch / f"{name}-{number}"
        shutil.copytree(root / name, folder)
        damage.apply(folder)
        code, said = call("--resume", "--run-dir", folder, *QUIET)
        verdict = judge(code, said, damage, folder, root / name, expected)
        verdicts[f"{name} {number}: {damage.name}"] = verdict
        if verdict.kind in WRONG:
            print(f"{verdict.kind}: {name} {number}: {damage.name}: {verdict.said}")
        shutil.rmtree(folder)
    return verdicts


def report(verdicts):
    """Print the count of each verdict, and return those that must not be, with what was said."""
    print(collections.Counter(verdict.kind for verdict in verdicts.values()))
    return {name: v for name, v in verdicts.items() if v.kind in WRONG}


@pytest.mark.parametrize("name", ["finished", "stopped", "killed"])
def test_damages_are_refused_or_mended(name, runs, tmp_path):
    assert report(attack(runs, name, tmp_path, seed=1, count=6)) == {}


@pytest.mark.campaign
@pytest.mark.parametrize("name", ["finished", "stopped", "killed"])
def test_many_damages_are_refused_or_mended(name, runs, tmp_path):
    """660 damages: three run folders, 220 each."""
    seed = int(os.environ.get("DAMAGE_SEED", "0"))
    verdicts = attack(runs, name, tmp_path, seed, count=220)
    assert len(verdicts) == 220
    assert report(verdicts) == {}
