"""What a draw of steps in turn is told."""

import math
from typing import Any

from models.config import ConfigError


def heat(model: Any, mean: bool, temperature: float = 1.0, top_k: int = 0) -> dict[str, Any]:
    """Return the arguments of `distributions.Sequence.sample`, none at temperature 1 of all symbols.

    Raises ConfigError for a model that does not write in turn, for likeliest steps (`mean`), top_k of what is no
    symbol, and out of range.
    """
    if temperature == 1 and not top_k:
        return {}
    if mean or not hasattr(model.decoder, "sequence"):
        why = "with mean=False" if mean else "of decoder recurrent (of strokes: autoregressive) or transformer"
        raise ConfigError(f"temperature and top_k are of draws of steps in turn: {why}")
    if top_k and not model.symbolic:
        raise ConfigError("top_k is a number of symbols, moves have none: give temperature alone")
    if not 0 < temperature < math.inf or top_k < 0:
        raise ConfigError(f"temperature must be above 0 and top_k at least 0 (all), got {temperature} and {top_k}")
    return {"temperature": temperature, "top_k": top_k}
