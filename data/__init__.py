"""Data sets: `load(name, ...)` returns a `Dataset`."""
