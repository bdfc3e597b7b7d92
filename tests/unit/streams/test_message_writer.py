"""Frames of a stream with a format: wherever a client joins, resumes or falls behind, it reads the same."""

from __future__ import annotations

import re

import pytest
from msgspec import structs

from proxy.core.events import End, Event, GapCause, Item, Reset, StepGap
from proxy.formats.machine import Machine, Sent
from proxy.formats.wire import machine_of, wire_of
from proxy.log.cursor import Cursor, read_cursor
from proxy.log.frames import LocalFrames
from proxy.observability.counters import StreamCounters
from proxy.streams.backlog import Backlog, Frame
from proxy.streams.channel import Channel
from tests.support.formats import FACTS, RUN, AgUiMessages, UiMessage, chunk, event
from tests.support.streams import StreamRules

RULES = """
    - {events: step_stream, steps: [left, right], as: text}
    - {events: step_completed, steps: plan, as: data-plan, data: payload}
    - {name: calls, events: step_started, as: tool-input, data: {id: "'c1'", name: step, input: payload}}
"""
WHOLE = """
    - {events: step_stream, steps: left, as: text, whole: payload.text}
    - {events: step_stream, steps: right, as: text}
"""
ITEMS: tuple[Item, ...] = (
    event("step_completed", "plan", {"steps": 2}),
    chunk("left", "one "),
    chunk("right", "void "),
    chunk("left", "two "),
    event("step_retrying", "right"),
    Reset("right", 2),
    chunk("right", "1 ", attempt=2),
    chunk("left", "three"),
    event("step_completed", "left"),
    chunk("right", "2", attempt=2),
    event("step_completed", "right", attempt=2),
    event("run_completed"),
    End("completed"),
)
SHOWN = {"left-id-1": "one two three", "right-id-2": "1 2"}
FRAME = re.compile(rb"id: (\S+)\n((?:data: |: )[^\n]*)\n\n")


class Written:
    """A channel with a format, and all its frames."""

    def __init__(
        self, form: str = "ai-sdk", *, rules: str = RULES, events: int = 1000, merged: bool = False
    ) -> None:
        async def nothing() -> list[Event]:
            return []

        self.stream_rules = StreamRules(rules, form)
        self.held: list[int] = []
        rules_of = self.stream_rules.rules
        self.machine: Machine = machine_of(form, FACTS, failed=rules_of.failed)
        self.channel = Channel(
            rules_of,
            LocalFrames(b"secret", team="t", stream="s", run_id=RUN, value="", rules="r", session=1),
            Backlog[Frame](events, 1 << 20),
            StreamCounters(),
            rebuild=nothing,
            wire=wire_of(form),
            machine=self.machine,
            grew=self.held.append,
            merged=merged,
        )
        self.bodies: list[bytes] = []

    def add(self, *items: Item) -> Written:
        backlog = self.channel.backlog
        for item in items:
            for frame in self.channel.frames(item):
                backlog.append(frame)
                self.bodies.append(frame.body)
            if isinstance(item, End):
                backlog.seal()
        return self

    def sent(self, cursor: bytes | None) -> list[tuple[bytes, bytes]]:
        """Cursor and block of each frame that a client with `cursor` is sent from now to the newest frame."""
        parsed = None if cursor is None else read_cursor(cursor.decode())
        start = self.channel.start(parsed, came_back=cursor is not None)
        return FRAME.findall(start.opening + b"".join(self.bodies[start.place :]))


def message(*sent: list[tuple[bytes, bytes]]) -> UiMessage:
    return UiMessage().read([block for each in sent for _, block in each])


