"""Every time constant of the reconciler, in seconds, each with its reason.

Facts about the engine were measured on a running one (snapshot of August 2026). The ratios that must hold
between the constants are tested in ``tests/unit/runs/reconcile/test_timing.py``.
"""

from __future__ import annotations

from typing import Final

# -- chunks ------------------------------------------------------------------------------------

HOLE_WAIT: Final = 0.25
"""A missing index is waited for so long, then it is a gap. On a subscription by metadata 23 of 10,000 chunks
came out of order, by milliseconds; by run id the engine's own buffer waits 5 s, which a reader of tokens will
not."""

SETTLE: Final = 0.025
"""The least time for which an end waits for chunks that it overtook. The engine flushes each kind of event by
itself, chunks every 20 or 40 ms and an end 20 ms after it came: so an end can be 20 ms ahead. Measured on an
idle engine and at a load of 6: 1 to 14 ms in one step of four, never more."""

SEAM_AFTER: Final = 0.012
"""A subscription that is hung up so long after an end, and opened again at once, counts as unbroken: of 170
last steps those chunks that were lost between the two were lost at hangups 8 to 11 ms after the end."""

SEAM: Final = 0.01
"""... when the next one is opened within this time."""

LAG_IDLE: Final = 0.05
"""So far chunks lag behind on an idle engine, by those flushes (4 to 50 ms measured)."""

LAG_FACTOR: Final = 1.5
"""Where they lag further, an end waits so many times the excess: the chunks that are still to come are later
than those that were measured."""

SETTLE_MOST: Final = 3.0
"""An end waits no longer than this for chunks, however far they lag behind: then it is emitted with a gap."""

VOUCH_WAIT: Final = 0.3
"""An end that one subscription brought waits so long for the same end on a subscription that can prove the
tail."""

SIGN_WAIT: Final = 1.0
"""The end of a step for which the engine sends no event (a timeout, a cancellation) waits so long for any
later event on a subscription that brought the attempt's chunks."""

# -- attempts ----------------------------------------------------------------------------------

HISTORY_LAG: Final = 0.1
"""The history is so far behind (50 to 100 ms): an answer that was asked for so long after a chunk came
knows the attempt that sent it."""

WAITING_PROOF: Final = 0.3
"""The history says that an attempt waits for a worker: so it had not begun this long before it was asked.
Three times its lag, because that grows under load."""

START_LAG: Final = 0.025
"""A worker's first chunk may be timed so much before the worker's own word that the attempt began."""

CLOCK_JITTER: Final = 0.01
"""Threads of one worker time their chunks this much out of order."""

CLOCK_SKEW: Final = 1.0
"""A failure is timed by the engine, a chunk by its worker: two clocks that may be this far apart."""

ATTEMPT_WAIT: Final = 0.35
"""Chunks wait so long for an answer of the history that says which attempt they belong to; then the attempt
that is known to run is believed. Longer than HISTORY_LAG and two round trips."""

RERUN_WAIT: Final = 1.0
"""Chunks that begin again at index 0 are taken for the same attempt, run again (an evicted durable task),
when for so long nothing has said that another attempt began. Failures come within 60 ms, the history within
100."""

SHORTEST_TIMEOUT: Final = 1.0
"""The engine looks for attempts that take too long once a second: before that none has timed out."""

FAILED_WAIT: Final = 1.0
"""FAILED in the history is believed to be final when it has stood so long: one that will be retried reads
FAILED for some 60 ms."""

CANCEL_WAIT: Final = 1.0
"""A cancellation that a subscription brought waits so long for the history, which knows whether it was a
schedule timeout: a failure, with the reason."""

FAILURE_TEXT_WAIT: Final = 1.0
"""A failure waits so long for its text: a timeout's is in the core state alone, once the run is done."""

# -- joining -----------------------------------------------------------------------------------

JOIN_WAIT: Final = 0.25
"""The first items wait so long for the first answer of the history, which knows the order and the outputs."""

JOIN_SETTLE: Final = 0.4
"""... and so long for an answer that agrees with the core state about what runs: what finished within the
history's lag before the join must come before what happens after it."""

LIVE_WAIT: Final = 0.25
"""What a state says first waits so long for the event of a subscription, which has the details."""

PARENT_WAIT: Final = JOIN_SETTLE
"""A step that has begun waits so long for its parent's end, where no event brought that. The history has
it."""

# -- the end -----------------------------------------------------------------------------------

REPLAY_PAUSE: Final = 0.08
"""Between two steps of a replay the core state says done for so long: a second done state that was asked for
later than this is a proof."""

ALONE: Final = 1.0
"""... and so long where nothing but the core state can say that a replay goes on."""

CLOSE_WAIT: Final = 1.0
"""The verified end waits so long for the details that only the history has."""

REST: Final = 0.3
"""When all known steps have ended and for so long none has begun, the core state is asked whether the run is
over."""

SILENT_YOUNG: Final = 0.25
"""For so long after the first state, while the subscriptions have brought nothing, the states are read again:
only they know what happened before the subscription was open."""

STATE_ONLY_EVERY: Final = 1.0
"""How often the states are read of a run that has no subscription because the team's are used up."""

# -- polling -----------------------------------------------------------------------------------

POLL_NEAREST: Final = 0.05
"""Two reads of one state are never nearer than this: a storm of reasons is one read each 50 ms."""

POLL_FIRST: Final = 0.1
"""An answer that decided nothing is asked for again after so long, then at doubled distances."""

POLL_SLOWEST: Final = 5.0
"""... up to this: an open question costs one call per 5 s."""

AWAY_FIRST: Final = 0.3
"""A source that gave no answer is left alone for so long, doubled each time."""

AWAY_SLOWEST: Final = 5.0
"""... up to this: a thousand runs must not keep a source down."""

END_POLLS: Final = 6
"""Reads after something that looked like the end: after 0, 0.1, 0.3, 0.7, 1.5 and 3.1 s."""
