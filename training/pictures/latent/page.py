"""The page of a run's latent plane: its data, and the file."""

import html
import json
from importlib import resources
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from models.config import ConfigError
from training.pictures.latent.program import packed, steps_of
from training.store.files import write_text

CODES, CHECKS = 2000, 8  # codes that are drawn, codes whose decoding the page compares with JAX's


def page_data(run: Any, x: Any, labels: Any = None) -> dict[str, Any]:
    """Return all that the page holds, of a loaded run and raw examples x (n, *shape), labels (n,) or None.

    Raises ConfigError for a model that the page cannot decode, or a code of one unit.
    """
    model, facts = run.model, run.facts
    if run.latent < 2:
        raise ConfigError("the latent page shows a plane: the code must have at least 2 units, got 1")
    if len(facts.shape) not in (1, 3):
        raise ConfigError(f"the latent page shows pictures and tables, not examples of shape {facts.shape}")
    given = None if labels is None or not model.classes else np.asarray(labels[:CODES], np.int32)
    z = np.atleast_2d(run.encode(x[:CODES], given))
    label = jnp.zeros(1, jnp.int32) if model.classes else None
    steps = steps_of(model, model.decode(jnp.zeros((1, run.latent)), None, label))
    hot = np.eye(model.classes, dtype=np.float32) if model.classes else np.zeros((1, 0), np.float32)
    some = np.concatenate([z[:CHECKS], z[:CHECKS] + 0.5 * z.std(0)]).astype(np.float32)
    with jax.default_matmul_precision("highest"):
        label = jnp.zeros(len(some), jnp.int32) if model.classes else None
        decoded = np.asarray(model.decode(jnp.asarray(some), None, label).mean).reshape(len(some), -1)
    for what, values in (("codes", z), ("decoded pictures", decoded)):
        if bad := int((~np.isfinite(values)).any(1).sum()):
            raise ConfigError(f"{bad} of {len(values)} {what} are not finite: the latent page cannot show them")
    scale = lambda v: np.broadcast_to(np.asarray(v, np.float64), facts.shape).reshape(-1).tolist()
    return {
        "name": f"{facts.name}: {run.path.name}",
        "shape": list(facts.shape),
        "latent": run.latent,
        "classes": model.classes,
        "hot": hot.tolist(),
        "steps": steps,
        "codes": packed(z),
        "labels": None if labels is None else np.asarray(labels[:CODES]).tolist(),
        "columns": list(facts.columns),
        "checks": {"z": packed(some), "mean": packed(decoded)},
        "scale": {"shift": scale(facts.scale.shift), "factor": scale(facts.scale.factor)},
        "range": [facts.low, facts.high],
    }


def write(path: Path, run: Any, x: Any, labels: Any = None) -> Path:
    """Write the page; return its path. Raises ConfigError (see `page_data`) and RunError."""
    data = page_data(run, x, labels)
    folder = resources.files("training.pictures.latent") / "page_files"
    read = lambda name: (folder / name).read_text(encoding="utf-8")
    text = json.dumps(data, allow_nan=False)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    title = html.escape(f"Latent plane of {data['name']}")
    write_text(
        path,
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
        f'<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">\n'
        f"<style>\n{read('latent.css')}</style></head>\n<body><main></main>\n"
        f'<script type="application/json" id="data">{text}</script>\n'
        f"<script>\n{read('decode.js')}{read('plane.js')}</script>\n</body></html>\n",
    )
    return path
