"""`explain`: which method `jacobian` would use for a call, what each would cost, and in what order chain multiplies."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from grads import arguments
from grads.calls.problem import JacobianOptions, flatten_call
from grads.costs.cost import Cost
from grads.costs.machine import Number, current
from grads.jacobian import check_options
from grads.methods import select
from grads.methods.chain import plan_chain, root_of
from grads.methods.evaluate import problem_of
from grads.methods.order import JacobianChain, Step
from grads.methods.registry import Method
from grads.programs.fingerprint import fingerprint


@dataclass(frozen=True)
class Cut:
    """A place where the chain is cut: after this many equations of the derivative, at this total width."""

    width: int
    after: str
    structure: str


@dataclass(frozen=True)
class Plan:
    """What `jacobian` would do; `print` it as a table.

    `rows`: one per registered method; `method`: the chosen one; `cost`: its prediction; `cuts` and `order`: where chain
    cuts and how it multiplies (empty when it does not apply); `width`: the narrowest cut; `why`: one sentence.
    """

    rows: tuple[select.Candidate, ...]
    method: str
    cost: Cost | None
    cuts: tuple[Cut, ...]
    order: tuple[str, ...]
    shape: tuple[int, int]
    why: str
    device: str

    @property
    def operations(self) -> Number:
        """Predicted operations of the chosen method."""
        return self.cost.operations if self.cost else float("nan")

    @property
    def widths(self) -> tuple[int, ...]:
        """The width of every cut, from the input to the output."""
        return tuple(c.width for c in self.cuts)

    @property
    def width(self) -> int:
        """The narrowest state of the program: an upper bound on the rank of the Jacobian."""
        return min((*(c.width for c in self.cuts), *self.shape))

    def __str__(self) -> str:
        lines = [f"Jacobian of shape {self.shape[0]} x {self.shape[1]} on {self.device}", _HEAD]
        for row in sorted(self.rows, key=lambda r: r.cost.seconds if r.cost else float("inf")):
            lines.append(_line(row, row.method.name == self.method))
        lines.append(f"chosen: {self.method}. {self.why}")
        if self.cuts:
            widths = " -> ".join(f"{c.width} ({c.after}{', ' + c.structure if c.structure else ''})" for c in self.cuts)
            lines += [f"cuts, by width: {widths}", "order of the chain:", *("  " + o for o in self.order)]
        return "\n".join(lines)


_HEAD = f"  {'method':<18}{'operations':>12}{'bytes':>10}{'ms':>10}{'peak memory':>13}{'chunk':>7}  note"


def _line(row: select.Candidate, chosen: bool) -> str:
    mark = "* " if chosen else "  "
    if row.cost is None:
        return f"{mark}{row.method.name:<18}{row.reason or 'no prediction; never chosen by auto'}"
    c = row.cost
    return (
        f"{mark}{row.method.name:<18}{_number(c.operations):>12}{_number(c.bytes):>10}"
        f"{c.seconds * 1e3:>10.3g}{_number(c.memory):>13}{c.chunk or '-':>7}  {c.note}"
    )


def _number(x: Number) -> str:
    for unit, scale in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if x >= scale:
            return f"{x / scale:.3g} {unit}"
    return f"{x:.3g} "


def explain(fun: Callable, *args: Any, method: str | Method = "auto", argnums: Any = 0, **options: Any) -> Plan:
    """Return the `Plan` of `jacobian(fun, argnums, method=method, **options)(*args)` without computing it.

    `options` are those of `jacobian` (memory_limit, chunk_size, batch_axis, has_aux, ...). Raises as `jacobian` does.
    """
    allowed = ["chunk_size", "memory_limit", "batch_axis", "output", "has_aux", "holomorphic", "allow_int"]
    for name in options:
        arguments.one_of("option of jacobian", name, [*allowed, "precision", "remat"])
    asked_for = {k: options.get(k) for k in ("chunk_size", "memory_limit", "batch_axis")}
    check_options(fun, method, **asked_for, output=options.get("output", "dense"))
    options.pop("precision", None)  # of no consequence for the plan
    flags = {k: options.pop(k) for k in ("has_aux", "holomorphic", "allow_int") if k in options}
    factored = options.pop("output", "dense") == "factored"
    call = flatten_call(fun, argnums, args, {}, **flags)
    opts = JacobianOptions(holomorphic=flags.get("holomorphic", False), factored=factored, **options)
    problem, constants = problem_of(call, opts)
    rows = select.predicted(problem)
    chosen = select.choose(problem, method, constants, call.leaves, ("explain", fingerprint(problem.graph), opts))
    if method not in ("auto", "autotune") and problem.n and problem.m:
        chosen.build(problem)  # refuses what only the build can see (a pattern without sparsity)
    row = next((r for r in rows if r.method.name == chosen.name), None)
    cuts, order = _chain_text(problem, rows)
    return Plan(
        tuple(rows), chosen.name, row.cost if row else None, cuts, order, (problem.m, problem.n),
        _why(rows, chosen.name, method, problem.n * problem.m), current().name,
    )  # fmt: skip


def _why(rows: list, chosen: str, method: Any, entries: int) -> str:
    if not entries:
        return "The Jacobian has no entries."
    if method not in ("auto", "autotune"):
        return "It was asked for by name."
    if method == "autotune":
        return "It was the fastest of the three best predictions when timed here."
    times = {r.method.name: r.cost.seconds for r in rows if r.cost and r.method.exact}
    others = {k: v for k, v in times.items() if k != chosen}
    if not others:
        return "It is the only method that applies."
    second = min(others, key=others.__getitem__)
    if not times[chosen]:
        return "Nothing depends on the input." if not others[second] else "It takes no operations."
    return f"Predicted {others[second] / times[chosen]:.3g} times faster than the next ({second})."


def _chain_text(problem: Any, rows: list) -> tuple[tuple, tuple]:
    if not any(r.method.name == "chain" and r.cost is not None for r in rows):
        return (), ()
    chain = plan_chain(problem)
    cuts = [Cut(chain.widths[0], "input", "")]
    for s, w in zip(chain.segments, chain.widths[1:], strict=True):
        last = s.eqns[-1].primitive.name if s.eqns else "nothing"
        cuts.append(Cut(w, last, s.kind if s.structured else ""))
    return tuple(cuts), tuple(_step_text(chain, s) for s in chain.walk(root_of(problem, chain)) if s.action != "leaf")


def _step_text(chain: JacobianChain, step: Step) -> str:
    w = chain.widths
    n, m, r = w[step.start], w[step.stop], w[step.split or 0]
    text = {
        "forward": f"{n} tangents from scratch",
        "reverse": f"{m} cotangents from scratch",
        "tangent": f"{n} columns of J({step.start},{step.split}) pushed from width {r}",
        "adjoint": f"{m} rows of J({step.split},{step.stop}) pulled from width {r}",
        "product": f"J({step.split},{step.stop}) @ J({step.start},{step.split}) through width {r}",
    }[step.action]
    return f"J({step.start},{step.stop}) [{m} x {n}] = {text}"
