"""Resume, over HTTP: a cursor at the same process, at another, too late, and for another stream."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from proxy.simulator import Engine
from proxy.streams import run_queries
from tests.chaos.replicas import replicas
from tests.support.delivery import (
    RecordingClient,
    becomes,
    causes,
    chunks,
    config,
    events,
    gaps,
    lasting,
    once,
    own_gaps,
    status,
    workflows,
    yaml,
)
from tests.support.demo_run import LOSSLESS
from tests.support.eventsource import Frame
from tests.support.served import Served, served

UNKNOWN: Final = {"cause": "unknown_cursor", "step": None, "attempt": None, "missed": None}
TEAMS: Final = """
version: 1
teams:
  one: {hatchet: {token: "${ONE}"}, auth: none}
  two: {hatchet: {token: "${TWO}"}, auth: none}
"""
SMALL: Final = """
  small:
    path: /small/{workflowRunId}
    backlog: {events: 20}
    rules:
      - events: ["*", step_stream]
        data: {type: type, step: step, attempt: attempt, index: index, payload: payload, recovered: recovered}
  tiny:
    path: /tiny/{workflowRunId}
    backlog: {events: 6}
    rules:
      - events: ["*", step_stream]
        data: {type: type, step: step, attempt: attempt, index: index, payload: payload, recovered: recovered}
  mine:
    path: /mine/{metadata.message}
    rules: [{events: ["*", step_stream], data: {type: type, run: run_id}}]
"""


@pytest.fixture
def asks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request asks Hatchet whether an ended run was replayed; in production once a second."""
    monkeypatch.setattr(run_queries, "REPLAY_CHECK", 0.0)


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with Engine(workflows(), seed=3, quirks=LOSSLESS) as one:  # what is lost is not the topic here
        yield one


@pytest.fixture
async def proxy(engine: Engine, tmp_path: Path) -> AsyncIterator[Served]:
    async with served(config(tmp_path, yaml(more=SMALL)), engine.env) as one:
        yield one


@pytest.fixture
async def other(engine: Engine, tmp_path: Path) -> AsyncIterator[Served]:
    """Another replica: the same file, another process's secret."""
    async with served(config(tmp_path, yaml(more=SMALL), "other.yaml"), engine.env) as one:
        yield one


def without_gaps(frames: list[Frame]) -> list[Frame]:
    return [frame for frame in frames if frame.event != "stream.gap"]


def plain(frames: list[Any]) -> list[tuple[str, str, str]]:
    return [(frame.id, frame.event, frame.data) for frame in frames]


# -- the same process --


async def test_a_client_that_reconnects_in_mid_run_gets_every_frame_once(
    engine: Engine, proxy: Served
) -> None:
    run = await engine.trigger("dag")
    url = f"{proxy.url}/run/{run}"
    async with RecordingClient(url) as steady:
        frames_read = await once(url, count=3)
        while frames_read[-1].event != "stream.end":
            frames_read += await once(url, cursor=frames_read[-1].id, count=4)
        await steady.end()
    assert plain(frames_read) == plain(steady.frames)
    assert steady.judge(engine, run) == []
    assert own_gaps(steady.frames) == []


async def test_after_the_end_each_cursor_gets_exactly_the_later_frames(engine: Engine, proxy: Served) -> None:
    run = await engine.trigger("retry")
    url = f"{proxy.url}/run/{run}"
    whole = await once(url)
    assert len(whole) > 25
    for place in range(0, len(whole) - 1, 3):
        if whole[place].event != "stream.gap":  # it repeats the id of the frame before it
            rest = await once(url, cursor=whole[place].id)
            assert plain(rest) == plain(whole[place + 1 :]), place
    assert await status(url, cursor=whole[-1].id) == 204


async def test_the_cursor_may_be_in_the_query_and_the_header_wins(engine: Engine, proxy: Served) -> None:
    run = await engine.trigger("brief")
    url = f"{proxy.url}/run/{run}"
    whole = await once(url)
    places = [n for n, frame in enumerate(whole) if frame.event != "stream.gap"]  # a gap repeats an id
    first, later = places[1], places[-2]
    early, late, end = whole[first].id, whole[later].id, whole[-1].id
    assert plain(await once(url, query=early)) == plain(whole[first + 1 :])
    assert plain(await once(url, cursor=late, query=early)) == plain(whole[later + 1 :])
    after = plain(await once(url, cursor="", query=early))
    assert after == plain(whole[first + 1 :]), "an empty header says nothing"
    assert await status(url, cursor=end, query=early) == 204
    assert plain(await once(url, cursor=early, query=end)) == plain(whole[first + 1 :])


