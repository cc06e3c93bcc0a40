"""Records in words: the printed table, the section of a page; verdicts against paper and bound."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.reporting.pairs import LEAST_SEEDS, compared, interquartile_of, rival, values_of
from experiments.reporting.statistics import Interval, t_interval
from experiments.running.claims import claim_verdict
from experiments.running.listed import lines_of

HEADER = ("row", "ours", "paper", "bound", "verdict")
IQM = "interquartile mean [95% bootstrap]"
DIFFERENCE = "difference from it [95% paired bootstrap]"
IMPROVEMENT = "P(below it) [95% bootstrap]"


def interval_of(record: Mapping[str, Any], row: str, metric: str | None = None) -> Interval:
    """Return mean and 95% t interval over the seeds that stayed finite; nan where none did, exact for a baseline."""
    values = [v for v in values_of(record, row, metric) if math.isfinite(v)]
    if not values:
        return Interval(math.nan, math.nan, math.nan)
    if record["rows"][row].get("exact"):
        return Interval(values[0], values[0], values[0])
    return t_interval(np.asarray(values))


def number(value: float) -> str:
    """Return four significant digits, without an exponent where that stays short."""
    if not math.isfinite(value):
        return "-"
    return f"{value:.4g}" if not 1000 <= abs(value) < 1e6 else f"{value:.0f}"


def cell(interval: Interval | None) -> str:
    """Return "3.00 [2.95, 3.05]", or the estimate alone where there is no interval; nothing for None."""
    if interval is None:
        return ""
    if not math.isfinite(interval.low) or interval.low == interval.high:
        return number(interval.estimate)
    return f"{number(interval.estimate)} [{number(interval.low)}, {number(interval.high)}]"


def verdict(record: Mapping[str, Any], row: str) -> str:
    """Return what the numbers say, in words: against the paper's, against the bound, and what went wrong.

    better, worse: the whole interval lies on that side of the paper's number; inside: it holds it. With one
    seed there is no interval and the estimate decides; an exact baseline shows its distance instead. A bound is
    a number to reach, or a row to beat: there the interval of the paired differences decides.
    """
    facts, ours = record["rows"][row], interval_of(record, row)
    out = []
    lost = sum(d is not None for d in facts.get("diverged", []))
    if lost:
        out.append(f"{lost} of {len(facts['diverged'])} diverged")
    if not values_of(record, row):  # a study's row that has other numbers
        return ""
    if math.isnan(ours.estimate):
        return "; ".join(out) or "no finite value"
    if facts["paper"] is not None and facts.get("exact"):
        out.append(f"{ours.estimate / facts['paper'] - 1:+.1%}")
    elif facts["paper"] is not None and facts.get("differs"):
        out.append(f"not comparable: {facts['differs']}")
    elif facts["paper"] is not None:
        out.append("not comparable" if record["differs"] else _against(ours, facts["paper"]))
    if isinstance(facts["bound"], str):
        if facts["bound"] in record["rows"]:
            out.append(_beats(record, row, facts["bound"]))
    elif facts["bound"] is not None and not record["differs"]:
        out.append("bound met" if ours.estimate <= facts["bound"] else "bound missed")
    return "; ".join(out)


def _against(ours: Interval, paper: float) -> str:
    if not math.isfinite(ours.low):
        return f"{'better' if ours.estimate < paper else 'worse'} (1 seed)"
    return "better" if ours.high < paper else "worse" if ours.low > paper else "inside"


def _beats(record: Mapping[str, Any], row: str, other: str) -> str:
    found = compared(record, row, other)
    if found is None:
        return f"no value to set against {other}"
    if not math.isfinite(found.t.low):
        return f"{'below' if found.t.estimate < 0 else 'above'} {other} (1 seed)"
    return f"below {other}" if found.t.high < 0 else f"above {other}" if found.t.low > 0 else f"as {other}"


def table_of(record: Mapping[str, Any]) -> list[list[str]]:
    """Return the table as rows of texts, the header first; a column without an entry is left out.

    The mean has a t interval. Beside it, from 3 seeds on: the interquartile mean with its bootstrap interval, and
    for a row that is set against another row the difference of the pairs and the probability of improvement.
    """
    unit = record["metric"].replace("_", " ")
    middle = {row: interquartile_of(record, row) for row in record["rows"]}
    ours = f"ours: {unit}" + (", mean [95% t]" if any(middle.values()) else "")
    more = [c.replace("_", " ") for c in record["columns"]]
    out = [["row", ours, IQM, *HEADER[2:4], DIFFERENCE, IMPROVEMENT, HEADER[4], *more]]
    for row, facts in record["rows"].items():
        paper = "" if facts["paper"] is None else number(facts["paper"])
        bound = facts["bound"]
        bound = "" if bound is None else bound if isinstance(bound, str) else f"≤ {number(bound)}"
        extra = [cell(interval_of(record, row, c)) if values_of(record, row, c) else "" for c in record["columns"]]
        line = [row, cell(interval_of(record, row)), cell(middle[row]), paper, bound, *against_row(record, row)]
        out.append([*line, verdict(record, row), *extra])
    keep = [i for i in range(len(out[0])) if i < 2 or any(line[i] for line in out[1:])]
    return [[line[i] for i in keep] for line in out]


def against_row(record: Mapping[str, Any], row: str) -> tuple[str, str]:
    """Return the cells of a row that is set against another one: difference, probability of improvement."""
    found = rival(record, row)
    if found is None or found.seeds < LEAST_SEEDS:
        return "", ""
    share = found.improvement
    return cell(found.bootstrap), f"{share.estimate:.2f} [{share.low:.2f}, {share.high:.2f}]"


def claims_table(record: Mapping[str, Any]) -> list[list[str]]:
    """Return the claims of a record as rows of texts, the header first; [] where it has none."""
    out = []
    for claim in record.get("claims", []):
        values = [float(v) for v in claim["values"]]
        finite = np.asarray([v for v in values if math.isfinite(v)])
        ours = t_interval(finite) if len(finite) else Interval(math.nan, math.nan, math.nan)
        if len(values) == 1 and len(record["seeds"]) > 1:  # of all seeds together
            ours = Interval(values[0], values[0], values[0])
        low, high = float(claim["low"]), float(claim["high"])
        ends = [f"≥ {number(low)}"] * math.isfinite(low) + [f"≤ {number(high)}"] * math.isfinite(high)
        expected = "" if claim["expected"] is None else number(claim["expected"])
        verdict = claim_verdict(claim, ours.low, ours.estimate, ours.high)
        out.append([claim["claim"], cell(ours), expected, ", ".join(ends), verdict])
    return [["claim", "ours", "expected", "bound", "verdict"], *out] if out else []


def tables(record: Mapping[str, Any]) -> str:
    """Return a record's table in Markdown, and below it that of its claims where it has some."""
    claims = claims_table(record)
    return "\n\n".join([markdown(table_of(record)), *([markdown(claims)] if claims else [])])


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown, its columns aligned."""
    widths = [max(3, *(len(line[i]) for line in rows)) for i in range(len(rows[0]))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in rows]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(lines)


def footer(record: Mapping[str, Any]) -> str:
    """Return one line: seeds, interval, programs, minutes, device, versions, commit, data."""
    env = record["environment"]
    git = env.get("git") or {}
    commit = f", commit {git['commit'][:10]}{' (changed)' if git.get('dirty') else ''}" if git else ""
    n = len(record["seeds"])
    data = ", ".join(f"{name} (sha256 {_digests(facts)})" for name, facts in record["data"].items())
    device = env["devices"][0].split(": ", 1)[-1]
    where = f"{record['cores']} {device} cores" if env["backend"] == "cpu" else f"{len(env['devices'])} {device}"
    interval = f"mean and 95% t interval over {n} seeds" if n > 1 else "1 seed"
    if n >= LEAST_SEEDS:
        interval += ", which decides the verdict"
        interval += "; percentile bootstrap over seeds beside it, too narrow for so few" if n < 10 else ""
    programs = f"{record['programs']} programs compiled; " if "programs" in record else ""
    data = f"; data: {data}" if data else ""
    return (
        f"{interval}; profile {record['profile']}; {programs}"
        f"{record['minutes']:.1f} minutes on {where}; jax {env['packages']['jax']}{commit}{data}."
    )


def _digests(facts: Mapping[str, Any]) -> str:
    return ", ".join(f"{digest[:8]}…" for digest in facts["sha256"].values())


def text(record: Mapping[str, Any]) -> str:
    """Return what a table prints."""
    note = f"\nNot the paper's protocol: {record['differs']}." if record["differs"] else ""
    note += "".join(f"\nLeft out: {row} {why}." for row, why in record.get("left_out", {}).items())
    note += "".join(f"\n{line}" for line in lines_of(record.get("units", {}), record.get("not_measured", {})))
    note += f"\ntrain its best row: {record['train']}" if record.get("train") else ""
    return f"{record['title']}\n\n{tables(record)}\n\n{footer(record)}{note}"


def section(record: Mapping[str, Any], level: int = 3, figures: str = "") -> str:
    """Return the section of a page in Markdown: title, claim, source, table, command, figure.

    figures: the path from the page to the folder of the figures; empty: no figures.
    """
    note = f" Not the paper's protocol: {record['differs']}." if record["differs"] else ""
    note += "".join(f" Left out: {row}." for row in record.get("left_out", {}))
    parts = [
        f"{'#' * level} {record['title']}",
        f"{record['claim']} Source: {record['source']}",
        *([f"Caveats: {record['caveats']}"] if record.get("caveats") else []),
        tables(record),
        f"`{record['command']}`: {footer(record)}{note}",
        *lines_of(record.get("units", {}), record.get("not_measured", {})),
        *([f"Train its best row: `{record['train']}`"] if record.get("train") else []),
    ]
    if figures:
        parts += [f"![{record['title']}]({figures}/{name})" for name in record["figures"]]
    return "\n\n".join(parts) + "\n"
