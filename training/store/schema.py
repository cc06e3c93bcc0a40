"""What each kind of file in a run folder must hold: one check, and one place that turns a fault into a line.

A schema is `int`, `float` (any number, or "nan", "inf", "-inf"), `str`, `bool`, None, `object` (anything); a tuple
of alternatives; `[schema]`, a list; `{str: schema}`, an object of any names; `{"name": schema, "other?": schema}`,
an object with at least these names, of which "other" may be missing.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from .errors import RunError
from .files import read_bytes, to_json

STATUSES = ("finished", "preempted", "diverged", "failed")
DEPTH = 64  # levels of nesting that a file of ours may have
LIMIT = 2**63  # integers beyond are none of ours

_BEST = {"value": float, "epoch": int, "metrics": ({str: float}, None)}
IDENTITY = {"run": str, "config": str, "data": str, "rows": {"count": int, "digest": str}}
_MEANS = {str: (float, [float])}  # of all, or one per dimension of the code
ROW = {"step": int, "epoch?": int, "seconds?": float, "digest?": str, "train?": _MEANS, "validation?": _MEANS}
META = {"identity": IDENTITY, "dispatch": str, "seconds": float, "stream": ({str: object}, None), "best": _BEST}
SUMMARY = {
    "status": str,
    "seconds": float,
    "params_sha256": str,
    "test": ({str: float}, None),
    "kl_per_dim_nats?": [float],
    "last": {str: object},
    "best": _BEST,
    "end": {"step": int, "term?": str, "all_terms?": [str], "stopped_early?": bool, "data?": str},
    "tested?": (str, None),
    "tested_file?": (str, None),
    "identity": IDENTITY,
    "figures": {str: str},
    "digest": str,
}
CONFIG = {"kind?": str, "data_dir?": (str, None), "dataset?": str}
ENVIRONMENT = {
    "python": str,
    "packages": {str: str},
    "backend": str,
    "devices": [str],
    "cores?": int,
    "threads?": (int, None),
    "data": ({str: object}, None),
}
CHECKPOINT = {
    "format": str,
    "step": str,
    "meta": str,
    "arrays": str,
    "header_sha256": str,
}
ARRAYS = {str: {"dtype": str, "shape": [int], "sha256": str}}
ENTRIES = {str: {"dtype": str, "shape": [int], "data_offsets": [int]}}


def fault(value: Any, schema: Any, name: str = "") -> str | None:
    """Return the first thing in which `value` is not what `schema` says, in words; None where there is none."""
    if isinstance(schema, tuple):
        faults = [fault(value, one, name) for one in schema]
        return None if None in faults else faults[0]
    if isinstance(schema, list):
        if not isinstance(value, list):
            return _is_not(value, "a list", name)
        return next((f for i, v in enumerate(value) if (f := fault(v, schema[0], f"{name}[{i}]"))), None)
    if isinstance(schema, dict):
        return _fault_of_object(value, schema, name)
    if schema is None:
        return None if value is None else _is_not(value, "null", name)
    if schema is int:
        whole = isinstance(value, int) and not isinstance(value, bool) and -LIMIT <= value < LIMIT
        return None if whole else _is_not(value, "a whole number of at most 64 bits", name)
    if schema is float:
        number = isinstance(value, float) or (fault(value, int) is None) or value in ("nan", "inf", "-inf")
        return None if number else _is_not(value, "a number", name)
    words = {str: "a text", bool: "true or false"}
    return None if isinstance(value, schema) else _is_not(value, words.get(schema, schema.__name__), name)


def _fault_of_object(value: Any, schema: dict[Any, Any], name: str) -> str | None:
    if not isinstance(value, dict):
        return _is_not(value, "an object", name)
    prefix = f"{name}." if name else ""
    if str in schema:
        return next((f for k, v in value.items() if (f := fault(v, schema[str], prefix + k))), None)
    for key, expected in schema.items():
        field = key.removesuffix("?")
        if field not in value:
            if key == field:
                return f"{prefix}{field} is missing"
        elif found := fault(value[field], expected, prefix + field):
            return found
    return None


def _is_not(value: Any, what: str, name: str) -> str:
    text = repr(value)
    return f"{name or 'it'} is {text if len(text) <= 40 else text[:37] + '...'}, not {what}"


def parse_json(data: bytes | str, schema: Any = object) -> Any:
    """Return JSON content that fits `schema`. Raises ValueError, in words, for what is no JSON of ours."""
    try:
        value = json.loads(data, parse_constant=lambda word: _refuse(f"{word} is no number of ours"))
    except UnicodeDecodeError:
        raise ValueError("it is not in UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is no JSON ({error})") from None
    except RecursionError:
        raise ValueError(f"it is nested deeper than {DEPTH} levels") from None
    _check_shape(value)
    if found := fault(value, schema):
        raise ValueError(found)
    return value


def _check_shape(value: Any) -> None:
    """Raise ValueError for JSON that is nested too deep, or holds text that no file can hold (half a surrogate)."""
    level = [value]
    for _ in range(DEPTH):
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner += [*item, *item.values()]
            elif isinstance(item, list):
                inner += item
            elif isinstance(item, str) and not item.isascii():
                item.encode()
        level = inner
    if level:
        raise ValueError(f"it is nested deeper than {DEPTH} levels")


def _refuse(words: str) -> Any:
    raise ValueError(words)


def read_json(path: Path, schema: Any = object) -> Any:
    """Return the content of a JSON file. Raises RunError, naming the file, when it is missing or not as it must be."""
    try:
        return parse_json(read_bytes(path), schema)
    except ValueError as error:
        raise RunError(f"{path} is damaged: {error}") from None


def json_sha256(value: Any) -> str:
    """Return a digest of JSON content: of what it says, not of how it is laid out."""
    text = to_json(value)
    return hashlib.sha256(json.dumps(json.loads(text), sort_keys=True).encode()).hexdigest()


def sealed(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record with `digest`, the digest of all else in it."""
    return {**record, "digest": json_sha256({k: v for k, v in record.items() if k != "digest"})}


