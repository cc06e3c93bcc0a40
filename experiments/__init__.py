"""One file per table or figure; run as `python -m experiments.NAME`."""
