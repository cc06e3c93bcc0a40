"""The method `structured`: one direction, but seeded with what is known instead of with the identity.

The first segments of a forward pass (the last of a reverse pass) whose local Jacobians are a weight matrix or a
diagonal are multiplied out, and only the rest of the program is differentiated column by column (row by row). For one
dense layer nothing is left. `chain` contains these plans; `structured` alone shows what the seeds are worth.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from grads.calls.problem import FlatProblem
from grads.costs.cost import Cost
from grads.methods import chain as chains
from grads.methods.order import JacobianChain, Step
from grads.methods.registry import register_method
from grads.programs.local import Segment


def supports(problem: FlatProblem) -> str | None:
    """The program begins or ends with segments of known structure."""
    reason = chains.supports(problem)
    if reason is not None:
        return reason
    chain = chains.plan_chain(problem)
    if not (chain.segments[0].structured or chain.segments[-1].structured):
        return "neither the first nor the last operation has a known Jacobian: use 'chain', 'fwd' or 'rev'"
    if math.isinf(plan(problem)[1].seconds):
        return "the rest of the program has no derivative in the direction of the seed: use 'chain' or 'auto'"
    return None


def plan(problem: FlatProblem) -> tuple[JacobianChain, Step]:
    """The cheaper of: structured prefix, then tangents; structured suffix, then cotangents."""
    chain = chains.plan_chain(problem)
    last = len(chain.segments)
    prefix, suffix = _known(chain.segments), _known(chain.segments[::-1])
    if prefix == last:
        return chain, chain.root
    options = []
    if prefix:
        options.append(_one_direction(chain, "tangent", prefix))
    if suffix:
        options.append(_one_direction(chain, "adjoint", last - suffix))
    return chain, min(options, key=lambda s: s.seconds)


def _known(segments: Sequence[Segment]) -> int:
    """Length of the run of structured segments with at most one weight matrix: a seed, not a plan."""
    weights = 0
    for k, s in enumerate(segments):
        weights += s.kind == "weight"
        if not s.structured or weights > 1:
            return k
    return len(segments)


def _one_direction(chain: JacobianChain, action: str, split: int) -> Step:
    last = len(chain.segments)
    seed = chain.steps[0, split] if action == "tangent" else chain.steps[split, last]
    seconds, operations = chain.push_cost(action, split)
    return Step(action, 0, last, split, seed.seconds + seconds, seed.operations + operations)


def cost(problem: FlatProblem) -> Cost:
    """Cost of the cheaper direction."""
    return chains.step_cost(problem, *plan(problem))


def build(problem: FlatProblem) -> Callable:
    """Emit the cheaper direction."""
    return chains.emit(replace(problem, options=replace(problem.options, factored=False)), *plan(problem))


register_method("structured", supports=supports, cost=cost, build=build, within="chain")
