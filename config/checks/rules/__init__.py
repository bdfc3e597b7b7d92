"""Checks of a stream's rules."""
