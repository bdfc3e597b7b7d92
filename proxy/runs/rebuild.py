"""Restate: a run's lifecycle events from its states alone, as one who comes late is told them."""

from __future__ import annotations

from typing import Final

from proxy.core.events import CoreState, Event, PastState
from proxy.runs.reconcile.reconciler import History

LONG: Final = 60.0  # seconds; longer than anything is waited for


def restate(core: CoreState, past: PastState | None) -> list[Event]:
    """Every lifecycle event that the states tell, recovered, in order; the run's end only if it is done."""
    history = History(core.run_id, has_past=past is not None)
    history.core(core, 0.0)
    if past is not None:
        history.past(past, LONG)
    history.core_look.asking(LONG)
    history.core(core, LONG)  # taken at its word: only what is asked for again can be doubted
    history.tick(2 * LONG)
    return [item for item in history.take() if isinstance(item, Event)]
