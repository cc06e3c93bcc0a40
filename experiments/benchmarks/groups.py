"""Structure groups: what one executable for many runs gains over one after another, and over a process for each.

Claim: 16 configs x 3 seeds that differ in learning rate, beta and seed compile once, and finish sooner than the same
    48 runs one after another in one warm executable, and far sooner than one process per run.
Source: a measurement of this project's own; the figures to reach are those under Expected.
Command: python -m experiments groups --data-dir DATA
Cost: 20 minutes on 2 quiet cores; --size tiny: a minute, any machine.
Expected: 1 program; at least 1.05x (784-400-20) and 1.5x (32 hidden units) against one warm executable; at least 5x
    against one process per run.
"""

import argparse
import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from data import DataError
from experiments.benchmarks.measuring import take_turns, write
from experiments.command import FLAG, use_all_cores
from experiments.running import group, store
from models import Dense, Model
from models.objectives import ELBO
from train import Config

ASKED = {400: 1.05, 32: 1.5}
LRS, BETAS = (3e-4, 1e-3, 2e-3, 4e-3), (0.5, 1.0, 2.0, 4.0)


def configs(dataset: str, hidden: int, epochs: int, seeds: int) -> list[Config]:
    """Return 16 configs by `seeds` seeds: learning rate x beta x seed."""
    base = Config(dataset=dataset, model=Model(encoder=Dense(hidden=(hidden,)), latent=20), epochs=epochs)
    return [
        dataclasses.replace(base, lr=lr, objective=ELBO(beta=beta), seed=seed)
        for lr in LRS
        for beta in BETAS
        for seed in range(seeds)
    ]


def cut(splits: group.Splits, train: int, rest: int) -> group.Splits:
    """Return the first examples of every split."""
    return {k: s.part(slice(train if k == "train" else rest)) for k, s in splits.items()}


def seconds_of(plan: str, rows: Sequence[Config], splits: group.Splits) -> float:
    """Return the seconds that the rows take by a plan, compiled before."""
    begin = time.perf_counter()
    for _ in group.run_with(group.plans()[plan], rows, splits):
        pass
    return time.perf_counter() - begin


def compare(rows: Sequence[Config], splits: group.Splits, repeats: int) -> dict[str, Any]:
    """Return seconds of every plan (interleaved minima; each was run once before) and programs per plan."""
    programs: dict[str, int] = {}

    def runner(name: str) -> Callable[[int], None]:
        def run(_: int) -> None:
            before = group.compilations()
            seconds_of(name, rows, splits)
            programs.setdefault(name, group.compilations() - before)

        return run

    turns = take_turns({name: (runner(name), 1) for name in group.plans()}, repeats)
    seconds = {name: turn["fastest_ms"] / 1e3 for name, turn in turns.items()}
    best = min((name for name in seconds if name != "sequential"), key=seconds.__getitem__)
    examples = len(rows) * rows[0].epochs * len(splits["train"])
    return {
        "seconds": seconds,
        "images_per_second": {name: examples / s for name, s in seconds.items()},
        "programs": programs,
        "best": best,
        "chosen": group.choose(rows, splits),
    }


def in_process(what: str, arguments: tuple[Any, ...], data_dir: str | None, devices: int) -> float:
    """Return the seconds that a new process with so many host devices prints for `what`, a function of this file."""
    code = f"from experiments.benchmarks import groups as g; print(g.{what}(*{arguments!r}, {data_dir!r}))"
    env = os.environ | {"XLA_FLAGS": f"{FLAG}={devices}"}
    out = subprocess.run([sys.executable, "-c", code], check=True, cwd=store.ROOT, env=env, stdout=subprocess.PIPE)
    return float(out.stdout.split()[-1])


def prepare(
    hidden: int, dataset: str, epochs: int, seeds: int, train: int, rest: int, data_dir: str | None
) -> tuple[list[Config], group.Splits]:
    """Return the runs and their data."""
    splits = cut(group.data_of(Config(dataset=dataset), data_dir)[0], train, rest)
    return configs(dataset, hidden, epochs, seeds), splits


def plain(*arguments: Any) -> float:
    """Return the seconds of all runs one after another in one warm executable, as by `sequential`; least of two."""
    rows, splits = prepare(*arguments)
    seconds_of("sequential", rows[:1], splits)
    return min(seconds_of("sequential", rows, splits) for _ in range(2))


def single(*arguments: Any) -> float:
    """Do the first run alone, for the time that its process takes from start to end."""
    rows, splits = prepare(*arguments)
    return seconds_of("sequential", rows[:1], splits)


