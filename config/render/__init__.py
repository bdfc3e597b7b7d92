"""Writes what is derived from the model: reports, JSON Schema, reference documentation, a starter file."""
