"""Bounds of tokens, tickets and published key sets: lengths, numbers of keys, and one fetch."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

import jwt
import pytest

from config.model.files import JwtConfig
from proxy.access.errors import BadToken, TicketRefused
from proxy.access.jwks import KeySets
from proxy.access.jwt import MAX_TOKEN, MAX_TRIES, JwtVerifier
from proxy.access.keys import MAX_KEYS, Key, read_set
from proxy.access.tickets import MAX_TICKET, TYPE, Tickets
from tests.support.issuer import jwk, private_key

SECRET = "the secret of the team's tokens, long enough for any HMAC: 0123456789"


def signed(*, secret: str = SECRET, typ: str = "JWT", **claims: object) -> str:
    return jwt.encode({"exp": time.time() + 60, **claims}, secret, algorithm="HS256", headers={"typ": typ})


def verifier() -> JwtVerifier:
    config = JwtConfig.model_validate({"key": SECRET, "algorithms": ["HS256"]})
    return JwtVerifier(config, KeySets())


class GivenKeys:
    """A source of keys that all could have signed the token."""

    def __init__(self, *keys: Key) -> None:
        self.keys = keys

    async def candidates(self, key_id: str | None, algorithm: str) -> Sequence[Key]:
        return self.keys

    @property
    def cached(self) -> Sequence[Key]:
        return ()


async def test_a_token_over_the_limit_is_refused_before_it_is_parsed() -> None:
    fits = signed(padding="x" * 1000)
    assert (await verifier().read(fits))[0]["padding"]
    with pytest.raises(BadToken, match="too long"):
        await verifier().read(signed(padding="x" * MAX_TOKEN))


async def test_a_token_of_the_type_of_tickets_is_refused_even_if_the_team_signed_it() -> None:
    with pytest.raises(BadToken):
        await verifier().read(signed(typ=TYPE))


@pytest.mark.parametrize(("wrong", "accepted"), [(MAX_TRIES - 1, True), (MAX_TRIES, False)])
async def test_only_so_many_keys_are_tried_for_a_token_that_names_none(wrong: int, accepted: bool) -> None:
    tried = verifier()
    keys = [b"another secret %d, which is long enough as well: 0123456789 0123" % n for n in range(wrong)]
    object.__setattr__(tried, "_keys", GivenKeys(*keys, SECRET.encode()))
    if accepted:
        assert (await tried.read(signed(sub="ada")))[0]["sub"] == "ada"
    else:
        with pytest.raises(BadToken):
            await tried.read(signed(sub="ada"))


def test_a_ticket_over_the_limit_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(TicketRefused, match="too long"):
        Tickets(SECRET, team="a", lifetime=60.0).read(
            "x" * (MAX_TICKET + 1), stream="s", run="r", named=frozenset()
        )


def test_only_so_many_keys_of_a_published_set_are_read() -> None:
    key = private_key("RS256", "first")
    keys = [jwk(key, kid=str(number), use="sig") for number in range(MAX_KEYS + 5)]
    assert len(read_set(json.dumps({"keys": keys}).encode())) == MAX_KEYS
