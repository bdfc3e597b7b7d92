"""Reads YAML text into values that know their line and column, and substitutes variables."""
