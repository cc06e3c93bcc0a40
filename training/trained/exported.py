"""A trained model as a folder for a model hub: weights, config, the data's units and a model card.

model.safetensors  the evaluated model's arrays (any safetensors reader opens it)    config.json  the run's config
data.json          shape, range, scale and columns of the data                       README.md    the model card
"""

from pathlib import Path
from typing import Any

from models.config import to_dict
from training.store import checkpoint
from training.store.errors import RunError
from training.store.files import make_folder, write_json, write_text

WEIGHTS, CONFIG, DATA, CARD = "model.safetensors", "config.json", "data.json", "README.md"


def is_exported(folder: Path) -> bool:
    """Whether a folder holds an exported model rather than a run."""
    return (folder / WEIGHTS).is_file()


def export(run: Any, folder: Path, summary: dict[str, Any] | None) -> list[Path]:
    """Write a `LoadedRun`'s model into `folder`; return the files.

    summary: that of the run, for the card's numbers. Raises RunError when the folder holds other files.
    """
    names = (WEIGHTS, CONFIG, DATA, CARD)
    if folder.exists() and (not folder.is_dir() or {p.name for p in folder.iterdir()} - set(names)):
        raise RunError(f"{folder} holds other files; give --out a new folder")
    make_folder(folder)
    checkpoint.write(folder / WEIGHTS, 0, run.model, {"which": run.which, "fitted": run.fitted})
    write_json(folder / CONFIG, to_dict(run.config))
    write_json(folder / DATA, run.facts.record)
    write_text(folder / CARD, card(run, summary))
    return [folder / name for name in names]


def card(run: Any, summary: dict[str, Any] | None) -> str:
    """Return the model card: YAML front matter and text in Markdown."""
    facts, config = run.facts, run.config
    shape = "x".join(map(str, facts.shape))
    parts = to_dict(config)["model"]
    numbers = (summary or {}).get("test") or {}
    rows = "\n".join(f"| {name} | {value:.6g} |" for name, value in sorted(numbers.items()))
    results = f"## Test results\n\n| metric | value |\n| --- | --- |\n{rows}\n" if rows else ""
    return f"""---
library_name: flax
tags: [autoencoder, jax, flax]
---
# Autoencoder of {facts.name}

Takes examples of shape {shape} with raw values from {facts.low:g} to {facts.high:g}; codes have {run.latent} numbers.
Parts: {", ".join(f"{name} {name_of(part)}" for name, part in parts.items() if name_of(part))}.
Trained on {facts.examples:,} examples ({facts.record.get("split_rule") or "split as published"}); these are the
parameters of the {run.which} checkpoint.

## Use

```python
import train
run = train.load_run("THIS FOLDER")
z = run.encode(x)             # raw values in, numpy out
x_again = run.reconstruct(x)
```
Files: `{WEIGHTS}` (weights), `{CONFIG}` (config), `{DATA}` (shape, range and scale of the data).

{results}"""


def name_of(part: Any) -> str:
    """Return a part's kind, or a plain value as it is."""
    if isinstance(part, dict):
        return str(part.get("kind", ""))
    return str(part) if isinstance(part, (str, int)) else ""
