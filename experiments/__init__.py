"""Tables, benchmarks, sweeps and the comparison of Jacobian methods; `python -m experiments` lists them."""
