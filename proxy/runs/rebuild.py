"""A run's lifecycle events from its states alone, as a client that comes late gets them."""

from __future__ import annotations

from typing import Final

from proxy.core.events import Event
from proxy.core.observations import CoreState, PastState
from proxy.runs.reconcile.reconciler import Reconciler

LONG: Final = 60.0  # seconds: longer than anything is waited for


def rebuild(core: CoreState, past: PastState | None) -> list[Event]:
    """Every lifecycle event that the states tell, recovered, in order; the run's end only if it is done."""
    reconciler = Reconciler(core.run_id, has_history=past is not None)
    reconciler.core(core, 0.0)
    if past is not None:
        reconciler.history(past, LONG)
    reconciler.core_poll.begin(LONG)
    reconciler.core(core, LONG)  # taken at its word: only what is asked for again can be doubted
    reconciler.tick(2 * LONG)
    return [item for item in reconciler.take() if isinstance(item, Event)]
