"""Metric names in words: a name carries its unit ("negative_elbo_nats"), people read it beside the number."""

_WORDS = {"elbo": "ELBO", "nll": "NLL", "kl": "KL", "mse": "MSE", "mae": "MAE", "rmse": "RMSE"}
_UNITS = {"mse": "scaled units squared", "mae": "scaled units", "rmse": "scaled units"}


def words(name: str) -> tuple[str, str]:
    """Return (text, unit) of a metric: "kl_nats" -> ("KL", "nats per example"); the unit may be empty."""
    if name == "bits_per_dim":
        return "bits per dimension", "bits"
    if name == "perplexity":
        return "perplexity", "per symbol"
    if name == "density_bits_per_dim":
        return "bits per dimension of a density", "bits, of scaled values"
    unit = "nats per example" if name.endswith("_nats") else _UNITS.get(name.split("_")[-1], "")
    return " ".join(_WORDS.get(word, word) for word in name.removesuffix("_nats").split("_")), unit