async def test_ids_that_differ_in_case_are_one_run_with_one_cursor(engine: Engine, proxy: Served) -> None:
    run = await engine.trigger("brief")
    whole = await once(f"{proxy.url}/run/{run}")
    upper = f"{proxy.url}/run/{run.upper()}"
    assert plain(await once(upper)) == plain(whole)
    assert plain(await once(upper, cursor=whole[3].id)) == plain(whole[4:])
    assert await status(upper, cursor=whole[-1].id) == 204
    assert len(proxy.hub.teams["default"].runs) == 1


# -- from elsewhere --


def live(frames: list[Frame]) -> list[dict[str, Any]]:
    """Chunks that were received as they were sent."""
    return [event for event in chunks(frames) if not event["recovered"]]


async def test_after_a_kill_losses_are_announced_and_lifecycle_events_are_sent_again(
    engine: Engine, tmp_path: Path
) -> None:
    engine.switch(cancel_forgets_results=False)  # the test cancels the run to end it
    path = config(tmp_path, yaml())
    async with replicas([path], engine.env) as (replica,):
        run = await engine.trigger("endless")
        async with RecordingClient(f"{replica.url}/run/{run}") as client:
            await client.until(lambda client: len(client.chunks) >= 5)
            await replica.stop(kill=True)
            frames_read = len(client.frames)
            await replica.start()
            await client.until(lambda client: live(client.frames[frames_read:]), 30)
            await engine.cancel(run)
            await client.end()
        assert client.judge(engine, run) == []
        again = client.frames[frames_read:]
        assert gaps(again)[0] == UNKNOWN
        assert causes(again).count("unknown_cursor") == 1
        recovered = {(event["type"], event["step"]) for event in events(again) if event["recovered"]}
        assert {
            ("step_started", "start"),
            ("step_completed", "start"),
            ("step_started", "write"),
        } <= recovered
        assert live(again)
        assert await status(f"{replica.url}/run/{run}", cursor=client.frames[-1].id) == 204


async def test_another_replica_starts_from_the_beginning_with_one_gap_and_every_loss_is_announced(
    engine: Engine, proxy: Served, other: Served
) -> None:
    run = await engine.trigger("dag")
    async with RecordingClient(f"{proxy.url}/run/{run}") as client:
        await client.until(lambda client: len(client.chunks) >= 5)
        async with RecordingClient(f"{other.url}/run/{run}", cursor=client.frames[-1].id) as moved:
            await moved.end()
        await client.end()
    assert gaps(moved.frames)[0] == UNKNOWN
    assert causes(moved.frames).count("unknown_cursor") == 1
    assert moved.judge(engine, run) == []
    kinds = lasting(moved.frames)
    assert len(kinds) == len(set(kinds)), "no doubles at the seam of what was rebuilt and what is live"
    assert sorted(kinds) == sorted(lasting(client.frames))


async def test_an_older_cursor_on_another_replica_after_the_end_gets_the_results_and_the_end(
    engine: Engine, proxy: Served, other: Served
) -> None:
    run = await engine.trigger("dag")
    whole = await once(f"{proxy.url}/run/{run}")
    moved = await once(f"{other.url}/run/{run}", cursor=whole[4].id)
    assert gaps(moved)[0] == UNKNOWN
    received = events(moved)
    assert all(event["recovered"] for event in received)
    assert lasting(moved) == lasting(whole)
    assert moved[-1].event == "stream.end"


async def test_at_the_end_every_replica_answers_204_even_while_hatchet_is_unreachable(
    engine: Engine, proxy: Served, other: Served
) -> None:
    run = await engine.trigger("brief", metadata={"message": "m1"})
    end = (await once(f"{proxy.url}/run/{run}"))[-1].id
    mine = (await once(f"{proxy.url}/mine/m1"))[-1].id
    await engine.faults.stop_grpc()
    engine.faults.hide_history()
    calls = dict(engine.calls)
    for url in (proxy.url, other.url):
        assert await status(f"{url}/run/{run}", cursor=end) == 204
        assert await status(f"{url}/run/{run}", query=end) == 204
        assert await status(f"{url}/run/{run.upper()}", cursor=end) == 204
        assert await status(f"{url}/mine/m1", cursor=mine) == 204
    assert dict(engine.calls) == calls


