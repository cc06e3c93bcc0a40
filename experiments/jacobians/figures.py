"""The figures `grads` is asked to reach, each measured beside what was asked (`python -m
experiments.jacobians --figures`).

Every ratio is against the better of jacfwd and jacrev (or the usual way named), interleaved minima, float32. A
floor is the same ratio of the same derivative written by hand (`floors`), timed in the same turns.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import grads
from experiments.jacobians import floors
from experiments.jacobians.networks import inputs, layers, mapped, mlp, network, plain
from experiments.jacobians.race import Entry, race
from grads.methods.evaluate import forget

SECONDS = 3.0  # of a race


@dataclass(frozen=True)
class Figure:
    """One figure: at least (or, for `most`, at most) `asked`; `detail` says what was compared, `floor` is what
    the derivative written by hand measures (None: not written).
    """

    name: str
    asked: float
    measured: float
    most: bool = False
    detail: str = ""
    floor: float | None = None

    @property
    def reached(self) -> bool:
        """Whether the measured value meets what was asked."""
        return self.measured <= self.asked if self.most else self.measured >= self.asked

    def line(self) -> str:
        """One row of the table."""
        sign, mark = ("<=" if self.most else ">="), ("yes" if self.reached else "NO")
        floor = "" if self.floor is None else f"{self.floor:.3g}"
        return f"{self.name:<44}{sign} {self.asked:<8.3g}{self.measured:>10.3g}{floor:>9}   {mark:<4}{self.detail}"

    def record(self) -> dict:
        """The figure as JSON."""
        return {**asdict(self), "reached": self.reached}


def _gain(times: dict[str, Entry], ours: str) -> dict[str, Any]:
    """The fields of a figure: how many times faster than the usual way, and the same of the hand-written form."""
    usual, name = min((t.run, n) for n, t in times.items() if n.startswith("jac"))
    detail = f"{times[ours].run * 1e3:.3g} ms against {name} {usual * 1e3:.3g} ms"
    return {
        "measured": usual / times[ours].run,
        "detail": detail,
        "floor": usual / times["hand"].run if "hand" in times else None,
    }


def _jacobian_figure(
    name: str, fun: Callable, params: Any, n: int, asked: float, batch: int = 1, hand: Callable | None = None
) -> list[Figure]:
    x = inputs(n, batch, jnp.float32)
    functions = {**plain(fun, batch > 1), "auto": mapped(grads.jacobian, fun, batch > 1)}
    times = race(functions | ({"hand": hand} if hand else {}), (params, x), seconds=SECONDS)
    out = [Figure(name, asked, **_gain(times, "auto"))]
    if name == "conv AE":
        usual = min(times["jacfwd"].temporary, times["jacrev"].temporary)
        ratio = usual / max(times["auto"].temporary, 1)
        out.append(Figure("conv AE temporary memory", 30, ratio, detail="ratio"))
    return out


def _plain_figures() -> list[Figure]:
    asked = {
        ("dense", 1): 8, ("dense", 16): 5, ("deep", 1): 6, ("deep", 16): 5, ("conv", 1): 40, ("layernorm", 1): 15,
        ("batchnorm", 1): 60, ("residual", 1): 10,
    }  # fmt: skip
    by_hand = {"dense": floors.dense, "layernorm": floors.layernorm, "residual": floors.residual}
    out = []
    for (kind, batch), ratio in asked.items():
        net = network(kind)
        fun, n = net.part("autoencoder")
        title = f"{kind} AE" + (f", batch {batch}" if batch > 1 else "")
        hand = by_hand.get(kind) if batch == 1 else None
        out += _jacobian_figure(title, fun, net.params, n, ratio, batch, hand)
    single, hand = layers((784, 400)), floors.one_layer
    out += _jacobian_figure("one layer 784-400", mlp, single, 784, 7, hand=hand)
    return out + _jacobian_figure("one layer 784-400, batch 16", mlp, single, 784, 20, 16, hand)


def _half_figures() -> list[Figure]:
    net, out = network("dense"), []
    for part in ("encoder", "decoder"):
        fun, n = net.part(part)
        for batch in (1, 16):
            out += _jacobian_figure(f"{part} alone, batch {batch}", fun, net.params, n, 1 / 1.15, batch)
        x = inputs(n, 256, jnp.float32)
        stated = lambda p, x, fun=fun: grads.jacobian(lambda v: fun(p, v), batch_axis=0)(x)
        usual = plain(fun, True, ("rev",) if part == "encoder" else ("fwd",))
        ours = {"vmap": mapped(grads.jacobian, fun, True), "auto": stated, "hand": floors.half_of_batch(part[0])}
        times = race({**usual, **ours}, (net.params, x), seconds=SECONDS)
        out.append(Figure(f"{part} alone, batch 256 (batch_axis)", 1.3, **_gain(times, "auto")))
        out.append(Figure(f"{part} alone, batch 256 (vmap)", 1 / 1.15, **_gain(times, "vmap")))
    return out


def _functional_figures() -> list[Figure]:
    out = []
    tasks = {
        "frobenius": (lambda J: jnp.sum(J**2), lambda op: op.frobenius().value),
        "trace": (jnp.trace, lambda op: op.trace().value),
        "singular values": (
            lambda J: jnp.linalg.svd(J, compute_uv=False),
            lambda op: op.svdvals().value,
        ),
    }
    rows = [
        ("dense", "frobenius", 15),
        ("dense", "trace", 15),
        ("dense", "singular values", 300),
        ("conv", "frobenius", 60),
    ]
    for kind, task, asked in rows:
        net = network(kind)
        fun, n = net.part("autoencoder")
        usual, ours = tasks[task]
        functions: dict[str, Callable] = {
            **{k: (lambda p, x, j=j, usual=usual: usual(j(p, x))) for k, j in plain(fun, False).items()},
            "ours": lambda p, x, fun=fun, ours=ours: ours(grads.jacobian_operator(lambda v: fun(p, v), x)),
        }
        if task == "singular values":
            functions["hand"] = floors.dense_svdvals
        times = race(functions, (net.params, inputs(n, 1, jnp.float32)), seconds=SECONDS)
        out.append(Figure(f"{task}, {kind} AE", asked, **_gain(times, "ours")))
    return out


def _penalty_figures() -> list[Figure]:
    net = network("dense")
    fun, n = net.part("autoencoder")

    def penalty(transform):
        per_example = mapped(transform, fun, True)
        return jax.grad(lambda p, x: jnp.mean(jnp.sum(per_example(p, x) ** 2, (1, 2))))

    def factored(p, x):
        J = grads.jacobian(lambda v: fun(p, v), output="factored")(x)
        return jnp.sum((J.left.mT @ J.left) * (J.right @ J.right.mT))

    ours = jax.grad(lambda p, x: jnp.mean(jax.vmap(factored, (None, 0))(p, x)))
    functions = {
        "jacfwd": penalty(jax.jacfwd),
        "jacrev": penalty(jax.jacrev),
        "dense": penalty(grads.jacobian),
        "ours": ours,
    }
    times = race(functions, (net.params, inputs(n, 16, jnp.float32)), seconds=SECONDS)
    usual = min(times["jacfwd"].temporary, times["jacrev"].temporary)
    memory = usual / times["ours"].temporary
    return [
        Figure("penalty gradient, batch 16, time", 20, **_gain(times, "ours")),
        Figure("penalty gradient, batch 16, memory", 15, memory, detail=f"{times['ours'].temporary / 1e6:.3g} MB"),
        Figure("penalty gradient, dense J (no figure asked)", 0, **_gain(times, "dense")),
    ]


def _batched_figures() -> list[Figure]:
    net, out = network("dense"), []
    fun, n = net.part("decoder")
    x = inputs(n, 64, jnp.float32)
    whole = lambda transform: lambda p, x: transform(lambda v: fun(p, v))(x)
    functions = {
        "jacfwd": whole(jax.jacfwd),
        "full": whole(grads.jacobian),
        "per example": whole(lambda f: grads.jacobian(f, batch_axis=0)),
    }
    times = race(functions, (net.params, x), seconds=SECONDS)
    for ours, asked in (("per example", 100), ("full", 0)):
        temporary = f", temp {times['jacfwd'].temporary / 1e6:.3g} -> {times[ours].temporary / 1e6:.3g} MB"
        gain = _gain(times, ours)
        gain["detail"] += temporary
        out.append(Figure(f"batched decoder, batch 64 ({ours})", asked, **gain))
    return out


def _compile_figures() -> list[Figure]:
    out = []
    for kind in ("dense", "deep", "conv"):
        net = network(kind)
        fun, n = net.part("autoencoder")
        x = inputs(n, 1, jnp.float32)
        best: dict[str, float] = {}
        for _ in range(5):
            for name, transform in (("jacfwd", jax.jacfwd), ("jacrev", jax.jacrev), ("auto", grads.jacobian)):
                fresh = lambda p, x, t=transform, fun=fun: t(lambda v: fun(p, v))(x)
                forget()
                jax.clear_caches()
                start = time.perf_counter()
                jax.jit(fresh).lower(net.params, x).compile()
                best[name] = min(best.get(name, np.inf), time.perf_counter() - start)
        usual = min(best["jacfwd"], best["jacrev"])
        out.append(
            Figure(f"trace + compile, {kind} AE", 1.5, best["auto"] / usual, True, f"{best['auto'] * 1e3:.3g} ms")
        )
    net = network("dense")
    fun, n = net.part("autoencoder")
    spent = []
    for _ in range(5):
        start = time.perf_counter()
        plan = grads.explain(lambda v: fun(net.params, v), jnp.zeros(n))
        spent.append((time.perf_counter() - start) * 1e3)
    out.append(Figure("analysis of the dense AE, ms", 50, min(spent), True))
    out.append(Figure("narrowest cut of the dense AE", 20, plan.width, True))
    return [
        *out,
        Figure("operations of the dense AE, millions", 55, plan.operations / 1e6, True, plan.method),
    ]


def _accuracy_figures() -> list[Figure]:
    net = network("dense")
    fun, n = net.part("autoencoder")
    x = inputs(n, 1, jnp.float32)
    jac = mapped(lambda f: grads.jacobian(f, method="chain"), fun, False)
    exact = mapped(jax.jacrev, fun, False)
    with jax.enable_x64(True):
        to64 = lambda tree: jax.tree.map(lambda a: jnp.asarray(np.asarray(a), jnp.float64), tree)
        reference = np.asarray(exact(to64(net.params), to64(x)))
        ours64 = np.asarray(jac(to64(net.params), to64(x)))
    ours = np.asarray(jac(net.params, x))
    error = lambda a: float(np.max(np.abs(a - reference)) / np.max(np.abs(reference)))
    return [
        Figure("error of chain, float32 against float64", 1e-6, error(ours), True),
        Figure("error of chain, float64 against jacrev", 1e-13, error(ours64), True),
    ]


def _workload_figures() -> list[Figure]:
    from experiments.jacobians.workloads import brusselator_times, per_example_norms

    norms = per_example_norms(floors.gradient_norms)
    gain, hand = norms["explicit"] / norms["auto"], norms["explicit"] / norms["hand"]
    out = [Figure("per-example gradient norms, batch 256", 30, gain, floor=hand)]
    for side in (24, 50, 100):
        with jax.enable_x64(True):
            times = brusselator_times(side)
        if "asdex" in times:
            out.append(Figure(f"Brusselator N = {side}, ours / asdex", 1.2, times["sparse"] / times["asdex"], True))
    return out


def _elimination_figures() -> list[Figure]:
    from experiments.jacobians.workloads import scalar_counts, scalar_times
    from grads.testing.scalar import SCALAR_PROGRAMS

    out = []
    for name, program in SCALAR_PROGRAMS.items():
        n, times, title = scalar_counts(program), scalar_times(program), name.replace("_", " ")
        theirs = f"; graphax {' / '.join(map(str, program.graphax))}" if program.graphax else ""
        detail = f"multiplications {n['fwd']} forward / {n['rev']} reverse / {n['markowitz']} Markowitz{theirs}"
        out.append(Figure(f"elimination, {title}, products", min(n["fwd"], n["rev"]), n["taken"], True, detail))
        usual = min(times["jacfwd"], times["jacrev"])
        detail = ", ".join(f"{k} {v * 1e6:.0f} us" for k, v in times.items())
        out.append(Figure(f"elimination, {title}, batch 512", 1, usual / times["elimination"], detail=detail))
    return out


GROUPS: dict[str, Callable[[], list[Figure]]] = {
    "plain": _plain_figures,
    "halves": _half_figures,
    "functionals": _functional_figures,
    "penalty": _penalty_figures,
    "batched": _batched_figures,
    "compile": _compile_figures,
    "accuracy": _accuracy_figures,
    "workloads": _workload_figures,
    "elimination": _elimination_figures,
}


def figures(groups: tuple[str, ...] = ()) -> list[Figure]:
    """Measure the figures of these groups (all by default), printing each as it comes."""
    print(f"{'figure':<44}{'asked':<11}{'measured':>10}{'by hand':>9}   met  detail")
    out: list[Figure] = []
    for name in groups or GROUPS:
        found = GROUPS[name]()
        print("\n".join(figure.line() for figure in found), flush=True)
        out += found
    return out


def record(done: list[Figure], earlier: dict | None = None) -> dict:
    """What is stored of figures: the rows and where they were measured, and the lines that a page shows.

    Rows of an earlier record that were not measured now are kept where they stand: the groups can be run one by one.
    """
    device = jax.devices()[0]
    place = {"jax": jax.__version__, "device": f"{device.platform} {device.device_kind}"}
    rows = {row["name"]: row for row in (earlier or {}).get("rows", ())}
    rows.update({f.name: {**f.record(), **place} for f in done})
    asked = [row for row in rows.values() if row["asked"]]
    lines = [f"{sum(row['reached'] for row in asked)} of {len(asked)} reached: asked, measured (written by hand)"]
    for row in asked:
        floor = "" if row.get("floor") is None else f" ({row['floor']:.3g})"
        sign, mark = ("<=" if row["most"] else ">="), ("" if row["reached"] else "  missed")
        lines.append(f"{row['name']:<40}{sign} {row['asked']:<8.3g}{row['measured']:>8.3g}{floor}{mark}")
    title = {"title": "Figures of the Jacobian methods", "command": "python -m experiments jacobians --figures"}
    return {**title, "lines": lines, "rows": list(rows.values())}
