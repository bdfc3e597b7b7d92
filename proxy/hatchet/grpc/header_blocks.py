"""Header blocks of one HTTP/2 connection (RFC 7541), converted once where they repeat.

All calls of a connection have nearly the same headers, and so do the answers. The first call puts them into
the dynamic table; from then on the block is made of indexes alone, and is the same bytes each time, as long
as nothing is added to the table. hpack would make it again, which is a tenth of what the beginning of a run
costs.
"""

from __future__ import annotations

from typing import Any, Final

from hpack import Decoder, Encoder

Fields = tuple[tuple[str, str], ...]
MOST: Final = 16
"""Blocks that are kept: a connection makes three kinds of calls, and their answers have two blocks each."""
SIZE_UPDATE: Final = 0x20  # the first three bits of a block that changes the size of the table
SIZE_UPDATE_BITS: Final = 0xE0


class HeaderEncoder:
    """Makes the blocks that are sent."""

    def __init__(self) -> None:
        self._encoder = Encoder()
        self._blocks: dict[Fields, bytes] = {}

    def encode(self, fields: Fields) -> bytes:
        """The block of `fields`; to be sent before the next one is made."""
        block = self._blocks.get(fields)
        if block is not None:
            return block
        newest = _newest(self._encoder)
        block = bytes(self._encoder.encode(fields))
        if _newest(self._encoder) is not newest or len(self._blocks) >= MOST:
            self._blocks.clear()  # the indexes have moved
        elif not _updates_size(block):
            self._blocks[fields] = block
        return block

    def resize(self, size: int) -> None:
        """Use a dynamic table of `size` bytes from now on."""
        if size == self._encoder.header_table_size:
            return  # hpack would forget a change that it has not announced yet
        self._encoder.header_table_size = size
        self._blocks.clear()


class HeaderDecoder:
    """Reads the blocks that are received."""

    def __init__(self, most_bytes: int) -> None:
        """`most_bytes`: of the headers of a block, as RFC 7541 counts them."""
        self._decoder = Decoder(max_header_list_size=most_bytes)
        self._headers: dict[bytes, dict[bytes, bytes]] = {}

    def decode(self, block: bytes) -> dict[bytes, bytes]:
        """The headers by name; of a repeated name the last. Not to be changed. Raises HPACKError."""
        headers = self._headers.get(block)
        if headers is not None:
            return headers
        newest = _newest(self._decoder)
        headers = {bytes(name): bytes(text) for name, text in self._decoder.decode(block, raw=True)}
        if _newest(self._decoder) is not newest or _updates_size(block) or len(self._headers) >= MOST:
            self._headers.clear()
        else:
            self._headers[block] = headers
        return headers


def _newest(of: Any) -> object:
    """The newest entry of the dynamic table of hpack's `Encoder` or `Decoder`: another one after each change.

    An entry is a new tuple, so that two equal ones can be told apart.
    """
    entries = of.header_table.dynamic_entries
    return entries[0] if entries else None


def _updates_size(block: bytes) -> bool:
    return bool(block) and block[0] & SIZE_UPDATE_BITS == SIZE_UPDATE
