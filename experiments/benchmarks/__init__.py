"""Measurements of speed; `python -m experiments NAME` runs one."""
