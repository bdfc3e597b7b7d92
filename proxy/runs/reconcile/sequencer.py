"""Step: one step run's own order, from facts that come in any.

Facts are noted as they come (`proxy.runs.reconcile.evidence`, `proxy.runs.reconcile.placement`);
`advance` tells what they allow:

    started (once) -> for each attempt: its chunks by index, retrying, reset -> the end (once)

An attempt is over when a later one is proven to have begun, or the step has ended. A missing index is waited
for `HOLE_WAIT`, then it is a gap. `doubt` is a cause for which chunks may be missing: a chunk that continues
exactly clears it, a later one puts a number to it, an end that comes first makes it a gap of unknown size.
"""

from __future__ import annotations

from typing import Final

from proxy.core.events import (
    STEP_RETRYING,
    STEP_SKIPPED,
    STEP_STARTED,
    GapCause,
    LiveEvent,
)
from proxy.runs.reconcile import payloads
from proxy.runs.reconcile.emitter import Story
from proxy.runs.reconcile.evidence import Outcome
from proxy.runs.reconcile.placement import Times

LOST_WAIT: Final = (
    0.05  # seconds for a missing index that is known to be lost: only what overtook it may come
)
DONE_LAG: Final = 0.75  # seconds after a hangup within which a done state means that it told the truth
HOLE_WAIT: Final = 0.25  # seconds; the engine's own buffer waits 5 s, a reader of tokens will not


class Step(Times):
    """One step run of one run."""

    __slots__ = ()

    def advance(self, story: Story, now: float, *, last: bool = False) -> None:
        """Tell all that can be told now; `last`: nothing more will come, so nothing is waited for."""
        self.due = None
        self.flowing = False
        if self.ended or self.name is None or not self._start(story, now, last):
            return
        while True:
            if not self._chunks(story, now, last):
                return
            if self.told < self.proven:
                self._retry(story)
                continue
            end = self.end
            if end is None:
                self.flowing = self.next > 0 and self.doubt is None and not self.adrift and not self.held
            elif last or now >= (tell_at := self._may_tell_end(end)):
                self._tell_end(story, end)
            else:
                self._later(tell_at)
            return

    def _may_tell_end(self, end: Outcome) -> float:
        """A state's end waits for the verified one, where that will say that a hangup cost nothing.

        A line's waits for another line that knows more.
        """
        if self.questioned is not None:
            return max(end.tell_at, self.questioned.until)
        if end.live or not self.hung_up or self.doubted_at is None:
            return end.tell_at
        return max(end.tell_at, self.doubted_at + DONE_LAG)

    def _later(self, at: float) -> None:
        self.due = at if self.due is None else min(self.due, at)

    def _start(self, story: Story, now: float, last: bool) -> bool:
        if self.started:
            return True
        if now < self.start_tell_at and not (last or self.start_live or self.held or self.end):
            self._later(self.start_tell_at)
            return False
        self.started = True
        self.start_seen = self.start_live
        story.step(STEP_STARTED, self.name or "", self.id, 1, at=self.start_at, recovered=not self.start_live)
        return True

    def _chunks(self, story: Story, now: float, last: bool) -> bool:
        """Tell the chunks of the attempt in order; False while a missing one is waited for."""
        held = self.held.get(self.told)
        while held:
            first = self.next if self.next in held else min(held)
            if first < self.next:  # told, or said to be missing, meanwhile
                self._held_bytes -= len(held.pop(first).payload)
                continue
            if first != self.next and not self.adrift:
                if self.hole_since is None:
                    self.hole_since = now
                patience = self.hole_since + (HOLE_WAIT if self.doubt is None else LOST_WAIT)
                if now < patience and not last and not self.overflowed:
                    self._later(patience)
                    return False
                story.gap(self.doubt or GapCause.UPSTREAM, self.name, self.told, first - self.next)
            self.hole_since = None
            self.adrift = False
            self._run_of(story, held, first)
        if held is not None:
            del self.held[self.told]
            if self.overflowed:
                self.overflowed = False
                self.doubt = GapCause.UPSTREAM
        self.hole_since = None
        return True

    def _run_of(self, story: Story, held: dict[int, LiveEvent], index: int) -> None:
        while (event := held.pop(index, None)) is not None:
            self._held_bytes -= len(event.payload)
            story.chunk(self.name or "", event, self.told)
            self.recent.append((index, event.at))
            if index == 0:
                self.first_at = event.at
            index += 1
        self.next = index
        if self.doubt is not None and (self.told, index - 1) > self.doubt_after:
            self.sure()

    def _retry(self, story: Story) -> None:
        failure = self.failures.get(self.told)
        text = failure.text if failure is not None else None
        live = failure is not None and failure.live
        payload = payloads.failure(text) if text is not None else None
        at = failure.at if failure is not None else None
        story.step(
            STEP_RETRYING, self.name or "", self.id, self.told, payload=payload, at=at, recovered=not live
        )
        self.told += 1
        self.past_next = self.next
        self.next = 0
        self.first_at = None
        self.adrift = False
        if live:
            self.doubt, self.doubt_next = self.doubt_next, None
        else:  # nobody told when it was over: what we took for its chunks may be the next one's
            self.hung_up = False
            self.missed_start(GapCause.UPSTREAM, self.proven_at)
        self._forget_doubles()
        story.reset(self.name or "", self.told)

    def _forget_doubles(self) -> None:
        """What a slower line told after the failure may have been of the attempt before."""
        held = self.held.get(self.told, {})
        for index in [
            index for index, event in held.items() if event.at and (index, event.at) in self.recent
        ]:
            self._held_bytes -= len(held.pop(index).payload)
        if not held:
            self.held.pop(self.told, None)

    def _tell_end(self, story: Story, end: Outcome) -> None:
        untold = not (end.live or end.stopped)  # the engine tells lines of such an end: it was lost
        lost = any(self.held.values()) or untold or self.questioned is not None
        unheard = not (end.live or self.start_seen or self.next) and self.told == 1
        unseen = GapCause.UPSTREAM if lost or unheard else None
        cause = self.doubt or unseen
        if cause is not None and end.type != STEP_SKIPPED and not self.adrift:
            story.gap(cause, self.name, self.told, None)
        self.sure()
        self.ended = True
        self.held.clear()
        self._held_bytes = 0
        story.step(
            end.type,
            self.name or "",
            self.id,
            end.attempt,
            payload=end.payload,
            at=end.at,
            recovered=not end.live,
        )

    def despair(self, story: Story) -> None:
        """Say that chunks of unknown number are missing, though the step still runs."""
        if self.doubt is not None and self.started and not self.ended:
            story.gap(self.doubt, self.name, self.told, None)
            self.sure()
            self.adrift = True
