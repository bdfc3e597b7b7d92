"""A small Hatchet with the quirks of the real one: for demos, tests and teams' own CI.

The model of runs is synchronous and plays on an scheduler (`state`, `script`, `recordings`); around it
stand its faces (`api` for gRPC and REST, `control_api`) and what holds them together (`engine`).
"""

from proxy.simulator.api.listener import PortTaken
from proxy.simulator.engine import Engine
from proxy.simulator.quirks import NONE, Quirks

__all__ = ["NONE", "Engine", "PortTaken", "Quirks"]