@pytest.mark.parametrize("count", range(len(ITEMS) + 1))
def test_whenever_a_client_joins_and_wherever_its_connection_breaks_it_reads_the_same(count: int) -> None:
    written = Written().add(*ITEMS[:count])
    joined = written.sent(None)
    written.add(*ITEMS[count:])
    for received in range(1, len(joined) + 1):
        cursor = joined[received - 1][0]
        if read_cursor(cursor.decode()) == Cursor(RUN, written.channel.ids.end.decode().split(".")[1], None):
            continue  # the end was received: such a client is answered with 204
        rest = written.sent(cursor)
        whole = UiMessage()
        whole.read([block for _, block in joined[:received] + rest])
        assert whole.done
        assert whole.texts == SHOWN
        assert [part["type"] for part in whole.shown] == ["data-plan", "text", "text"]


@pytest.mark.parametrize("form", ["ai-sdk", "ag-ui"])
@pytest.mark.parametrize("count", range(1, 6))
def test_a_piece_that_a_retry_interrupts_is_resumed_where_it_broke(form: str, count: int) -> None:
    written = Written(form).add(*ITEMS[:count])
    joined = written.sent(None)
    written.add(*ITEMS[count:])
    for received in range(1, len(joined) + 1):
        blocks = [block for _, block in joined[:received] + written.sent(joined[received - 1][0])]
        texts = (
            UiMessage().read(blocks).texts.values() if form == "ai-sdk" else AgUiMessages().read(blocks).texts
        )
        assert sorted(texts) == sorted(SHOWN.values())
    assert written.channel.counts.gaps["unknown_cursor"] == 0


def test_each_frame_has_a_cursor_of_its_own_from_which_the_next_one_follows() -> None:
    written = Written()
    begin = written.sent(None)
    written.add(*ITEMS)
    frames = begin + FRAME.findall(b"".join(written.bodies))
    cursors = [cursor for cursor, _ in frames]
    assert len(set(cursors)) == len(cursors)
    assert cursors[-1] == written.channel.ids.end
    for number, cursor in enumerate(cursors[:-1], 1):
        assert written.sent(cursor) == frames[number:]


def test_clients_that_join_at_one_place_share_one_object() -> None:
    written = Written().add(*ITEMS[:4])
    one, other = (written.channel.start(None, came_back=False) for _ in range(2))
    assert one.opening is other.opening
    written.add(*ITEMS[4:6])
    assert written.channel.start(None, came_back=False).opening is not one.opening


def test_a_client_that_falls_behind_the_backlog_gets_what_it_lacks_in_one_piece() -> None:
    written = Written(events=4)
    begin = written.sent(None)
    written.add(*ITEMS[:2])
    had, place = FRAME.findall(b"".join(written.bodies)), len(written.bodies)
    written.add(*ITEMS[2:-1])
    assert not written.channel.backlog.reaches(place)
    piece = FRAME.findall(written.channel.catch_up(place) or b"")
    before_the_end = len(written.bodies)
    written.add(ITEMS[-1])
    last = FRAME.findall(b"".join(written.bodies[before_the_end:]))
    assert message(begin, had, piece, last).texts == SHOWN
    assert len(piece) < before_the_end - place
    for received in range(1, len(piece)):  # the connection breaks within the piece
        again = written.sent(piece[received - 1][0])
        assert message(begin, had, piece[:received], again).texts == SHOWN


def test_an_unknown_cursor_begins_the_message_again_after_what_it_had_is_erased() -> None:
    before = Written().add(*ITEMS[:4])
    after = Written().add(*ITEMS)
    client = message(before.sent(None))
    client.read([block for _, block in after.sent(b"unreadable")])
    assert client.texts == SHOWN
    assert [part["data"]["cause"] for part in client.transient] == ["unknown_cursor"]
    assert after.channel.counts.gaps["unknown_cursor"] == 1


def test_a_connection_that_breaks_before_a_notice_of_an_unknown_cursor_gets_the_rest_once() -> None:
    written = Written().add(*ITEMS)
    sent = written.sent(b"unreadable")
    for received in range(1, len(sent)):
        again = written.sent(sent[received - 1][0])
        assert message(sent[:received], again).texts == SHOWN


