"""Every time constant of the reconciler, in seconds, each with its reason.

Facts about the engine were measured on a running one (snapshot of August 2026). The ratios that must hold
between the constants are tested in ``tests/unit/runs/reconcile/test_timing.py``.
"""

from __future__ import annotations

from typing import Final

# -- chunks ------------------------------------------------------------------------------------

HOLE_WAIT: Final = 0.25
"""How long a missing index is waited for before it is a gap. On a subscription by metadata 23 of 10,000
chunks came out of order, by milliseconds. By run id the engine's own buffer waits 5 s, which is too long
for a client that shows tokens."""

SAME_FLUSH: Final = 0.05
"""Chunks that came within this time may have come in another order than they were sent: the engine sorts the
chunks of one flush by index, and two flushes are 20 or 40 ms apart."""

LARGE_LATE: Final = 1.0
"""How late an event over 4.2 KB can be: the Postgres queue polls for it once a second."""

SETTLE: Final = 0.025
"""The least time for which an end waits for chunks that it overtook. The engine flushes each kind of event
by itself, chunks every 20 or 40 ms and an end 20 ms after it came, so an end can be 20 ms ahead. Measured
on an idle engine and at a load of 6: an end was 1 to 14 ms ahead in one step of four, never more. On a
machine at a load of 10 to 14 it was up to 45 ms ahead, with the lag of chunks still below 67 ms; so the
measured lag lengthens this wait (`proxy/runs/lag.py`)."""

AFTER_FLUSHES: Final = 0.02
"""How long after an end a hangup on an idle engine can have cut off no chunk. An end waits 20 ms for its
flush, and a chunk that was sent before it waits 40 ms at most."""

END_WAITS: Final = 0.017
"""The least time between the publication of an end and its arrival (20 ms, less what two arrivals may differ
by). If a flush of chunks came less than this before the end, it had all chunks that were sent before the
end."""

OTHER_END: Final = 0.06
"""... unless another end came within this time before it: then the second one may be flushed sooner."""

OTHER_END_AFTER: Final = 0.005
"""... or within this time after it: the two came in one flush, whose order proves nothing."""

NEXT_FLUSHES: Final = ((0.018, 0.023), (0.035, 0.042))
"""When the flush of chunks that follows one may come: at the next tick of 20 ms, or at the one after it.
Of 3,200 measured times between two flushes 16 % are in the first span and 49 % in the second; most others are
longer, with no chunk waiting. In 252 hangups on an idle engine the three lost chunks had waited for such a
flush, which met the hangup 37 to 40 ms after the flush before."""

OPENS: Final = 0.003
"""How long it takes at least until the engine serves a subscription that was asked for."""

CUT_FLUSH: Final = 0.001
"""A hangup that comes so soon after a chunk may have cut off the other chunks of the same flush."""

HANGUP_LEAST: Final = 0.003
"""A hangup that comes sooner after an end (measured: 5 ms or later) shows that something was delayed."""

SEAM: Final = 0.01
"""How long after such a hangup the next subscription may be opened."""

LAG_IDLE: Final = 0.05
"""How far chunks lag behind on an idle engine because of its flushes (measured: 4 to 50 ms)."""

SETTLE_MOST: Final = 3.0
"""How long an end waits for chunks at most, however far they lag behind. Then it is emitted with a gap."""

OVERLOADED_FOR: Final = 10.0
"""How long after a team wanted too many subscriptions the engine may still be overloaded by them. With 48
runs at once on a real engine chunks were seconds late, or lost, until the last run was over."""

END_PROOF_WAIT: Final = 0.3
"""How long an end that one subscription brought waits for the same end on a subscription that can prove the
tail."""

SIGN_WAIT: Final = 1.0
"""How long the end of a step waits for any later event on a subscription that brought the attempt's chunks,
where the engine sends no event for the end itself (a timeout, a cancellation)."""

# -- attempts ----------------------------------------------------------------------------------

HISTORY_LAG: Final = 0.1
"""How far the history is behind at least (50 to 100 ms). An answer that was asked for this long after a chunk
came, or as long as was measured (`HistoryLag`), knows the attempt that sent the chunk."""

LAG_MARGIN: Final = 1.5
"""How much further the history may be behind than what an answer lacked shows: the questions are some time
apart. On an engine at a load of 6 answers are 0.4 to 0.7 s behind."""

