"""A Hatchet in miniature that lies like the real one: for demos, tests and teams' own CI.

The model of runs is synchronous and plays on an scheduler (`state`, `script`, `recordings`); around it
stand its faces (`api` for gRPC and REST, `control_api`) and what holds them together (`engine`).
"""

from proxy.simulator.engine import Engine, PortTaken
from proxy.simulator.quirks import NONE, Quirks

__all__ = ["NONE", "Engine", "PortTaken", "Quirks"]
