"""What is known of one run: live events and states in; ordered items, what to look at next and the end out.

The law: whatever was lost, doubled or invented on the way, each lifecycle event that the state can tell
comes out exactly once, in a legal order (`proxy.runs.reconcile.sequencer` has a step's own), and the end
comes out exactly when the core state says done. Nothing here does IO, reads a clock or knows a loop: every
input brings its `now`.

    in     opened, live, closed (a line's life)      core, past, past_away, tick (what was asked for)
    out    take() -> items      core_look.at, past_look.at -> when to read which state
           due -> when to tick      needs -> steps whose next chunks the engine would hold back      over

The three sources tell different parts of the truth: a line what happens, the core state names and the end,
the history the past. So nothing is told before the core state has come, and, within patience, the history.
"""

from __future__ import annotations

from typing import Final

from proxy.core.events import CoreState, GapCause, Kind, LiveEvent, PastState, Status
from proxy.runs.reconcile.closing import Closing
from proxy.runs.reconcile.known import END_LOOKS
from proxy.runs.reconcile.outcomes import PAST_PATIENCE
from proxy.runs.reconcile.sequencer import Step
from proxy.runs.reconcile.subscription_state import Line

WAITING_PATIENCE: Final = 2.0  # where the history says that no retry streams yet: it lags, or they are old
PLACE_PATIENCE: Final = 0.35  # seconds until a line that nobody placed is believed to tell the proven attempt
REST: Final = 0.3  # seconds after the last step's end in which the next is created, or the run's end is told
JOIN_PATIENCE: Final = (
    6.0  # seconds of silence after which a step joined late is said to be: the engine's hold is over
)


