"""A trial of a sweep, or a row of a table, as the config of a run; the files are those that `experiments` writes."""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.config import ConfigError, from_dict, replace_at, validate

from .files import json_ready

POINT = re.compile(r"\d+(-r\d+-s\d+-f\d+)?")
RECORD = re.compile(r"(.+\.json)(?::(.*))?", re.DOTALL)


def encode(record: Any) -> bytes:
    """Return the bytes of a trial's file: the record and the digest of its text."""
    body = json.dumps(json_ready(record), sort_keys=True, allow_nan=False)
    return f'{{"digest": "{hashlib.sha256(body.encode()).hexdigest()}", "record": {body}}}\n'.encode()


def decode(data: bytes) -> Any:
    """Return the record of a trial's file, None where the bytes are not what was written."""
    try:
        record = json.loads(data)["record"]
        return record if encode(record) == data else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def key_of(folder: Path, point: str) -> str:
    """Return the name of a trial: of the best point (""), a point's first seed at its last budget, or as it is named.

    Raises ConfigError where there is none, OSError and ValueError for a file that cannot be read.
    """
    if not point:
        best = folder / "best.json"
        if not best.exists():
            raise ConfigError(f"the sweep in {folder} has not ended with a best point; name one, as in {folder}:0")
        return str(json.loads(best.read_text())["trial"])
    if not point.isdigit():
        return point
    found = [p.stem for p in (folder / "trials").glob(f"{int(point):05d}-r*-s0-f0.json")]
    if not found:
        raise ConfigError(f"the sweep in {folder} has no finished trial of point {point}")
    return max(found, key=lambda key: int(key.split("-")[1][1:]))


def is_run(facts: Mapping[str, Any]) -> bool:
    """Whether a row of a table's record is what `train.py` does: a config, on all of its data."""
    return facts.get("config", {}).get("kind") == "Config" and not facts.get("examples") and not facts.get("known")


def best_row(record: Mapping[str, Any]) -> str | None:
    """Return the row of a table's record whose mean of the table's metric is least, of those that are runs."""
    means = {}
    for name, facts in record["rows"].items():
        values = facts["metrics"].get(record["metric"], []) if is_run(facts) else []
        if values and all(map(math.isfinite, values)):
            means[name] = sum(values) / len(values)
    return min(means, key=lambda name: means[name]) if means else None


def row_config(config_class: type, path: Path, row: str) -> Any:
    """Return the config of a row, "" for the best one, of the record of a table. Raises ConfigError."""
    record = json.loads(path.read_text())
    row = row or best_row(record) or ""
    if row not in record["rows"]:
        raise ConfigError(f"{path} has no row {row!r}; it has {', '.join(record['rows'])}")
    if not is_run(record["rows"][row]):
        raise ConfigError(f"row {row!r} of {path} is a baseline, or saw a part of its data only: no run of train.py")
    config: Any = from_dict(config_class, record["rows"][row]["config"])
    validate(config)
    return config


def trial_config(config_class: type, where: str) -> Any:
    """Return the config of the trial that SWEEP, SWEEP:POINT or SWEEP:TRIAL names, or of a row: RECORD.json[:ROW].

    Raises ConfigError, one line, where there is no such trial or its sweep is not of this config.
    """
    sweep, _, point = where.rpartition(":")
    if not sweep or not POINT.fullmatch(point):
        sweep, point = where, ""
    folder, table = Path(sweep), RECORD.fullmatch(where)
    try:
        if table and not Path(where).is_dir():
            return row_config(config_class, Path(table[1]), table[2] or "")
        base = json.loads((folder / "sweep.json").read_text())["base"]
        path = folder / "trials" / f"{key_of(folder, point)}.json"
        record = decode(path.read_bytes())
        if record is None:
            raise ConfigError(f"{path} is damaged; --resume of its sweep runs the trial again")
        spec = record["spec"]
        config: Any = from_dict(config_class, base)
        for name, value in {**spec["values"], **spec["budget"]}.items():  # sorted: a part stands before its fields
            config = replace_at(config, name, value)
        config = replace_at(config, "seed", config.seed + spec["seed"])
        validate(config)
        return config
    except OSError as error:
        raise ConfigError(f"{where} names no trial: cannot read {error.filename} ({error.strerror})") from None
    except ConfigError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{where} is not a trial of a sweep of train.py: {type(error).__name__} {error}") from None