HISTORY_LAG_MOST: Final = 3.0
"""What counts at most as the history's lag: one answer that stays wrong must not hold up all runs."""

LAG_WINDOW: Final = 30.0
"""The largest lag of the last one to two such times counts."""

WAITING_PROOF: Final = 0.7
"""Where the history says that an attempt waits for a worker, the attempt had not begun this long before what
the answer knows. On a loaded engine answers are that far behind before anything has measured it."""

START_LAG: Final = 0.025
"""How much earlier than the attempt's start, as its worker reports it, the first chunk may be timed."""

CLOCK_JITTER: Final = 0.01
"""How much out of order threads of one worker may time their chunks."""

CLOCK_SKEW: Final = 1.0
"""How far two clocks may be apart: the engine times a failure, a worker times its chunks."""

ATTEMPT_WAIT: Final = 0.35
"""How long chunks wait for an answer of the history that says which attempt sent them; longer by as much as
the history is measured to be behind more than HISTORY_LAG. Then the attempt that is known to run is assumed.
Longer than HISTORY_LAG and two round trips."""

OVER_WAIT: Final = 1.0
"""How long after an attempt's failure became known its last chunks may come. Chunks over 4.2 KB can be a
second late (the Postgres queue polls for them)."""

RERUN_WAIT: Final = 1.0
"""How long chunks that begin again at index 0 wait for a source that names another attempt. Then the same
attempt runs again (an evicted durable task). Failures come within 60 ms, the history within 100 ms."""

SHORTEST_TIMEOUT: Final = 1.0
"""An attempt younger than this has not timed out: the engine looks for timeouts once a second."""

FAILED_WAIT: Final = 1.0
"""How long the history must say FAILED before that is final: before a retry it says FAILED for some 60
ms."""

CANCEL_WAIT: Final = 3.0
"""How long a cancellation that a subscription brought waits at most for the history, which knows whether it
was a schedule timeout: that is a failure, with a reason. The history of a loaded engine was over a second
behind."""

FAILURE_TEXT_WAIT: Final = 1.0
"""How long a failure waits for its text: a timeout's text is only in the core state, once the run is
done."""

# -- joining -----------------------------------------------------------------------------------

JOIN_WAIT: Final = 0.25
"""How long the first items wait for the first answer of the history, which has the order and the
outputs."""

JOIN_SETTLE: Final = 0.4
"""How long the first items wait for a history that agrees with the core state about which steps run. Items
of steps that ended within the history's lag before must come before later items."""

LIVE_WAIT: Final = 0.25
"""How long a change that a state shows first waits for the subscription's event, which has the details."""

PARENT_WAIT: Final = JOIN_SETTLE
"""How long a step that has begun waits for its parent's end, where no event brought that end. The history
has it."""

# -- the end -----------------------------------------------------------------------------------

REPLAY_PAUSE: Final = 0.08
"""How long the core state says done between two steps of a replay. A second done state, asked for later
than this after the first, is a proof."""

ALONE: Final = 1.0
"""The same where only the core state can show that a replay goes on."""

CLOSE_WAIT: Final = 1.0
"""How long the verified end waits for details that only the history has."""

REST: Final = 0.3
"""How long after the end of all known steps, if none begins, the core state is asked whether the run is
over."""

SILENT_YOUNG: Final = 0.25
"""How long after the first state the states are read again, while the subscriptions have brought nothing:
only the states know what happened before the subscriptions were open."""

STATE_ONLY_EVERY: Final = 1.0
"""How often the states are read of a run that has no subscription because the team's are used up."""

# -- polling -----------------------------------------------------------------------------------

POLL_NEAREST: Final = 0.05
"""The least time between two reads of one state: many reasons at once are one read each 50 ms."""

POLL_FIRST: Final = 0.1
"""How long after an answer that decided nothing the state is read again; doubled each time."""

POLL_SLOWEST: Final = 5.0
"""The most that this time grows to: an open question costs one call per 5 s."""

AWAY_FIRST: Final = 0.3
"""How long a source that gave no answer is not asked; doubled each time."""

AWAY_SLOWEST: Final = 5.0
"""The most that this time grows to. Not shorter, because the calls of a thousand runs must not keep a source
down."""

END_POLLS: Final = 6
"""Reads of the core state after a hint of the run's end: after 0, 0.1, 0.3, 0.7, 1.5 and 3.1 s."""
