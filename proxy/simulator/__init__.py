"""A small Hatchet with the quirks of the real one: for demos, tests and teams' own CI.

The model of runs is synchronous and runs on a scheduler (`state`, `script`, `recordings`). `api` serves it
over gRPC and REST, `control_api` controls it, `faults` breaks it, and `engine` puts the parts together.
`quirks` lists the unexpected behaviour of the real engine.
"""

from proxy.simulator.api.listener import PortTaken
from proxy.simulator.engine import Engine
from proxy.simulator.quirks import NONE, Quirks

__all__ = ["NONE", "Engine", "PortTaken", "Quirks"]
