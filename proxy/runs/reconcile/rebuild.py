"""A run's lifecycle events from its states alone, as a client that comes late gets them."""

from __future__ import annotations

from typing import Final

from proxy.core.events import Event
from proxy.core.observations import CoreState, PastState
from proxy.runs.reconcile.reconciler import Reconciler

LONG: Final = 60.0  # seconds: longer than any wait of the reconciler


def rebuild(core: CoreState, past: PastState | None) -> list[Event]:
    """Every lifecycle event that the states contain, recovered, in order; the run's end only if done."""
    reconciler = Reconciler(core.run_id, has_history=past is not None)
    if past is not None and past.workflow is not None:
        reconciler.name_workflow(past.workflow)
    reconciler.core(core, 0.0)
    if past is not None:
        reconciler.history(past, LONG)
    reconciler.core_poll.begin(LONG)
    reconciler.core(core, LONG)  # a second done state: the reconciler waits for no other one
    reconciler.tick(2 * LONG)
    return [item for item in reconciler.take() if isinstance(item, Event)]
