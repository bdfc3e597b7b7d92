"""Records as Redis holds them, and as they are published to followers.

    in a stream   XADD log NOMKSTREAM [MINID ~ id] FENCE-POSITION GENERATION.REPLICA body [s summary]
    published     GENERATION.REPLICA FENCE POSITION body:summary,body:summary … \\n bodies and summaries

The field's name is the same for all entries of a leader, so Redis stores it once per node of its tree. The
positions of what is published together are contiguous; `body` and `summary` are lengths in bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from proxy.log.base import Record
from proxy.log.cipher import Cipher, NotDeciphered
from proxy.log.redis.resp import command

SUMMARY: Final = b"s"
MOST_LENGTHS: Final = 10_000
ENTRY: Final = (
    b"*6\r\n$4\r\nXADD\r\n$%d\r\n%b\r\n$10\r\nNOMKSTREAM\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n"
)
"""The command that appends a record without a summary: the same as `command` makes, in one step."""
PUBLISH: Final = b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n"
MESSAGE: Final = b"%b.%b %d %d %d:0\n%b"  # the message with one record without a summary, made in one step


class Wire:
    """Writes and reads the records of logs; `cipher` encrypts what they hold, None: nothing is encrypted."""

    def __init__(self, cipher: Cipher | None = None) -> None:
        self._cipher = cipher

    def entry(
        self,
        key: bytes,
        name: str,
        record: Record,
        *,
        create: bool = False,
        keep_from: tuple[int, int] | None,
    ) -> bytes:
        """The command that appends `record`; entries before the id `keep_from` may be removed."""
        body, summary = self._sealed(name, record)
        field = f"{record.generation}.{record.replica}".encode()
        number = b"%d-%d" % (record.fence, record.position)
        if not (create or summary or keep_from):  # nearly every entry
            return ENTRY % (len(key), key, len(number), number, len(field), field, len(body), body)
        words = [b"XADD", key]
        if not create:
            words.append(b"NOMKSTREAM")
        if keep_from is not None:
            words += [b"MINID", b"~", b"%d-%d" % keep_from]
        words += [number, field, body]
        return command(*words, *([SUMMARY, summary] if summary else []))

    def publish(self, key: bytes, name: str, records: Sequence[Record]) -> bytes:
        """The command that sends `records` to followers; their positions are contiguous."""
        message = self.published(name, records)
        return PUBLISH % (len(key), key, len(message), message)

    def published(self, name: str, records: Sequence[Record]) -> bytes:
        """The message with `records` for followers; their positions are contiguous."""
        first = records[0]
        if len(records) == 1 and first.body:
            body, _ = self._sealed(name, first)
            generation, replica = first.generation.encode(), first.replica.encode()
            return MESSAGE % (generation, replica, first.fence, first.position, len(body), body)
        lengths, bodies = [], []
        for record in records:
            body, summary = self._sealed(name, record)
            if not record.is_fence:
                summary = b""
            lengths.append(b"%d:%d" % (len(body), len(summary)))
            bodies += [body, summary]
        head = b"%b.%b %d %d %b\n" % (
            first.generation.encode(), first.replica.encode(), first.fence, first.position, b",".join(lengths)
        )  # fmt: skip
        return head + b"".join(bodies)

    def read_published(self, name: str, payload: bytes) -> list[Record]:
        """The records of a message. Raises ValueError where it is malformed or has another encryption key."""
        head, _, rest = payload.partition(b"\n")
        field, fence, position, lengths = head.split(b" ")
        generation, _, replica = field.decode().rpartition(".")
        records, place = [], 0
        for number, pair in enumerate(lengths.split(b",", MOST_LENGTHS)):
            of_body, _, of_summary = pair.partition(b":")
            middle = place + int(of_body)
            end = middle + int(of_summary)
            record = Record(int(fence), int(position) + number, generation, replica, rest[place:middle])
            records.append(self._opened(name, record, rest[middle:end]))
            place = end
        if place != len(rest):
            raise ValueError("the lengths of a message are wrong")
        return records

    def record(self, name: str, entry: Any) -> Record:
        """The record of an entry as XRANGE gives it. Raises ValueError."""
        number, fields = entry
        fence, _, position = number.decode().partition("-")
        generation, _, replica = fields[0].decode().rpartition(".")
        record = Record(int(fence), int(position), generation, replica, fields[1])
        return self._opened(name, record, fields[3] if len(fields) > 3 and fields[2] == SUMMARY else b"")

    def _sealed(self, name: str, record: Record) -> tuple[bytes, bytes]:
        cipher = self._cipher
        if cipher is None:
            return record.body, record.summary
        body = cipher.seal(name, record, record.body, b"item") if record.body else b""
        summary = cipher.seal(name, record, record.summary, b"summary") if record.summary else b""
        return body, summary

    def _opened(self, name: str, record: Record, summary: bytes) -> Record:
        cipher, body = self._cipher, record.body
        if cipher is not None:
            body = cipher.open(name, record, body, b"item") if body else b""
            summary = cipher.open(name, record, summary, b"summary") if summary else b""
        elif (body and body[:1] != b"[") or (summary and summary[:1] != b"{"):
            raise NotDeciphered("an entry is encrypted, and log_encrypt is not set")
        if cipher is None and not summary:
            return record
        return Record(record.fence, record.position, record.generation, record.replica, body, summary)
