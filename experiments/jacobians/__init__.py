"""The comparison of Jacobian methods: `python -m experiments jacobians`."""
