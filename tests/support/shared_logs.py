"""Records and listeners for tests of the shared log, and replicas that are connected to one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from config.model.shared_log import LogAddress, log_address
from proxy.log.base import Outcome, Record, SharedLog
from proxy.log.cipher import Cipher
from proxy.log.redis.store import RedisLog
from proxy.observability.counters import LogCounters
from tests.support.waiting import until

GENERATION: Final = "1a2b~xyz"
NAME: Final = "team:log:11111111-1111-4111-8111-111111111111"


class Listener:
    """Remembers what a log tells."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.news: list[str] = []

    def received(self, records: Sequence[Record]) -> None:
        self.records += records

    def connected(self) -> None:
        self.news.append("connected")

    def disconnected(self) -> None:
        self.news.append("disconnected")


def fence(number: int, position: int = 0, replica: str = "a") -> Record:
    """A record with which `replica` takes the lead."""
    return Record(number, position, GENERATION, replica, b"", b'{"number": %d}' % number)


def item(number: int, position: int, replica: str = "a", body: bytes = b"") -> Record:
    """A record of an item."""
    return Record(number, position, GENERATION, replica, body or b'["item %d"]' % position)


async def append(
    log: SharedLog, *records: Record, name: str = NAME, keep_from: tuple[int, int] = (0, 0)
) -> Outcome:
    """Append records, and wait for the outcome."""
    done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    log.append(name, records, keep_from, done.set_result)
    return await done


def address_of(url: str) -> LogAddress:
    """The address that a URL names."""
    address = log_address(url)
    assert address is not None
    return address


def fail(error: Exception) -> None:
    """Nothing unforeseen may happen."""
    raise AssertionError(f"unforeseen: {error!r}") from error


async def trouble(url: str) -> str:
    """What a replica says that cannot connect."""
    log = RedisLog(address_of(url), "a", counts=LogCounters(), unforeseen=fail)
    before = log.trouble
    starting = asyncio.create_task(log.start())
    try:
        await until(lambda: log.trouble != before, "it has tried to connect")
        assert not log.is_up
        return str(log.trouble)
    finally:
        starting.cancel()
        await log.close()


@asynccontextmanager
async def connected(url: str, replica: str = "a", cipher: Cipher | None = None) -> AsyncIterator[RedisLog]:
    """A replica that is connected, if that is possible at once."""
    log = RedisLog(address_of(url), replica, counts=LogCounters(), cipher=cipher, unforeseen=fail)
    try:
        await log.start()
        yield log
    finally:
        await log.close()