async def test_a_cursor_of_the_end_is_valid_for_its_own_stream_and_run_only(
    engine: Engine, proxy: Served
) -> None:
    one, two = await engine.trigger("brief"), await engine.trigger("brief")
    end = (await once(f"{proxy.url}/run/{one}"))[-1].id
    for path in (f"/run/{two}", f"/small/{one}", f"/small/{two}"):
        received = await once(f"{proxy.url}{path}", cursor=end)
        assert gaps(received)[0] == UNKNOWN, path
        assert received[-1].event == "stream.end"


# -- dropped from the backlog --


async def test_chunks_dropped_from_the_backlog_are_counted_and_lifecycle_events_are_sent(
    engine: Engine, proxy: Served
) -> None:
    run = await engine.trigger("talk")
    async with RecordingClient(f"{proxy.url}/small/{run}") as client:
        await client.end()
    whole = client.frames
    assert own_gaps(whole) == []
    late = await once(f"{proxy.url}/small/{run}", cursor=whole[2].id)
    (gap,) = own_gaps(late)
    assert (gap["cause"], gap["step"], gap["attempt"]) == ("backlog", "talk", 1)
    first = chunks(late)[0]["index"]
    between = [event["index"] for event in chunks(whole[3:]) if event["index"] < first]
    assert gap["missed"] in {None, len(between)}, "a client that had some of them gets no number"
    # Before the end may stand a gap of the engine's: it hung up together with the end, so nothing was proven.
    sent, rest = without_gaps(whole), without_gaps(late)
    assert plain(rest) == plain(sent[-len(rest) :]), "after the gap: exactly what was sent"
    fresh = await once(f"{proxy.url}/small/{run}")
    before = [event["index"] for event in chunks(whole) if event["index"] < first]
    assert own_gaps(fresh) == [{**gap, "missed": len(before)}]
    assert len(before) > 5
    assert lasting(fresh) == lasting(whole)


async def test_lifecycle_frames_dropped_from_the_backlog_are_rebuilt_with_their_ids(
    engine: Engine, proxy: Served
) -> None:
    run = await engine.trigger("wide")
    async with RecordingClient(f"{proxy.url}/tiny/{run}") as client:
        await client.end()
    late = await once(f"{proxy.url}/tiny/{run}", cursor=client.frames[0].id)
    assert {gap["cause"] for gap in own_gaps(late)} <= {"backlog"}
    doubled = [event for event, count in Counter(lasting(late)).items() if count > 1]
    assert not doubled, [(frame.id, frame.data) for frame in late + client.frames]
    assert sorted(lasting(late)) == sorted(lasting(client.frames[1:]))
    received = {
        (frame.id, frame.value["type"], frame.value["step"])
        for frame in client.frames
        if frame.event == "message"
    }
    again = [frame for frame in late if frame.event == "message"]
    assert {(frame.id, frame.value["type"], frame.value["step"]) for frame in again} <= received
    assert [frame.value["recovered"] for frame in again][:5] == [True] * 5
    numbers = [int(frame.id.rpartition(".")[2]) for frame in again]
    assert numbers == sorted(numbers)


# -- cursors of something else --


async def test_a_cursor_of_another_run_stream_or_process_starts_from_the_beginning_with_one_gap(
    engine: Engine, proxy: Served
) -> None:
    run, twin = await engine.trigger("brief"), await engine.trigger("brief")
    whole = await once(f"{proxy.url}/run/{run}")
    foreign = await once(f"{proxy.url}/run/{twin}")
    small = await once(f"{proxy.url}/small/{run}")
    for cursor in (foreign[3].id, small[3].id, "nonsense", whole[3].id[:-1], whole[3].id + "9"):
        received = await once(f"{proxy.url}/run/{run}", cursor=cursor)
        assert gaps(received)[0] == UNKNOWN
        assert plain(received[1:]) == plain(whole), cursor