def test_the_end_of_a_step_ends_its_text_although_no_rule_forwards_it() -> None:
    written = Written().add(chunk("left", "a"), event("step_completed", "left"))
    assert b"text-end" in written.bodies[-1]


def test_a_gap_that_a_step_repairs_is_not_sent_and_one_of_another_step_is() -> None:
    written = Written(rules=WHOLE)
    begin = written.sent(None)
    written.add(chunk("left", "Hel"), StepGap(GapCause.UPSTREAM, "left", 1, 1))
    written.add(chunk("right", "one"), StepGap(GapCause.UPSTREAM, "right", 1, 1))
    written.add(event("step_completed", "left", {"text": "Hello"}), event("step_completed", "right"))
    written.add(event("run_completed"), End("completed"))
    shown = message(begin, FRAME.findall(b"".join(written.bodies)))
    assert shown.texts == {"left-id-1": "Hello", "right-id-1": "one"}
    assert [part["data"]["step"] for part in shown.transient] == ["right"]


def test_steps_of_one_name_in_two_runs_have_texts_of_their_own() -> None:
    child = [
        structs.replace(item, run_id="child", step_run_id="child-id") for item in (chunk("left", "void"),)
    ]
    again = [structs.replace(item, attempt=2, payload="second") for item in child]
    written = Written(merged=True)
    begin = written.sent(None)
    written.add(chunk("left", "first"), *child, Reset("left", 2, run_id="child"), *again)
    written.add(event("run_completed"), End("completed"))
    shown = message(begin, FRAME.findall(b"".join(written.bodies)))
    assert sorted(shown.texts.values()) == ["first", "second"]


def test_what_the_machine_refuses_is_counted_logged_and_not_sent() -> None:
    written = Written().add(event("step_started", "left"), event("step_started", "right"), *ITEMS[1:])
    assert written.stream_rules.failures == [
        ("calls", "step_started", "a tool call with this id has begun already")
    ]
    assert written.channel.counts.forwarded["calls"] == 1
    assert message(written.sent(None)).done


@pytest.mark.parametrize("payload", [None, 7, {"a": 1}])
def test_a_payload_that_is_no_text_is_skipped_and_the_message_stays_well_formed(payload: object) -> None:
    rules = """
    - {events: step_stream, steps: left, as: text}
    - {name: late, events: step_completed, steps: right, as: text, data: payload.text}
    """
    written = Written(rules=rules).add(
        chunk("left", "a"), event("step_completed", "right", {"text": payload}), End("completed")
    )
    assert [(rule, kind) for rule, kind, _ in written.stream_rules.failures] == [("late", "step_completed")]
    assert message(written.sent(None)).texts == {"left-id-1": "a"}


def test_a_gap_and_a_reset_of_a_step_that_is_not_forwarded_are_not_sent() -> None:
    written = Written().add(StepGap(GapCause.UPSTREAM, "other", 1, None), Reset("other", 2))
    assert written.bodies == []


def test_what_is_held_is_accounted_for_and_let_go() -> None:
    written = Written().add(*ITEMS)
    assert sum(written.held) == written.machine.log.size
    assert written.channel.held == written.channel.backlog.bytes + written.machine.log.size
    written.channel.shrink(500)
    assert sum(written.held) == written.machine.log.size
    written.channel.drop()
    assert sum(written.held) == 0


def test_a_machine_that_fails_half_way_costs_its_item_and_no_number() -> None:
    written = Written()
    send = written.machine.message

    def fails(event: Event, sent: Sent | None) -> list[bytes]:
        send(event, sent)
        raise RuntimeError("a bug")

    written.machine.message = fails  # type: ignore[method-assign]
    written.add(chunk("left", "lost"))
    written.machine.message = send  # type: ignore[method-assign]
    written.add(chunk("left", "kept"), End("completed"))
    assert written.machine.log.place == written.channel.backlog.last
    assert message(written.sent(None)).texts == {"left-id-1": "lostkept"}
