"""What is known of JAX's primitives by name, and the programs that an equation holds.

Every table of names that an analysis needs is made of these, so that a new primitive is entered once.
"""

from collections.abc import Sequence
from typing import Any


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Elementwise: element i of the output depends on element i of the operands.
ANALYTIC = _words(
    "add add_any sub mul div neg exp exp2 expm1 log log1p logistic sin cos tan sinh cosh tanh asinh atan atanh "
    "sqrt rsqrt square integer_pow pow select_n"
)
COMPLEX_PARTS = _words("real imag conj complex")
COMPARISONS = _words("eq ne lt le gt ge and or not xor is_finite")
STOPPED = _words("stop_gradient")
ZERO_SLOPE = STOPPED | _words("sign floor ceil round")  # the derivative is zero wherever there is one
SMOOTH = ANALYTIC | _words(  # elementwise, with a derivative that may be nonzero
    "abs acos acosh asin atan2 cbrt clamp convert_element_type copy copy_p digamma erf erf_inv erfc lgamma max min "
    "reduce_precision rem"
)
ELEMENTWISE = SMOOTH | (ZERO_SLOPE - STOPPED)

# Elements that only move.
RESHAPES = _words("reshape squeeze expand_dims copy copy_p")
MOVES = RESHAPES | _words(
    "broadcast_in_dim transpose slice concatenate pad rev gather dynamic_slice split stack unstack"
)
SELECTING = _words("gather slice dynamic_slice rev transpose top_k sort")  # each output element is one of the first
SPREADING = {"pad": 0, "dynamic_update_slice": 1, "scatter": 2, "scatter-add": 2, "concatenate": None}  # operand, any
FREE = RESHAPES | STOPPED | _words("broadcast_in_dim symbolic_zeros")  # no work, and seldom a copy

# Sums and the like along axes.
REDUCTIONS = _words("reduce_sum reduce_max reduce_min reduce_prod cumsum cumprod cummax cummin cumlogsumexp")
BILINEAR = _words("dot_general conv_general_dilated")

# Equations that hold programs.
INLINED = _words("pjit jit closed_call core_call")  # they only group equations
REMAT = _words("checkpoint remat remat2")
CUSTOM = _words("custom_jvp_call custom_vjp_call")
CALLS = REMAT | CUSTOM  # a meaning of their own, but the operands and results of one program
LOOPS = _words("scan while")
FORWARD_ONLY = _words("while")
REVERSE_ONLY = _words("custom_vjp_call custom_vjp_call_jaxpr")
HOLDING = CALLS | LOOPS | INLINED | {"cond", "shard_map"}
PARTLY = _words("pad custom_linear_solve")  # transposed with respect to some operands, or under some parameters, only
DIRECTED = CUSTOM | FORWARD_ONLY | REVERSE_ONLY | PARTLY  # only where one of these is inside may a direction be closed
CALLBACKS = _words("pure_callback io_callback")


def is_program(value: Any) -> bool:
    """True for a program, closed or not."""
    return hasattr(getattr(value, "jaxpr", value), "eqns")


def opened(program: Any) -> tuple[Any, Sequence[Any]]:
    """Return (jaxpr, constants) of a program, closed or not."""
    return getattr(program, "jaxpr", program), tuple(getattr(program, "consts", ()))


def programs(eqn: Any) -> list[Any]:
    """Return every program that an equation holds: bodies, conditions, branches, what a call calls."""
    found: list[Any] = []
    for value in eqn.params.values():
        found += [v for v in (value if isinstance(value, (tuple, list)) else (value,)) if is_program(v)]
    return found


def called(eqn: Any) -> Any:
    """Return the program that an equation runs once, on its own operands; None where there is none."""
    inner = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
    return inner if eqn.primitive.name not in LOOPS and is_program(inner) else None


def names_inside(eqn: Any, opaque: frozenset[str] = _words("custom_vjp_call")) -> set[str]:
    """Name of an equation's primitive and of all primitives inside it, but for what an `opaque` one holds: its rule is
    what is differentiated.
    """
    names = {eqn.primitive.name}
    if not names & opaque:
        for inner in programs(eqn):
            for e in opened(inner)[0].eqns:
                names |= names_inside(e, opaque)
    return names


def scan_counts(params: Any) -> tuple[int, int]:
    """Return the numbers of constants and of carried values among a scan's operands."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = params["ft_in"].elts  # since JAX 0.12: trees of the operands
    return len(consts.vals), len(carry.vals)