def read_sealed(path: Path, schema: Any = object) -> dict[str, Any]:
    """Return a record that `sealed` made and a file holds. Raises RunError where it was changed since."""
    record = read_json(path, {"digest": str})
    if sealed(record)["digest"] != record["digest"]:
        raise RunError(f"{path} was changed since it was written: its digest does not match")
    if found := fault(record, schema):
        raise RunError(f"{path} is damaged: {found}")
    return record


def read_summary(path: Path) -> dict[str, Any]:
    """Return the content of a summary.json. Raises RunError when it was changed, or says what no run ends with."""
    try:
        found = read_sealed(path, SUMMARY)
    except RunError as error:
        raise RunError(f"{error}; remove it, and --resume writes it again") from None
    if found["status"] not in STATUSES or not says_what_it_must(found):
        raise RunError(f"{path} is damaged: no run ends so; remove it, and --resume writes it again")
    return found


def says_what_it_must(summary: dict[str, Any]) -> bool:
    """Whether a summary has what its status promises: numbers of the test, or the term that was not finite."""
    if summary["status"] == "finished":
        numbers = [*(summary["test"] or {"none": None}).values(), *summary.get("kl_per_dim_nats", ())]
        named = summary.get("tested", "last") in ("best", "last") and summary.get("tested_file", "") is not None
        return named and all(isinstance(value, float) for value in numbers)
    return summary["status"] == "preempted" or "term" in summary["end"]


def contradiction(summary: dict[str, Any], rows: list[dict[str, Any]]) -> str | None:
    """Return in words where a finished run's summary does not repeat its rows: the last, and the best validation."""
    untimed = lambda row: {name: value for name, value in row.items() if name != "seconds"}
    if rows and summary["last"] and untimed(rows[-1]) != untimed(summary["last"]):
        return "its last row is not the last of metrics.jsonl"
    best = summary["best"]
    row = next((row for row in rows if best["epoch"] and row.get("epoch") == best["epoch"]), None)
    if row and best["metrics"] is not None and best["metrics"] != row.get("validation"):
        return f"its best metrics are not those of epoch {best['epoch']} in metrics.jsonl"
    return None
