"""Records as commands and messages: the short forms of common ones say the same as the long forms."""

from __future__ import annotations

from typing import Final

import pytest

from proxy.log.base import Record
from proxy.log.cipher import Cipher
from proxy.log.redis.resp import Parser, command
from proxy.log.redis.wire import Wire

KEY: Final = b"hsp:team:log:run"
NAME: Final = "team:log:run"
BODY: Final = b'[0,"\r\nten"]'
PLAIN: Final = Record(7, 3, "1a~b", "replica", BODY)
SUMMED_UP: Final = Record(7, 4, "1a~b", "replica", BODY, b"{}")
FENCE: Final = Record(8, 4, "1a~b", "other", b"", b"{}")


def test_an_entry_is_one_command_in_its_short_form_too() -> None:
    words = [b"XADD", KEY, b"NOMKSTREAM", b"7-3", b"1a~b.replica", BODY]
    assert Wire().entry(KEY, NAME, PLAIN, keep_from=None) == command(*words)
    trimmed = [*words[:3], b"MINID", b"~", b"5-1", *words[3:]]
    assert Wire().entry(KEY, NAME, PLAIN, keep_from=(5, 1)) == command(*trimmed)
    created = [b"XADD", KEY, b"8-4", b"1a~b.other", b"", b"s", b"{}"]
    assert Wire().entry(KEY, NAME, FENCE, create=True, keep_from=None) == command(*created)


@pytest.mark.parametrize(
    "records", [[PLAIN], [SUMMED_UP], [PLAIN, SUMMED_UP]], ids=["one", "summed up", "two"]
)
@pytest.mark.parametrize("cipher", [None, Cipher("a secret")], ids=["plain", "encrypted"])
def test_a_message_holds_its_records_without_their_summaries(
    records: list[Record], cipher: Cipher | None
) -> None:
    wire = Wire(cipher)
    (sent,) = Parser().feed(wire.publish(KEY, NAME, records))
    assert isinstance(sent, list)
    assert sent[:2] == [b"PUBLISH", KEY]
    found = wire.read_published(NAME, sent[2])
    assert [record.body for record in found] == [BODY] * len(records)
    assert [record.position for record in found] == [record.position for record in records]


@pytest.mark.parametrize("cipher", [None, Cipher("a secret")], ids=["plain", "encrypted"])
def test_a_message_of_a_fence_has_its_summary(cipher: Cipher | None) -> None:
    wire = Wire(cipher)
    assert wire.read_published(NAME, wire.published(NAME, [FENCE])) == [FENCE]
