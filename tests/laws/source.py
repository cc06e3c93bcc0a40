"""The source tree as data: its modules, who imports whom, its folders."""

import ast
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("experiments", "training", "models", "grads", "data")


@functools.cache
def modules() -> dict[str, Path]:
    """Every module of the source by its dotted name; a package stands for its `__init__`."""
    paths = [ROOT / "train.py", *(p for name in PACKAGES for p in sorted((ROOT / name).rglob("*.py")))]
    dotted = (p.relative_to(ROOT).with_suffix("").parts for p in paths)
    return {".".join(d[:-1] if d[-1] == "__init__" else d): p for d, p in zip(dotted, paths, strict=True)}


@functools.cache
def tree(path: Path) -> ast.Module:
    """A file, parsed."""
    return ast.parse(path.read_text(), str(path))


def imported(path: Path, package: str = "") -> Iterator[tuple[str, str]]:
    """Every import of a file, also inside functions, as (module, name taken from it or "")."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            around = package.split(".")
            parts = around[: len(around) - node.level + 1] if node.level else []
            base = ".".join([*parts, *([node.module] if node.module else [])])
            yield from ((base, alias.name) for alias in node.names)


@functools.cache
def edges() -> dict[str, frozenset[str]]:
    """For every module the modules of ours that it imports: the most exact ones, not the packages around them."""
    known = modules()
    found = {}
    for name, path in known.items():
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        pairs = imported(path, package)
        exact = {inner if (inner := f"{base}.{taken}") in known else base for base, taken in pairs}
        found[name] = frozenset((exact & set(known)) - {name})
    return found


def circles(graph: dict[str, frozenset[str]]) -> list[list[str]]:
    """The strongly connected parts of a graph that hold more than one node (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph.get(node, ()):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            part = [stack.pop()]
            while part[-1] != node:
                part.append(stack.pop())
            if len(part) > 1:
                found.append(sorted(part))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def against(
    order: Sequence[str], graph: dict[str, frozenset[str]], package: str = ""
) -> tuple[list[str], set[str]]:
    """The imports against an order of a package's items, and the items that the order does not name.

    One string of `order` is one rung of a ladder: items of a rung, separated by blanks, do not import each other.
    """
    rung = {item: i for i, names in enumerate(order) for item in names.split()}
    start = f"{package}." if package else ""
    item = lambda module: module.removeprefix(start).partition(".")[0]
    wrong, unknown = [], set()
    for a, others in sorted(graph.items()):
        if not a.startswith(start):
            continue
        unknown |= {item(a)} - set(rung)
        for b in sorted(others):
            if b.startswith(start) and item(a) != item(b) and rung.get(item(a), -1) >= rung.get(item(b), 99):
                wrong.append(f"{a} imports {b}")
    return wrong, unknown
