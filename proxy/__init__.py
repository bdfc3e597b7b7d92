"""A stream proxy for Hatchet: workflow runs as Server-Sent Events, shaped by YAML."""

__version__ = "0.1.0"
