"""Header blocks: what is kept of them is what hpack would have made, whatever came before."""

from __future__ import annotations

from hpack import Decoder, Encoder
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.hatchet.grpc.header_blocks import HeaderDecoder, HeaderEncoder

CALL = ((":method", "POST"), (":path", "/a"), ("authorization", "bearer " + "t" * 300))
# few of each, so that they repeat; the large one does not fit into a small table
FIELDS = st.lists(
    st.tuples(st.sampled_from([":path", "a", "b"]), st.sampled_from(["/a", "1", "x" * 60, "y" * 5000])),
    max_size=4,
).map(tuple)
STEPS = st.lists(st.one_of(FIELDS, st.sampled_from([0, 100, 200, 4096])), max_size=40)


@given(STEPS)
@example([0, (), 100, 100, ((":path", "/a"), (":path", "/a"))])
def test_every_block_is_understood_by_any_decoder(steps: list[object]) -> None:
    ours, theirs = HeaderEncoder(), Decoder()
    for step in steps:
        if isinstance(step, int):
            ours.resize(step)
            theirs.max_allowed_table_size = 4096
        else:
            assert isinstance(step, tuple)
            assert tuple(theirs.decode(ours.encode(step))) == step


@given(STEPS)
def test_every_block_of_any_encoder_is_understood(steps: list[object]) -> None:
    theirs, ours = Encoder(), HeaderDecoder(100_000)
    for step in steps:
        if isinstance(step, int):
            if step != theirs.header_table_size:  # hpack 4.2 forgets a change that is set twice
                theirs.header_table_size = step
        else:
            assert isinstance(step, tuple)
            headers = {name.encode(): text.encode() for name, text in step}
            assert ours.decode(theirs.encode(step)) == headers


def test_the_headers_of_calls_are_encoded_once_and_read_once() -> None:
    encoder, decoder = HeaderEncoder(), HeaderDecoder(100_000)
    decoder.decode(encoder.encode(CALL))
    second = encoder.encode(CALL)
    assert len(second) == len(CALL)  # indexes
    assert encoder.encode(CALL) is second
    assert decoder.decode(second) is decoder.decode(second)