def measure(options: argparse.Namespace, hidden: int) -> dict[str, Any]:
    """Return the comparison for one width, with the ratio to a process per run."""
    tiny = options.size == "tiny"
    dataset, train, rest = ("digits", 1_024, 256) if tiny else ("binarized_mnist", 20_000, 2_000)
    seeds, epochs = (1, 2) if tiny else (3, 1)
    arguments = (hidden, dataset, epochs, seeds, train, rest)
    rows, splits = prepare(*arguments, options.data_dir)
    begin, before = time.perf_counter(), group.compilations()
    default = next(iter(group.plans()))
    seconds_of(default, rows, splits)
    cold, compiled = time.perf_counter() - begin, group.compilations() - before
    found = compare(rows, splits, options.repeats)
    found["programs"][default] = compiled
    begin = time.perf_counter()
    in_process("single", arguments, options.data_dir, 1)
    each = time.perf_counter() - begin
    alone = in_process("plain", arguments, options.data_dir, 1)
    found |= {
        "one_device_process_seconds": alone,
        "ratio_to_one_after_another": min(alone, found["seconds"]["sequential"]) / found["seconds"][found["best"]],
        "cold_seconds": cold,
        "process_seconds": each,
        "ratio_to_one_process_per_run": each * len(rows) / cold,
        "asked_ratio": ASKED[hidden],
        "asked_process_ratio": 5.0,
    }
    return {"runs": len(rows), "epochs": epochs, "train": train, "dataset": dataset} | found


def wide(options: argparse.Namespace) -> dict[str, Any]:
    """Return the seconds of one run and of `options.wide` runs at once (784-400-20), by the default plan, warm."""
    tiny = options.size == "tiny"
    shape = ("digits", 2, 1, 1_024, 256) if tiny else ("binarized_mnist", 2, 4, 50_000, 10_000)
    rows, splits = prepare(400, *shape, options.data_dir)
    rows = [dataclasses.replace(rows[i % len(rows)], seed=i) for i in range(options.wide)]
    plan = next(iter(group.plans()))
    seconds = {}
    for count in (1, options.wide):
        times = [seconds_of(plan if count > 1 else "sequential", rows[:count], splits) for _ in range(3)]
        seconds[count] = min(times[1:])  # the first one compiled
    ratio = seconds[options.wide] / seconds[1]
    return {"runs": options.wide, "plan": plan, "one": seconds[1], "all": seconds[options.wide], "ratio": ratio}


def line(hidden: int, found: dict[str, Any]) -> str:
    """Return the measurement of one width in words."""
    speeds = ", ".join(f"{n} {v:,.0f}" for n, v in found["images_per_second"].items())
    return (
        f"{hidden} hidden units, {found['runs']} runs: {found['programs'][found['best']]} program; images/s: {speeds}\n"
        f"  {found['best']} against one warm executable: {found['ratio_to_one_after_another']:.2f}x "
        f"(asked {found['asked_ratio']}x); chosen here: {found['chosen']}\n"
        f"  cold group against one process per run: {found['ratio_to_one_process_per_run']:.1f}x (asked 5x; "
        f"a process {found['process_seconds']:.1f} s, the group with compilation {found['cold_seconds']:.1f} s)"
    )


def main(argv: list[str]) -> int:
    """Measure, print, write results/groups.json."""
    use_all_cores()
    parser = argparse.ArgumentParser("python -m experiments groups", description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=("tiny", "full"), default="full")
    parser.add_argument("--repeats", type=int, default=3, help="interleaved repetitions; the least time counts")
    parser.add_argument("--wide", type=int, help="only: so many runs at once against one (on a GPU: 64 in 4x the time)")
    parser.add_argument("--data-dir", help="folder of data files")
    parser.add_argument("--results", type=Path, default=None)
    options, begin = parser.parse_args(argv), time.monotonic()
    folder = options.results or (store.SCRATCH if options.size == "tiny" else store.RESULTS)
    name = "groups-wide" if options.wide else "groups"
    try:
        if options.wide:
            found = wide(options)
            lines = ["{runs} runs ({plan}): {all:.2f} s, one: {one:.2f} s, ratio {ratio:.2f}".format(**found)]
        else:
            found, lines = {}, []
            for hidden in ASKED:
                found[str(hidden)] = measure(options, hidden)
                lines.append(line(hidden, found[str(hidden)]))
    except DataError as error:
        print(f"experiments groups: {error}", file=sys.stderr)
        return 1
    write(folder / f"{name}.json", __file__, argv, lines, found, begin, profile=options.size)
    return 0
