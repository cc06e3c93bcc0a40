"""Judging a Jacobian: references, measurements, and a catalogue of problems with known derivatives."""
