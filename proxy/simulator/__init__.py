"""A Hatchet in miniature that lies like the real one: for demos, tests and teams' own CI.

The model of runs is synchronous and plays on an agenda (`core`, `journal`, `bus`, `feeds`, `reorder`); around
it stand its faces (`wire` for gRPC, `rest`, `control`) and what holds them together (`engine`).
"""

from proxy.simulator.engine import Engine, PortTaken
from proxy.simulator.quirks import NONE, Quirks

__all__ = ["NONE", "Engine", "PortTaken", "Quirks"]