async def test_after_a_rule_change_an_old_cursor_starts_from_the_beginning_and_open_streams_continue(
    engine: Engine, proxy: Served
) -> None:
    run = await engine.trigger("dag")
    url = f"{proxy.url}/run/{run}"
    async with RecordingClient(url) as client:
        await client.until(lambda client: len(client.chunks) >= 3)
        old = client.frames[-1].id
        proxy.reloader.path.write_text(yaml(more=SMALL).replace("at: at", "when: at", 1))
        await proxy.reloader.reload()
        changed = await once(url, cursor=old, until=lambda frame: '"step_stream"' in frame.data)
        assert changed[0].value == UNKNOWN
        assert all("when" in event for event in events(changed))
        await client.end()
    assert all("at" in event for event in client.chunks)
    assert own_gaps(client.frames) == []
    assert client.judge(engine, run) == []


async def test_a_reload_without_changes_keeps_every_cursor(engine: Engine, proxy: Served) -> None:
    run = await engine.trigger("brief")
    whole = await once(f"{proxy.url}/run/{run}")
    proxy.reloader.path.write_text("# a comment\n" + yaml(more=SMALL))
    await proxy.reloader.reload()
    assert plain(await once(f"{proxy.url}/run/{run}", cursor=whole[3].id)) == plain(whole[4:])


async def test_a_cursor_of_another_team_shows_nothing_of_that_team(tmp_path: Path) -> None:
    (tmp_path / "teams").mkdir()
    text = yaml().partition("streams:")[2]
    config(
        tmp_path,
        TEAMS,
        "proxy.yaml",
    )
    for team in ("one", "two"):
        config(tmp_path / "teams", f"version: 1\nstreams:{text}", f"{team}.yaml")
    async with Engine(workflows(), seed=4, tenants=2) as engine:
        env = {**engine.env, "ONE": engine.tokens[0], "TWO": engine.tokens[1]}
        del env["HATCHET_CLIENT_TOKEN"]
        async with served(tmp_path, env) as proxy:
            ones = await engine.trigger("brief", tenant=0)
            twos = await engine.trigger("brief", tenant=1)
            received = await once(f"{proxy.url}/one/run/{ones}")
            for cursor in (received[3].id, received[-1].id):
                assert await status(f"{proxy.url}/two/run/{ones}", cursor=cursor) == 404
                again = await once(f"{proxy.url}/two/run/{twos}", cursor=cursor)
                assert again[0].value == UNKNOWN
                assert plain(again[1:]) == plain(await once(f"{proxy.url}/two/run/{twos}"))


# -- after the end --


async def test_after_keep_after_end_a_cursor_is_unknown_and_the_results_are_rebuilt(
    engine: Engine, tmp_path: Path
) -> None:
    text = yaml(stream="backlog: {keep_after_end: 200ms}")
    async with served(config(tmp_path, text), engine.env) as proxy:
        run = await engine.trigger("brief")
        whole = await once(f"{proxy.url}/run/{run}")
        kept = await once(f"{proxy.url}/run/{run}", cursor=whole[3].id)
        assert plain(kept) == plain(whole[4:])
        await becomes(lambda: not len(proxy.hub.teams["default"].runs))
        late = await once(f"{proxy.url}/run/{run}", cursor=whole[3].id)
    assert gaps(late)[0] == UNKNOWN
    assert lasting(late) == lasting(whole)
    assert {event["recovered"] for event in events(late)} == {True}


async def test_a_replayed_run_sends_its_new_events_and_end_cursors_still_get_204(
    engine: Engine, proxy: Served, asks_again: None
) -> None:
    run = await engine.trigger("talk")
    url = f"{proxy.url}/run/{run}"
    first = await once(url)
    await engine.replay(run)
    assert await status(url, cursor=first[-1].id) == 204
    second = await once(url)
    assert {chunk["attempt"] for chunk in chunks(second)} == {2}
    assert second[-1].event == "stream.end"
    assert await status(url, cursor=first[-1].id) == 204
    assert await status(url, cursor=second[-1].id) == 204


async def test_the_end_before_a_replay_is_not_sent_again_during_the_replay(
    engine: Engine, proxy: Served, asks_again: None
) -> None:
    run = await engine.trigger("dag")
    url = f"{proxy.url}/run/{run}"
    await once(url)
    await engine.replay(run)  # between its steps core and history both say done, with the results of before
    assert (await once(url))[-1].event == "stream.end"
    assert all(step.attempt == 2 and step.ended for step in engine.run(run).steps.values())
