"""One page, one file, no network: the examples that drive the units of a code most, the place in each marked."""

import html
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.reporting.plots import headline
from training.pictures.drawing import figure
from training.store.files import write_text

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:64rem;padding:0 1rem;color:#222;background:#fff}
section{border-top:1px solid #ddd;padding:.7rem 0}h2{font-size:1rem;margin:0}small{color:#666}
table{border-collapse:collapse;width:100%}td{padding:0 .6rem 0 0;vertical-align:top}
td.value{text-align:right;width:4rem;color:#666;font-variant-numeric:tabular-nums}
code{font:13px/1.7 ui-monospace,monospace;white-space:pre-wrap;overflow-wrap:anywhere}
code b{outline:1.5px solid #b30;font-weight:inherit}input{font:inherit;padding:.2rem .5rem;margin:.5rem 0;width:24rem}
"""
SCRIPT = """
const box=document.querySelector('input'),parts=[...document.querySelectorAll('section')];
box.oninput=()=>{let n=0;for(const p of parts){const on=p.textContent.includes(box.value);p.hidden=!on;n+=on}
document.querySelector('output').textContent=n+' of '+parts.length+' units'};box.oninput();
"""


class Excerpt(NamedTuple):
    """An example: its characters, how strongly the unit is on at each, and the place to mark."""

    text: str
    values: Sequence[float]
    place: int


class Unit(NamedTuple):
    """A unit of a code: its name, a line about it, its examples, strongest first."""

    name: str
    about: str
    examples: Sequence[Excerpt]


AROUND, EXAMPLES = 40, 6


def strongest(codes: np.ndarray, text: list[str], shown: int) -> dict[str, np.ndarray]:
    """Return where units are on most: {"unit" (u, 2): place and share of characters, "top" (u, e, 2 + 2 * 40)}.

    codes: (m, steps, latent). Units are drawn evenly from those in use, the busiest first. An example is the place of
    the marked character among the 40 shown, how many there are, the characters' numbers and the unit's values. The step
    that predicts a character has read the one before it, which is the one marked.
    """
    share = (codes != 0).mean((0, 1))
    alive = np.argsort(-share)[: int((share > 0).sum())]
    units = alive[np.linspace(0, len(alive) - 1, min(shown, len(alive))).astype(int)] if len(alive) else alive
    top = np.zeros((len(units), EXAMPLES, 2 + 2 * AROUND))
    for i, unit in enumerate(units):
        values = codes[:, 1:, unit]  # the first step has read nothing
        best = np.argsort(-values.max(1))[:EXAMPLES]
        for j, row in enumerate(best[values[best].max(1) > 0]):
            place = int(values[row].argmax())
            first = max(0, min(place - AROUND + 12, values.shape[1] - AROUND))
            part = slice(first, first + AROUND)
            letters = [ord(c) for c in text[row][: values.shape[1]][part]]
            top[i, j, :2] = place - first, len(letters)
            top[i, j, 2 : 2 + len(letters)] = letters
            top[i, j, 2 + AROUND : 2 + AROUND + len(letters)] = values[row, part][: len(letters)]
    return {"units": np.stack([units, share[units]], axis=1), "top": top}


def units_of(row: Mapping[str, list[np.ndarray]]) -> list[Unit]:
    """Return the units of a row's first seed as the page wants them."""
    out = []
    for (unit, share), examples in zip(row["units"][0], row["top"][0], strict=True):
        shown = []
        for example in examples:
            place, n = int(example[0]), int(example[1])
            if n:
                text = "".join(chr(int(c)) for c in example[2 : 2 + n])
                shown.append(Excerpt(text, example[2 + AROUND : 2 + AROUND + n].tolist(), place))
        out.append(Unit(f"unit {int(unit)}", f"on at {100 * share:.2f} % of the characters", shown))
    return out


def line(shown: Excerpt, top: float) -> str:
    """Return an example as HTML: every character behind a shade of its value's share of `top`, spaces visible."""
    out = []
    for i, (character, value) in enumerate(zip(shown.text, shown.values, strict=True)):
        sign = html.escape({"\n": "↵", "\t": "→"}.get(character, character))
        share = max(0.0, min(1.0, value / top if top > 0 else 0.0))
        shade = f' style="background:rgba(240,140,40,{share:.2f})"' if share >= 0.01 else ""
        tag = "b" if i == shown.place else "span"
        plain = tag == "span" and not shade
        out.append(sign if plain else f"<{tag}{shade}>{sign}</{tag}>")
    return "".join(out)


def section(unit: Unit) -> str:
    """Return a unit as HTML."""
    top = max((max(shown.values) for shown in unit.examples), default=0.0)
    rows = "".join(
        f'<tr><td class="value">{shown.values[shown.place]:.2f}</td><td><code>{line(shown, top)}</code></td></tr>\n'
        for shown in unit.examples
    )
    head = f"<h2>{html.escape(unit.name)} <small>{html.escape(unit.about)}</small></h2>"
    return f"<section>{head}\n<table>{rows}</table></section>\n"


def write(path: Path, title: str, about: str, units: Iterable[Unit]) -> Path:
    """Write the page; return its path. A box at the top keeps the units whose text holds what is typed."""
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
    box = '<input placeholder="keep units whose examples hold ..." aria-label="keep units"><output></output>'
    body = "".join(map(section, units))
    start = f"<style>{STYLE}</style><h1>{html.escape(title)}</h1><p>{html.escape(about)}</p>{box}\n"
    write_text(path, f"{head}{start}{body}<script>{SCRIPT}</script></html>\n")
    return path


def picture(path: Path, units: Sequence[Unit], record: Mapping[str, Any]) -> None:
    """Draw the strongest examples of twelve units, busy and rare ones."""
    some = [unit for unit in units[:: max(1, len(units) // 12)] if unit.examples][:12]
    with figure(path, 11, 4.4) as fig:
        grid = fig.subplots(-(-len(some) // 3), 3, squeeze=False).ravel()
        for axes in grid:
            axes.axis("off")
        for axes, unit in zip(grid, some, strict=False):
            axes.set_title(f"{unit.name}: {unit.about}", fontsize=7, loc="left")
            for y, one in enumerate(unit.examples[:4]):
                for x, letter in enumerate(one.text.replace("\n", "↵")):
                    mark = {"facecolor": "C1", "alpha": 0.5, "pad": 0.6, "lw": 0} if x == one.place else None
                    if mark or letter != " ":
                        at = x / AROUND, 0.85 - 0.25 * y
                        axes.text(*at, letter, fontsize=8, family="monospace", bbox=mark)
        headline(fig, record)
