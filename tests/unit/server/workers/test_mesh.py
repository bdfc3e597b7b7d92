"""The mesh: which connections are passed on, which stay, and what becomes of questions without an answer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Final

import pytest

from proxy.server.workers import mesh as mesh_module
from proxy.server.workers.mesh import CONNECTION, MOST_BYTES, Inboxes, Mesh
from proxy.server.workers.placement import worker_of
from tests.support.waiting import until

WORKERS: Final = 2


def request_of(worker: int | None) -> bytes:
    """A request that belongs to a worker, or to any."""
    if worker is None:
        return b"POST /tickets HTTP/1.1\r\n\r\n"
    lines = (b"GET /chats/%d HTTP/1.1\r\n\r\n" % number for number in range(1000))
    return next(line for line in lines if worker_of(line, WORKERS) == worker)


class Worker:
    """One worker: the connections that it was given, and the questions that it was asked."""

    def __init__(self, index: int, inboxes: Inboxes, answer: bytes = b"") -> None:
        self.mesh = Mesh(index, inboxes)
        self.taken: list[tuple[socket.socket, bytes]] = []
        self.asked: list[bytes] = []
        self.answer = answer

    def open(self) -> None:
        self.mesh.open(lambda sock, received: self.taken.append((sock, received)), self._answer)

    def _answer(self, question: bytes) -> bytes:
        self.asked.append(question)
        return self.answer


class Connection:
    """A connection that a worker has accepted, and its client."""

    def __init__(self, accepted: asyncio.Transport, client: socket.socket) -> None:
        self.accepted = accepted
        self.client = client


@pytest.fixture
def inboxes() -> Iterator[Inboxes]:
    made = Inboxes.make(WORKERS)
    yield made
    for sock in (*made.ours, *made.theirs):
        sock.close()


@pytest.fixture
async def workers(inboxes: Inboxes) -> AsyncIterator[list[Worker]]:
    made = [Worker(index, inboxes) for index in range(WORKERS)]
    for one in made:
        one.open()
    yield made
    for one in made:
        one.mesh.close()
        for sock, _ in one.taken:
            sock.close()


@pytest.fixture
async def connection() -> AsyncIterator[Connection]:
    there, client = socket.socketpair()
    client.setblocking(False)
    transport, _ = await asyncio.get_running_loop().connect_accepted_socket(asyncio.Protocol, there)
    yield Connection(transport, client)
    transport.abort()
    client.close()


async def test_a_connection_goes_to_the_worker_of_its_request_with_what_was_read(
    workers: list[Worker], connection: Connection
) -> None:
    received = request_of(1)
    assert workers[0].mesh.pass_on(connection.accepted, received)
    assert connection.accepted.is_closing()
    assert workers[0].mesh.passed_on == 1
    await until(lambda: workers[1].taken)
    ((sock, read),) = workers[1].taken
    assert read == received
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, b"an answer")
    assert await loop.sock_recv(connection.client, 100) == b"an answer", "the connection itself goes on"


@pytest.mark.parametrize(
    "received",
    [request_of(0), request_of(None), request_of(1).ljust(MOST_BYTES, b"x")],
    ids=["its own", "anybody's", "more than a message holds"],
)
async def test_a_request_of_its_own_of_any_worker_or_of_too_many_bytes_stays(
    workers: list[Worker], connection: Connection, received: bytes
) -> None:
    assert not workers[0].mesh.pass_on(connection.accepted, received)
    assert not connection.accepted.is_closing()


async def test_a_connection_with_unsent_bytes_of_an_earlier_response_stays(
    workers: list[Worker], connection: Connection
) -> None:
    connection.accepted.write(b"x" * 10_000_000)
    assert connection.accepted.get_write_buffer_size() > 0
    assert not workers[0].mesh.pass_on(connection.accepted, request_of(1))
    assert not connection.accepted.is_closing()


async def test_a_connection_stays_where_the_other_inbox_is_full(
    workers: list[Worker], connection: Connection, inboxes: Inboxes
) -> None:
    with contextlib.suppress(BlockingIOError):
        while True:
            inboxes.theirs[1].send(b"?")
    assert not workers[0].mesh.pass_on(connection.accepted, request_of(1))
    assert not connection.accepted.is_closing()
    await until(lambda: workers[0].mesh.pass_on(connection.accepted, request_of(1)), "there is room again")


async def test_a_connection_stays_where_the_other_inbox_is_gone(
    connection: Connection, inboxes: Inboxes
) -> None:
    inboxes.ours[1].close()
    one = Mesh(0, inboxes)
    assert not one.pass_on(connection.accepted, request_of(1))
    assert not connection.accepted.is_closing()
    assert await one.ask(1, b"what?") is None


async def test_what_comes_while_a_worker_is_replaced_waits_for_the_next_one(
    workers: list[Worker], connection: Connection, inboxes: Inboxes
) -> None:
    workers[1].mesh.close()
    assert workers[0].mesh.pass_on(connection.accepted, request_of(1))
    await asyncio.sleep(0)
    assert workers[1].taken == []
    workers[1] = Worker(1, inboxes)
    workers[1].open()
    await until(lambda: workers[1].taken)


async def test_of_several_descriptors_in_one_message_the_first_is_used_and_none_stays_open(
    workers: list[Worker], inboxes: Inboxes
) -> None:
    pairs = [socket.socketpair() for _ in range(3)]
    sent = [there.fileno() for there, _ in pairs]
    socket.send_fds(inboxes.theirs[1], [CONNECTION + request_of(1)], sent)
    for there, _ in pairs:
        there.close()
    await until(lambda: workers[1].taken)
    for _, here in pairs[1:]:
        assert here.recv(1) == b"", "its other end is closed"
    pairs[0][1].setblocking(False)
    with pytest.raises(BlockingIOError):
        pairs[0][1].recv(1)
    for _, here in pairs:
        here.close()


async def test_a_message_that_nobody_knows_is_dropped_with_its_descriptor(
    workers: list[Worker], inboxes: Inboxes
) -> None:
    there, here = socket.socketpair()
    socket.send_fds(inboxes.theirs[1], [b"z"], [there.fileno()])
    there.close()
    here.setblocking(False)
    with here:
        assert await asyncio.get_running_loop().sock_recv(here, 1) == b""
    assert (workers[1].taken, workers[1].asked) == ([], [])


async def test_a_question_is_answered_however_long_the_answer_is(workers: list[Worker]) -> None:
    workers[1].answer = b'{"runs": "' + b"x" * 5_000_000 + b'"}'
    assert await workers[0].mesh.ask(1, b"what?") == workers[1].answer
    assert workers[1].asked == [b"what?"]
    assert await workers[0].mesh.ask_all({"a": 1}) == [{"runs": "x" * 5_000_000}]
    assert workers[1].asked[1:] == [b'{"a": 1}']


async def test_a_worker_that_does_not_answer_in_time_is_left_out(
    workers: list[Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mesh_module, "PATIENCE", 0.05)
    assert await workers[0].mesh.ask(1, b"what?") is None, "an empty answer is none"
    workers[1].mesh.close()
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - numbers of descriptors, not files
    assert await workers[0].mesh.ask(1, b"what?") is None
    assert await workers[0].mesh.ask_all({}) == []
    in_the_inbox = 2  # the ends that the silent worker would write to
    assert len(os.listdir("/proc/self/fd")) <= before + in_the_inbox  # noqa: PTH208


async def test_an_answer_that_nobody_reads_is_given_up(
    workers: list[Worker], inboxes: Inboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mesh_module, "PATIENCE", 0.05)
    workers[1].answer = b"x" * 10_000_000
    there, here = socket.socketpair()
    socket.send_fds(inboxes.theirs[1], [mesh_module.QUESTION + b"what?"], [there.fileno()])
    there.close()
    await until(lambda: workers[1].asked)
    await until(lambda: not workers[1].mesh._tasks)
    here.close()


async def test_a_closed_mesh_writes_no_answers_any_more(workers: list[Worker], inboxes: Inboxes) -> None:
    workers[1].answer = b"x" * 10_000_000
    there, here = socket.socketpair()
    socket.send_fds(inboxes.theirs[1], [mesh_module.QUESTION + b"what?"], [there.fileno()])
    there.close()
    await until(lambda: workers[1].mesh._tasks)
    (writing,) = workers[1].mesh._tasks
    workers[1].mesh.close()
    await asyncio.wait([writing])
    assert writing.cancelled()
    here.close()
