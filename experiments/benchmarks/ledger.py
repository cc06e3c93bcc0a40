"""What the ledger of a sweep costs per trial.

Claim: The ledger adds under 5 ms per trial at 10,000 trials.
Command: python -m experiments ledger --trials 10000
Cost: under a minute.
Expected: under 5 ms per trial for claim, heartbeat, publish and reading back, both for
trials whose results are synced to the disk and for cheap ones, whose results are not.
"""

import argparse
import tempfile
import time
from pathlib import Path

from experiments.benchmarks.measuring import write
from experiments.running import store
from experiments.search.record.ledger import Ledger


def measure(folder: Path, trials: int, group: int, seconds: float) -> tuple[float, float]:
    """Return milliseconds per trial for the first and the last tenth of `trials` in an empty ledger.

    `seconds` is what each trial claims to have taken, which decides whether its result is synced.
    """
    ledger = Ledger(folder)
    ledger.open({"benchmark": trials})
    result = {"status": "ok", "reason": "", "metrics": {f"metric_{i}": 0.1 * i for i in range(8)}}
    laps = [time.perf_counter()]
    for first in range(0, trials, group):
        keys = [f"{i:05d}-r0-s0-f0" for i in range(first, min(first + group, trials))]
        leases = ledger.claim(keys)
        with ledger.heartbeat(leases):
            pass
        spec = {"point": first, "values": {"lr": 1e-3, "model.latent": 8}}
        if ledger.publish_all([(lease, spec, result, seconds) for lease in leases]) != keys:
            raise RuntimeError(f"{keys} were not all published")
        for key in keys:
            ledger.read(key)
        laps.append(time.perf_counter())
    tenth = max((len(laps) - 1) // 10, 1)
    per = lambda a, b: 1e3 * (laps[b] - laps[a]) / ((b - a) * group)
    return per(0, tenth), per(len(laps) - 1 - tenth, len(laps) - 1)


def main(argv: list[str]) -> None:
    """Print the table, write results/ledger.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--folder", help="where to write (default: a temporary folder)")
    options, begin = parser.parse_args(argv), time.monotonic()
    measured = {}
    lines = [f"{'ms per trial':24} {'first tenth':>12} {'last tenth':>12}"]
    for name, seconds in (("not synced", 0.0), ("synced to the disk", 1.0)):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            first, last = measure(Path(folder) / "ledger", options.trials, options.group, seconds)
        measured[name] = {"first_tenth_ms": first, "last_tenth_ms": last}
        lines.append(f"{name:24} {first:12.3f} {last:12.3f}")
    write(store.RESULTS / "ledger.json", __file__, argv, lines, measured, begin)
