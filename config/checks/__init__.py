"""Checks a configuration file and reports every problem with its place."""
