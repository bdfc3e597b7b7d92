"""Streams of several runs: which runs belong to one, and how long it is kept."""
