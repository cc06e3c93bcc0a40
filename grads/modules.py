"""Flax modules as functions that can be differentiated; Flax is imported when first used."""

from collections.abc import Callable, Mapping
from typing import Any

from jaxtyping import PyTree

__all__ = ["of_module"]


def of_module(
    module: Any, x: PyTree, wrt: str = "input", *, variables: Any = None, method: str = "__call__", **kwargs: Any
) -> tuple[Callable[[PyTree], PyTree], PyTree]:
    """Return (fun, at) with fun(at) = module(x): `jacobian(fun)(at)` is the module's Jacobian at x.

    wrt        "input": at = x; "params": at = the parameters (`nnx.Param` state, or Linen's "params" collection)
    variables  of a Linen module that is not bound (`module.bind(variables)` carries its own)
    method     the method's name; kwargs go to it (train=False, a key, ...)

    NNX modules are merged as copies, so a call never changes the module given; state that a call would change (running
    averages) is dropped. Raises ValueError for another `wrt` or a Linen module without variables, TypeError for
    anything that is not a Flax module.
    """
    if wrt not in ("input", "params"):
        raise ValueError(f'wrt is "input" or "params", got {wrt!r}')
    from flax import linen, nnx

    if isinstance(module, (nnx.Module, linen.Module)) and not callable(getattr(module, method, None)):
        raise AttributeError(f"{type(module).__name__} has no method {method!r} to call")

    if isinstance(module, nnx.Module):
        if variables is not None:
            raise ValueError("variables belong to a Linen module; an NNX module carries its own: leave them out")
        graph, params, rest = nnx.split(module, nnx.Param, ...)

        def call(params: Any, x: PyTree) -> Any:
            return getattr(nnx.merge(graph, params, rest, copy=True), method)(x, **kwargs)

    elif isinstance(module, linen.Module):
        if variables is None and module.scope is None:
            raise ValueError("a Linen module needs its variables: pass variables=..., or module.bind(variables)")
        module, variables = module.unbind() if variables is None else (module, variables)
        if not isinstance(variables, Mapping) or (variables and "params" not in variables):
            got = sorted(variables) if isinstance(variables, Mapping) else variables
            raise ValueError(
                f'variables are what module.init returns, with a collection "params" (and others), got {got}'
            )
        rest = {name: value for name, value in variables.items() if name != "params"}
        params = variables.get("params", {})

        def call(params: Any, x: PyTree) -> Any:
            mutable = [name for name in rest if name != "params"]
            return module.apply({**rest, "params": params}, x, method=method, mutable=mutable, **kwargs)[0]

    else:
        raise TypeError(f"of_module takes a Flax NNX or Linen module, got {type(module).__name__}")
    if wrt == "input":
        return lambda x: call(params, x), x
    return lambda params: call(params, x), params
