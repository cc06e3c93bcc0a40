"""A trial of a sweep as the config of a run; the files are those that `experiments.search` writes."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from models.config import ConfigError, from_dict, replace_at, validate

from .files import json_ready

POINT = re.compile(r"\d+(-r\d+-s\d+-f\d+)?")


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


def trial_config(config_class: type, where: str) -> Any:
    """Return the config of the trial that SWEEP, SWEEP:POINT or SWEEP:TRIAL names.

    Raises ConfigError, one line, where there is no such trial or its sweep is not of this config.
    """
    sweep, _, point = where.rpartition(":")
    if not sweep or not POINT.fullmatch(point):
        sweep, point = where, ""
    folder = Path(sweep)
    try:
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
