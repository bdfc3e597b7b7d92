"""The entries of a shared log as bytes: the items of a run, and summaries.

An item is a JSON array. Its first element says what it is, the others are its fields in the order in which
the class declares them, without defaults at the end. So a replica of a later version may add fields at the
end; an older one ignores them. The run's id and metadata are the same for nearly all events of a run: they
are written only where they differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from proxy.core import json_codec
from proxy.core.events import STEP_STREAM, End, Event, Flush, GapCause, LogItem, Reset, StepGap

_CHUNK: Final = 0
_EVENT: Final = 1
_GAP: Final = 2
_RESET: Final = 3
_END: Final = 4
_FLUSH: Final = 5


class NotAnEntry(ValueError):
    """The bytes are no entry that this version of the proxy can read."""


class ItemCodec:
    """Writes and reads the items of one run.

    `metadata` is the run's, which entries leave out.
    """

    __slots__ = ("_metadata", "_run_id", "_same")

    def __init__(self, run_id: str, metadata: Mapping[str, Any]) -> None:
        self._run_id = run_id
        self._metadata = metadata
        self._same: Mapping[str, Any] = metadata  # the last mapping that was equal to the run's

    def encode(self, item: LogItem) -> bytes:
        """The bytes of `item`. Raises json_codec.NotJson where a payload cannot be written."""
        if isinstance(item, Event):
            return json_codec.encode(self._fields(item))
        if isinstance(item, StepGap):
            return json_codec.encode(
                (_GAP, item.cause.value, item.step, item.attempt, item.missed, item.workflow, item.run_id)
            )
        if isinstance(item, Reset):
            return json_codec.encode(
                (_RESET, item.step, item.attempt, item.whole, item.workflow, item.run_id)
            )
        if isinstance(item, Flush):
            return json_codec.encode((_FLUSH, item.milliseconds))
        return json_codec.encode((_END, item.status))

    def _fields(self, event: Event) -> tuple[Any, ...]:
        same = self._is_same(event)
        if same and event.type == STEP_STREAM and not event.recovered:
            return (
                _CHUNK,
                event.step,
                event.step_run_id,
                event.payload,
                event.attempt,
                event.index,
                event.at,
                event.workflow,
            )
        fields = (
            _EVENT,
            event.type,
            event.step,
            event.step_run_id,
            event.payload,
            event.attempt,
            event.index,
            event.at,
            event.recovered,
            event.workflow,
        )
        if same:
            return fields
        parent = None if event.parent is None else dict(event.parent)
        return (*fields, event.run_id, dict(event.metadata), parent, event.first_index)

    def _is_same(self, event: Event) -> bool:
        """Whether the event has the run's own id and metadata, and is of no child run."""
        metadata = event.metadata
        if metadata is not self._same:
            if metadata != self._metadata:
                return False
            self._same = metadata
        return event.run_id == self._run_id and event.parent is None and event.first_index is None

    def decode(self, body: bytes) -> LogItem:
        """The item that `body` holds. Raises NotAnEntry."""
        try:
            kind, *fields = json_codec.decode(body.decode())
            if kind == _CHUNK:
                step, step_run_id, payload, attempt, index, at, workflow = fields[:7]
                return Event(
                    STEP_STREAM,
                    self._run_id,
                    step,
                    step_run_id,
                    payload,
                    attempt,
                    index,
                    at,
                    self._metadata,
                    workflow=workflow,
                )
            if kind == _EVENT:
                type_, step, step_run_id, payload, attempt, index, at, recovered, workflow = fields[:9]
                run_id, metadata, parent, first_index = (
                    fields[9:13] if len(fields) >= 13 else (self._run_id, self._metadata, None, None)
                )
                return Event(
                    type_,
                    run_id,
                    step,
                    step_run_id,
                    payload,
                    attempt,
                    index,
                    at,
                    metadata,
                    recovered,
                    workflow,
                    parent,
                    first_index,
                )
            if kind == _GAP:
                cause, step, attempt, missed, workflow, run_id = fields[:6]
                return StepGap(GapCause(cause), step, attempt, missed, workflow, run_id)
            if kind == _RESET:
                step, attempt, whole, workflow, run_id = fields[:5]
                return Reset(step, attempt, whole, workflow, run_id)
            if kind == _END:
                return End(fields[0])
            if kind == _FLUSH:
                return Flush(int(fields[0]))
        except (ValueError, TypeError, LookupError) as error:
            raise NotAnEntry(f"an entry cannot be read ({type(error).__name__})") from None
        raise NotAnEntry(f"an entry is of an unknown kind: {str(kind)[:20]}")
