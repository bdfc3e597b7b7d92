"""Every request of a run belongs to the same worker, whatever else it says."""

from __future__ import annotations

import uuid

import pytest

from proxy.server.workers.placement import FIRST, worker_of, worker_of_run

RUN = "29f061d8-8d31-42ae-b11a-624d6ea8b905"


@pytest.mark.parametrize(
    "line",
    [
        "GET /streams/chat/{run} HTTP/1.1",
        "GET /streams/chat/{run}?last_event_id=x HTTP/1.1",
        "GET /team/other/{run} HTTP/1.1",
        "GET /team/other/{run}/deep HTTP/1.0",
        "HEAD /streams/chat/{run} HTTP/1.1",
        "GET http://host:1/streams/chat/{run} HTTP/1.1",
    ],
)
@pytest.mark.parametrize("written", [RUN, RUN.upper(), RUN.replace("-", "%2D"), "%32" + RUN[1:]])
def test_all_paths_of_a_run_have_one_worker(line: str, written: str) -> None:
    request = line.replace("{run}", written).encode() + b"\r\nhost: x\r\n\r\n"
    assert worker_of(request, 7) == worker_of_run(RUN, 7)


def test_runs_are_spread_evenly() -> None:
    counts = [0] * 4
    for number in range(4000):
        counts[worker_of_run(str(uuid.UUID(int=number * 7919)), 4)] += 1
    assert min(counts) > 900


def test_a_stream_by_metadata_has_one_worker_whatever_its_query_is() -> None:
    plain = worker_of(b"GET /chats/42 HTTP/1.1\r\n\r\n", 5)
    assert worker_of(b"GET /chats/42?ticket=abc HTTP/1.1\r\n\r\n", 5) == plain
    assert worker_of(b"GET /chats/%34%32 HTTP/1.1\r\n\r\n", 5) == plain
    assert len({worker_of(b"GET /chats/%d HTTP/1.1\r\n\r\n" % number, 5) for number in range(50)}) == 5


@pytest.mark.parametrize("path", [b"/healthz", b"/readyz?strict", b"/metrics"])
def test_probes_are_for_the_first_worker(path: bytes) -> None:
    assert worker_of(b"GET %b HTTP/1.1\r\n\r\n" % path, 9) == FIRST


@pytest.mark.parametrize(
    "request_",
    [
        b"POST /tickets HTTP/1.1\r\n\r\n",
        b"OPTIONS /chats/1 HTTP/1.1\r\n\r\n",
        b"",
        b"\r\n",
        b"GET",
    ],
)
def test_what_reads_no_stream_is_answered_anywhere(request_: bytes) -> None:
    assert worker_of(request_, 3) is None
