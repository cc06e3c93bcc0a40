"""One file per table; `python -m experiments NAME` runs one."""