class History(Closing):
    """One run, merged."""

    # -- a line's life --

    def opened(self, now: float, *, ordered: bool) -> Line:
        """A subscription is on the wire; what it tells comes with the line that this returns."""
        line = Line(ordered=ordered, since=now)
        alone = not self._lines
        self._lines.add(line)
        if self._heard is None:
            self._heard = now
        if alone and self._core is not None:  # what happened while nobody listened?
            self._want_past(now)
            self.core_look.want(now)
        return line

    def closed(
        self, line: Line, now: float, cause: GapCause | None = GapCause.UPSTREAM, *, later: float = 0.0
    ) -> None:
        """A subscription is over; `cause` None: we ended it, others go on. `later`: seconds to the look."""
        if line not in self._lines:
            return
        for step_id in list(line.limbo):
            if self._ambiguous(line, step_id):
                del line.limbo[step_id]
                self._step(step_id).suspect(cause or GapCause.UPSTREAM, now)
            else:
                self._place(line, step_id, now)
        self._lines.discard(line)
        self._vouches_no_more(line, now)
        if self._broke(cause):
            self._broke_at = now
        missing = self._left_untold(line, cause, now)
        if missing or not self._lines:
            self.breaks += 1
        for step in missing:
            step.suspect(cause or GapCause.UPSTREAM, now, hung_up=self._ended_live is not None)
        if cause is None and self._lines:
            self._settle(now)
            return
        self._end_looks = END_LOOKS
        self.core_look.want(now + later)
        self._settle(now)

    def lost_chunk(self, now: float) -> None:
        """The engine could not tell a chunk of one of the steps that stream, however many lines are left."""
        for step in self._under_way():
            step.suspect(GapCause.UPSTREAM, now)
        self._settle(now)

    def live(self, line: Line, event: LiveEvent, now: float) -> None:
        """One event of this run, told on `line`."""
        told = self.flow(line, event, now)
        if told is not None:
            self._story.items.append(told)
            return
        self._heard = line.heard = now
        step_id = event.step_run_id
        if event.kind is Kind.STREAM and step_id is not None:
            step = self._steps.get(step_id)
            if step is not None and step.flowing and self._double(line, step, event):
                return
            line.spoke = True
            self._chunk(line, self._step(step_id), event, now)
        elif step_id is None:
            line.spoke = True
            self._run_event(line, event, now)
        else:
            line.spoke = True
            self._step_event(line, self._step(step_id), event, now)
        if event.hangup and step_id is not None:
            self._smells_of_end(now)
        self._settle(now)

    # -- states --

    def core(self, state: CoreState, now: float) -> None:
        """A core state, asked for when `core_look.asking` was called."""
        self._read_core(state, now)
        self._settle(now)

    def past(self, state: PastState | None, now: float) -> None:
        """The history's answer (None: the run is unknown), asked for when `past_look.asking` was called."""
        self._read_past(state, now)
        self._settle(now)

    def past_away(self, now: float, jitter: float = 1.0) -> None:
        """The history gives no answer; what only it knows stays open."""
        self._past_asked = True
        self._past_gone = True
        self.past_look.away(now, jitter)
        self._settle(now)

    # -- time --

    def tick(self, now: float) -> None:
        """So much time has passed: whatever was waited for until now is waited for no longer."""
        if not self.over and self._heard is not None and now >= self._check_at(self._heard):
            self._heard = now
            self._checked = now
            self.core_look.want(now)
            self._want_past(now)
        if not self.over and self._rested is not None and now >= self._rested + REST:
            self._rested = float(
                "inf"
            )  # once: the next step has its beginning told, or `check_after` is there
            self._smells_of_end(now)
        self._settle(now)

    def _settle(self, now: float) -> None:
        """Tell what can be told, decide what to wait for."""
        self.due = None
        self.stirred = True
        if self.over or self._core is None:
            return
        closing = self._closing is not None and self._may_close(now)
        if not self._telling and not closing and not self._may_begin(now):
            return
        if not self._telling:
            self._telling = True
            self._joined(now)
        self._place_all(now)
        if closing:
            self._close(now)
            return
        for step in self._in_order():
            if step.end is not None and step.end.stopped and not (step.end.live or step.ended):
                self._ask_of_stop(step, now)
            step.advance(self._story, now)
            if step.due is not None:
                self._due(step.due)
            self._despair(step, now)
        if self._heard is not None:
            self._due(self._check_at(self._heard))
        self._rest(now)

    def _check_at(self, heard: float) -> float:
        """When the states are read for no other reason than that nothing was heard."""
        return (min(heard, self._checked) if self._several else heard) + self.check_after

    def _rest(self, now: float) -> None:
        """Every step has ended: if no next one begins, that is the end, though nobody tells it."""
        if not self._resting:
            self._rested = None
        elif self._rested is None:
            self._rested = now
        if self._rested is not None and self._ended_live is None and self._rested < float("inf"):
            self._due(self._rested + REST)

    def _place_all(self, now: float) -> None:
        waits = self.has_past and (not self._past_gone or self.past_look.aways < 2)
        for line in self._lines:
            for step_id, limbo in list(line.limbo.items()):
                at = limbo.since + (WAITING_PATIENCE if limbo.waits else PLACE_PATIENCE)
                if not waits or now >= at:
                    self._place(line, step_id, now)
                else:
                    self._due(at)

    def _despair(self, step: Step, now: float) -> None:
        if step.doubt is GapCause.JOINED_LATE and step.running and step.doubted_at is not None:
            if now >= step.doubted_at + JOIN_PATIENCE:
                step.despair(self._story)
            else:
                self._due(step.doubted_at + JOIN_PATIENCE)

    def _may_begin(self, now: float) -> bool:
        began = self._began if self._began is not None else now
        if (
            self.has_past
            and not self._past_gone
            and not self._past_asked
            and self._closing is None
            and now < began + PAST_PATIENCE
        ):
            self._due(began + PAST_PATIENCE)
            return False
        return self._closing is None

    def _joined(self, now: float) -> None:
        """What was running or over when we came: its chunks so far nobody has."""
        past = {p.step_run_id: p for p in self._past.steps} if self._past is not None else {}
        for step in self._steps.values():
            known = past.get(step.id)
            queued = known is not None and known.status is Status.QUEUED and known.retry_count == 0
            heard = queued and bool(self._lines)
            waiting = heard and not (step.running or step.failures or step.end or self._closing)
            if not step.start_live and not waiting:
                step.missed_start(GapCause.JOINED_LATE, now)
