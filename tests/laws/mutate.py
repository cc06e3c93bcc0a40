"""Which of forty faults does the suite notice? `python -m tests.laws.mutate [--only 3,18] [--jobs 2]`, half an hour.

Each fault is put into a copy of the tree, alone, and the tests that touch it run until one fails. First they all run
without a fault: what fails there would tell nothing.
"""

import argparse
import concurrent.futures
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.laws.mutations import MUTATIONS, Mutation
from tests.laws.source import ROOT

DATA = Path(os.environ.get("AUTOENCODERS_DATA", ROOT.parent / "shared" / "data")).resolve()


def copied(folder: Path) -> Path:
    """A copy of the tracked files."""
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in names.splitlines():
        if (ROOT / name).is_file() and not name.endswith(".png"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def located(mutation: Mutation, root: Path) -> Path:
    """The one file that holds the old text; ValueError where it stands nowhere or more than once."""
    place = root / mutation.place
    files = [place] if place.is_file() else sorted(place.rglob("*.py"))
    found = {path: count for path in files if (count := path.read_text().count(mutation.old))}
    if list(found.values()) != [1]:
        raise ValueError(f"{mutation.old!r} stands {sum(found.values())} times below {mutation.place}")
    return next(iter(found))


def tested(root: Path, tests: tuple[str, ...]) -> tuple[bool, str]:
    """Whether the tests pass in a tree, and the line that says how they ended."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "-n",
        "0",
        "-p",
        "no:cacheprovider",
    ]
    if absent := [t for t in tests if not (root / t.partition("::")[0]).exists()]:
        raise ValueError(f"no such tests: {absent}")  # pytest would run all there are
    env = os.environ | {"AUTOENCODERS_DATA": str(DATA)}
    run = subprocess.run([*command, *dict.fromkeys(tests)], cwd=root, env=env, capture_output=True, text=True)
    lines = [line for line in run.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if run.returncode not in (0, 1, 2):
        raise RuntimeError(f"pytest ended with {run.returncode}: {(run.stdout + run.stderr)[-2000:]}")
    return run.returncode == 0, (lines or run.stdout.splitlines()[-1:] or [""])[0][:150]


def noticed(mutation: Mutation) -> tuple[bool, str]:
    """Whether a test fails in a tree with this fault alone, and which."""
    with tempfile.TemporaryDirectory() as folder:
        root = copied(Path(folder))
        path = located(mutation, root)
        path.write_text(path.read_text().replace(mutation.old, mutation.new))
        for test in mutation.tests:
            passed, line = tested(root, (test,))
            if not passed:
                break
        return not passed, line


def main() -> int:
    """Run the campaign; the exit code says whether at least nine in ten were noticed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="numbers of mutations, from 1: 3,18")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--no-baseline", action="store_true", help="the tests are known to pass without a fault")
    options = parser.parse_args()
    wanted = [int(n) - 1 for n in options.only.split(",")] if options.only else range(len(MUTATIONS))
    chosen = {i: MUTATIONS[i] for i in wanted}
    for mutation in chosen.values():
        located(mutation, ROOT)
    if not options.no_baseline:
        with tempfile.TemporaryDirectory() as folder:
            passed, line = tested(copied(Path(folder)), tuple(t for m in chosen.values() for t in m.tests))
            if not passed:
                print(f"without any fault: {line}")
                return 2
    start, count = time.time(), 0
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for (i, mutation), (found, line) in zip(chosen.items(), pool.map(noticed, chosen.values()), strict=True):
            count += found
            print(
                f"{i + 1:2} {'noticed' if found else 'MISSED '} {mutation.place}: {mutation.fault}; {line}", flush=True
            )
    print(f"{count} of {len(chosen)} noticed in {(time.time() - start) / 60:.0f} minutes")
    return 0 if 10 * count >= 9 * len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
