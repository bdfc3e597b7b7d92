"""Quirks: the ways in which Hatchet's event stream lies, each with its own switch.

All are on by default, because the real engine has them all. A name is written with dashes in scripts, on the
command line and over the control port, with underscores in Python. `newer_engine` is the one exception: it
stands for engines after August 2026 and is off.
"""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass, field
from typing import Any


def _quirk(fact: str, on: bool = True) -> Any:
    return field(default=on, metadata={"fact": fact})


@dataclass(frozen=True, slots=True)
class Quirks:
    """Which facts of the engine hold."""

    flush_buffers: bool = _quirk(
        "each kind of event waits in a buffer of its own, 0 to 40 ms until its flush: ends overtake chunks"
    )
    sorted_flush: bool = _quirk(
        "by metadata, the chunks of one flush are sorted by index across runs and steps"
    )
    subscription_cost: bool = _quirk(
        "a flush calls the tenant's subscriptions one after the other, 2 ms each: a dozen delay all chunks"
    )
    false_end_of_dag: bool = _quirk(
        "a DAG that begins to run is called COMPLETED with hangup, 40-90 ms after the trigger"
    )
    false_end_of_attempt: bool = _quirk(
        "a failed attempt with retries left is called the run's FAILED with hangup"
    )
    early_subscription_waits: bool = _quirk(
        "subscribed before the read side knows the run: looked up again a second later, ten times"
    )
    five_second_hold: bool = _quirk(
        "by run id, chunks are held for 5 s from who has not seen index 0 of the attempt"
    )
    finished_reads_queued: bool = _quirk(
        "GetRunDetails calls a finished step QUEUED, without output, while the run goes on"
    )
    done_after_hangup: bool = _quirk("GetRunDetails says done up to 0.25 s after the hangup")
    history_lag: bool = _quirk("the REST history is 50-100 ms behind")
    silent_timeout: bool = _quirk("a step that times out gives no step event")
    silent_cancel: bool = _quirk("a cancelled step gives no step event")
    silent_skip: bool = _quirk("a skipped step gives no end")
    late_large_payloads: bool = _quirk("messages over 8 KB are overtaken by the hangup, and lost if they are")
    bad_chunk_ends_all: bool = _quirk(
        "a chunk that is not UTF-8 ends every subscription to its run with INTERNAL"
    )
    late_started: bool = _quirk(
        "STARTED comes after its parent's COMPLETED, and may come after the first chunk"
    )
    late_backoff: bool = _quirk("a retry with backoff starts up to half a minute later than it should")
    late_timeout: bool = _quirk("a timeout is noticed up to a second late")
    cancel_forgets_results: bool = _quirk(
        "after a user's cancellation finished steps read CANCELLED in GetRunDetails, without output"
    )
    false_done_of_replay: bool = _quirk(
        "while a DAG is replayed, GetRunDetails says done between two steps, with the results of before"
    )
    chunks_after_cancel: bool = _quirk("a worker that does not notice a cancellation goes on streaming")
    metadata_hangup: bool = _quirk(
        "by metadata, the stream hangs up when no run seen is active; COMPLETED takes one off"
    )
    metadata_disorder: bool = _quirk("by metadata, 2 of 1,000 chunks come out of order")
    traceparent: bool = _quirk("the engine puts a traceparent into every run's metadata")
    reordered_outputs: bool = _quirk("outputs in the history have their keys reordered")
    graceful_restart: bool = _quirk(
        "an engine that shuts down ends every stream with OK, then refuses connections"
    )
    message_limit: bool = _quirk("the engine takes no message over 4 MiB")
    rate_limit: bool = _quirk("1000 calls per second and token, ten times that for the dispatcher")
    lifecycle_events: bool = _quirk("off: SERVER_DISABLE_TENANT_PUBS, only chunks are sent")
    newer_engine: bool = _quirk(
        "subscribes first, then looks the run up; tells the end to those who come after it", on=False
    )

    def switched(self, **switches: bool) -> Quirks:
        """With some quirks on or off. Raises ValueError for a name that is none."""
        return dataclasses.replace(self, **{attribute(name): on for name, on in switches.items()})


NONE = Quirks(
    **{f.name: f.name in ("lifecycle_events", "metadata_hangup") for f in dataclasses.fields(Quirks)}
)
"""An engine that never lies (lifecycle events are sent; that is no lie)."""


def attribute(name: str) -> str:
    """The attribute of a quirk's written name. Raises ValueError with a proposal."""
    known = {f.name for f in dataclasses.fields(Quirks)}
    plain = name.replace("-", "_")
    if plain in known:
        return plain
    near = difflib.get_close_matches(plain, sorted(known), 1)
    hint = f", did you mean '{near[0].replace('_', '-')}'?" if near else ""
    raise ValueError(f"there is no quirk '{name}'{hint}")


def facts() -> list[tuple[str, bool, str]]:
    """Each quirk's written name, its default and its fact."""
    return [
        (f.name.replace("_", "-"), bool(f.default), f.metadata["fact"]) for f in dataclasses.fields(Quirks)
    ]
