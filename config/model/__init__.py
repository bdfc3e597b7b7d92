"""The blocks of the YAML files, declared field by field, and their resolution to what the proxy uses.

The modules here do without ``from __future__ import annotations``: pydantic would compile the text of each
annotation again, a quarter of the time that these classes take at each start.
"""
