"""Quirks: the one list of what Hatchet's engine does against expectation, each with its own switch.

All are on by default, because the real engine has them all; `newer_engine` alone is off: it stands for
engines after August 2026. A name is written with dashes in scripts, on the command line and over the control
port, with underscores in Python. docs/engine.md has the same list.
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
        "each kind of event waits in its own buffer, up to 40 ms, for a flush: ends overtake chunks by up to "
        "20 ms, and the end of a run may close a subscription before its last chunks"
    )
    sorted_flush: bool = _quirk(
        "by metadata, the chunks of one flush are sorted by index, across runs and steps"
    )
    subscription_cost: bool = _quirk(
        "a flush calls all subscriptions of the tenant one after the other, 2 ms each: with 24 of them "
        "chunks lag by seconds"
    )
    false_end_of_dag: bool = _quirk(
        "a DAG that begins to run gives WORKFLOW_RUN COMPLETED with hangup, 40-90 ms after the trigger"
    )
    false_end_of_attempt: bool = _quirk(
        "a failed attempt with retries left gives WORKFLOW_RUN FAILED with hangup"
    )
    early_subscription_waits: bool = _quirk(
        "a subscription by run id that comes before the read side knows the run is looked up again each "
        "second, ten times"
    )
    five_second_hold: bool = _quirk(
        "by run id, chunks of an attempt whose index 0 the subscription has not seen are held for 5 s"
    )
    finished_reads_queued: bool = _quirk(
        "GetRunDetails calls a finished step QUEUED, without output, while the run goes on"
    )
    done_after_hangup: bool = _quirk("GetRunDetails says done up to 0.25 s after the hangup")
    history_lag: bool = _quirk("the REST history is 50-100 ms behind")
    silent_timeout: bool = _quirk("a step that times out gives no step event")
    silent_cancel: bool = _quirk(
        "a step that is cancelled by a user, itself or its parents gives no step event"
    )
    silent_skip: bool = _quirk("a skipped step gives no end")
    late_large_payloads: bool = _quirk(
        "with the Postgres queue, messages over 4.2 KB come up to 1 s late: later ones overtake them, and "
        "the hangup loses them"
    )
    bad_chunk_ends_all: bool = _quirk(
        "a chunk that is not UTF-8 ends every subscription to its run with INTERNAL"
    )
    late_started: bool = _quirk(
        "STARTED comes after the COMPLETED of the step's parent, and may come after the step's first chunk"
    )
    late_backoff: bool = _quirk("a retry with backoff starts up to half a minute late")
    late_timeout: bool = _quirk("a timeout is noticed up to a second late")
    cancel_forgets_results: bool = _quirk(
        "after a user's cancellation finished steps read CANCELLED in GetRunDetails, without output"
    )
    false_done_of_replay: bool = _quirk(
        "while a DAG is replayed, GetRunDetails says done between two steps, with the results of before"
    )
    chunks_after_cancel: bool = _quirk("a worker that does not notice a cancellation goes on streaming")
    metadata_hangup: bool = _quirk(
        "by metadata, the stream hangs up when no run that it has seen is active: COMPLETED of a run makes "
        "it inactive, FAILED and CANCELLED keep it active"
    )
    metadata_disorder: bool = _quirk("by metadata, 2 of 1,000 chunks come out of order")
    traceparent: bool = _quirk("the engine puts a traceparent into every run's metadata")
    reordered_outputs: bool = _quirk("outputs in the history have their keys reordered")
    graceful_restart: bool = _quirk(
        "an engine that shuts down ends every stream with OK, then refuses connections"
    )
    message_limit: bool = _quirk("the engine accepts no message over 4 MiB")
    rate_limit: bool = _quirk("1000 calls per second and token, ten times that for the dispatcher")
    lifecycle_events: bool = _quirk("off: SERVER_DISABLE_TENANT_PUBS, only chunks are sent")
    newer_engine: bool = _quirk(
        "the engine subscribes first and then looks the run up, and sends the end of a run that is over",
        on=False,
    )

    def switched(self, **switches: bool) -> Quirks:
        """These quirks with some switched on or off. Raises ValueError for an unknown name."""
        return dataclasses.replace(self, **{attribute(name): on for name, on in switches.items()})


NONE = Quirks(
    **{f.name: f.name in ("lifecycle_events", "metadata_hangup") for f in dataclasses.fields(Quirks)}
)
"""An engine without quirks. Lifecycle events and the hangup by metadata are no quirks in this sense."""


def attribute(name: str) -> str:
    """The attribute for a written name. Raises ValueError, which names the nearest known one."""
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
