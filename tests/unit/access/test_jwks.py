"""Issuers' keys: caching, rotation, outages, and hostile key sets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from config.model.files import AuthConfig
from proxy.access.authenticator import Authenticator, KeysUnavailable, RequestHead, Unauthenticated
from proxy.access.jwks import (
    BURST,
    FRESH,
    MAX_SET_BYTES,
    MISSING_FOR,
    PATIENCE,
    REFRESH_AFTER,
    SOONEST,
    USABLE,
    KeySet,
    KeySets,
)
from proxy.access.jwt import JwtVerifier
from proxy.access.keys import fits, read_set
from proxy.teams.prober import EVERY, SPREAD
from tests.support.issuer import Issuer, jwk, private_key, token

FIRST, SECOND = private_key("RS256", "first"), private_key("RS256", "second")
ALGORITHMS = ("RS256", "ES256", "EdDSA")


class HandClock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing here sleeps")


class Setup:
    """A team that trusts an issuer, and a clock."""

    def __init__(self, issuer: Issuer, algorithms: tuple[str, ...] = ALGORITHMS) -> None:
        self.issuer = issuer
        self.clock = HandClock()
        self.key_sets = KeySets(clock=self.clock)
        self.algorithms = algorithms
        self.team = self.front()

    def front(self) -> Authenticator:
        keys = {"jwks_url": self.issuer.url, "algorithms": list(self.algorithms)}
        auth = AuthConfig.model_validate({"jwt": keys, "from": ["bearer"]})
        return Authenticator(auth, team="payments", key_sets=self.key_sets)

    async def connect(self, key: Any = FIRST, kid: str | None = "1", algorithm: str = "RS256") -> str:
        bearer = token(key, algorithm, kid=kid)
        try:
            asked = RequestHead({"authorization": f"Bearer {bearer}"}, {}, {})
            await self.team.authenticate(asked, stream="chat", run="r")
        except Unauthenticated:
            return "refused"
        except KeysUnavailable:
            return "waits"
        return "in"


@pytest.fixture
async def setup() -> AsyncIterator[Setup]:
    async with Issuer([jwk(FIRST, kid="1", use="sig")]) as issuer:
        setup = Setup(issuer)
        yield setup
        await setup.key_sets.close()


async def test_the_set_is_fetched_when_it_is_needed_and_then_kept(setup: Setup) -> None:
    assert setup.issuer.asked == 0
    assert [await setup.connect() for _ in range(5)] == ["in"] * 5
    assert setup.issuer.asked == 1


async def test_an_unknown_key_of_the_first_token_costs_one_fetch(setup: Setup) -> None:
    assert await setup.connect(SECOND, kid="2") == "refused"
    assert setup.issuer.asked == 1, "the set was fetched a moment ago"


async def test_a_thousand_clients_at_once_cost_one_fetch(setup: Setup) -> None:
    assert set(await asyncio.gather(*(setup.connect() for _ in range(1000)))) == {"in"}
    assert setup.issuer.asked == 1


async def test_teams_that_trust_one_issuer_share_its_keys_and_a_reload_keeps_them(setup: Setup) -> None:
    await setup.connect()
    setup.team = setup.front()
    assert await setup.connect() == "in"
    assert setup.issuer.asked == 1


async def test_a_new_key_is_accepted_at_once(setup: Setup) -> None:
    await setup.connect()
    setup.issuer.keys.append(jwk(SECOND, kid="2"))
    assert await setup.connect(SECOND, "2") == "in"
    assert await setup.connect(FIRST, "1") == "in"
    assert setup.issuer.asked == 2


async def test_a_revoked_key_is_refused_after_the_next_refresh(setup: Setup) -> None:
    await setup.connect()
    setup.issuer.keys[:] = [jwk(SECOND, kid="2")]
    assert await setup.connect() == "in"
    setup.clock.time += FRESH + 1
    assert await setup.connect() == "refused"


async def refreshed(setup: Setup) -> None:
    """Wait for the fetch that is under way."""
    fetching = setup.key_sets.at(setup.issuer.url)._fetching
    assert fetching is not None
    await fetching


async def test_a_revoked_key_is_refused_after_a_refresh_that_no_client_caused(setup: Setup) -> None:
    await setup.connect()
    setup.issuer.keys[:] = [jwk(SECOND, kid="2")]
    key_set = setup.key_sets.at(setup.issuer.url)
    setup.clock.time += REFRESH_AFTER
    await key_set.check()
    assert setup.issuer.asked == 1
    setup.clock.time += 1
    await key_set.check()
    assert REFRESH_AFTER + EVERY * (1 + SPREAD) < FRESH, "a set is refreshed before it is too old"
    assert await setup.connect() == "refused"


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (404, b"", "answers HTTP 404"),
        (302, b"", "answers with a redirect (HTTP 302), which is not followed"),
        (200, b'{"issuer": "x", "jwks_uri": "https://id.example.com/keys"}', "the OpenID discovery document"),
        (200, b"<html>sign in</html>", "a web page instead of keys"),
        (200, b"keys", "no JSON instead of keys"),
        (200, b"[]", "JSON that is no JWK set"),
        (200, b'{"kty": "RSA"}', "a single key"),
        (200, b'{"keys": []}', "a JWK set without keys"),
        (200, b'{"keys": [{"kty": "oct", "k": "AAAA"}]}', "no key can verify signatures"),
    ],
)
async def test_what_came_instead_of_keys_is_known_without_a_client(
    status: int, body: bytes, says: str
) -> None:
    changes: list[bool] = []
    issuer = Issuer(status=status, body=body, headers={"Location": "http://127.0.0.1:9/"})
    async with issuer:
        sets = KeySets(clock=HandClock(), changed=lambda: changes.append(True))
        key_set = sets.at(issuer.url)
        await key_set.check()
        assert says in str(key_set.trouble)
        issuer.status, issuer.body = 200, json.dumps({"keys": [jwk(FIRST, kid="1")]}).encode()
        for _ in range(3):
            await key_set.check()
        assert str(key_set.trouble) == "None"
        assert (issuer.asked, changes) == (2, [True])
        await sets.close()


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tokens that were verified, and not found in the cache."""
    tokens: list[str] = []
    read = JwtVerifier.read

    async def counted(self: JwtVerifier, text: str) -> tuple[Mapping[str, Any], float]:
        tokens.append(text)
        return await read(self, text)

    monkeypatch.setattr(JwtVerifier, "read", counted)
    return tokens


async def test_no_client_waits_for_an_issuer_that_is_known_to_be_down(setup: Setup) -> None:
    await setup.connect()
    setup.clock.time += FRESH + 1
    setup.issuer.status = 503
    assert await setup.connect() == "in"
    setup.issuer.status, setup.issuer.keys[:] = 200, [jwk(SECOND, kid="2")]
    assert await setup.connect() == "in"  # with the keys that are cached
    await refreshed(setup)
    assert setup.issuer.asked == 3
    assert await setup.connect() == "refused"


async def test_a_valid_token_is_not_verified_again_until_its_key_is_old_or_revoked(
    setup: Setup, verified: list[str]
) -> None:
    asked = RequestHead({"authorization": f"Bearer {token(FIRST, 'RS256', kid='1')}"})

    async def is_verified_again() -> bool:
        before = len(verified)
        await setup.team.authenticate(asked, stream="chat", run="r")
        return len(verified) > before

    assert await is_verified_again()
    assert not await is_verified_again()
    setup.clock.time += FRESH + 1
    assert await is_verified_again(), "the key set is old"
    assert not await is_verified_again()
    setup.issuer.keys[:] = [jwk(SECOND, kid="2")]
    setup.clock.time += FRESH + 1
    before = len(verified)
    with pytest.raises(Unauthenticated):
        await setup.team.authenticate(asked, stream="chat", run="r")
    assert len(verified) > before


async def test_a_new_configuration_starts_with_an_empty_token_cache(
    setup: Setup, verified: list[str]
) -> None:
    asked = RequestHead({"authorization": f"Bearer {token(FIRST, 'RS256', kid='1')}"})
    await setup.team.authenticate(asked, stream="chat", run="r")
    setup.team = setup.front()
    await setup.team.authenticate(asked, stream="chat", run="r")
    assert len(verified) == 2


async def test_forged_key_ids_are_refused_and_fetches_stay_limited(setup: Setup) -> None:
    await setup.connect()
    answers = [await setup.connect(SECOND, f"forged-{n}") for n in range(50)]
    assert answers[: BURST - 1] == ["refused"] * (BURST - 1)
    assert set(answers[BURST - 1 :]) == {"waits"}  # a final refusal would end an EventSource
    assert setup.issuer.asked == BURST
    assert await setup.connect() == "in"
    setup.clock.time += SOONEST
    assert await setup.connect(SECOND, "forged-99") == "refused"


async def test_a_missing_key_is_not_fetched_again_at_once(setup: Setup) -> None:
    assert {await setup.connect(SECOND, "2") for _ in range(50)} == {"refused"}
    assert setup.issuer.asked <= 2
    asked = setup.issuer.asked
    setup.issuer.keys.append(jwk(SECOND, kid="2"))
    setup.clock.time += MISSING_FOR
    assert await setup.connect(SECOND, "2") == "in"
    assert setup.issuer.asked == asked + 1


@pytest.mark.parametrize("outage", ["status", "body", "redirect", "empty"])
async def test_cached_keys_are_used_during_an_outage_of_the_issuer(setup: Setup, outage: str) -> None:
    assert await setup.connect() == "in"
    if outage == "status":
        setup.issuer.status = 503
    elif outage == "redirect":
        setup.issuer.status, setup.issuer.headers = 302, {"Location": setup.issuer.url}
    elif outage == "body":
        setup.issuer.body = b"<html>we are moving</html>"
    else:
        setup.issuer.keys.clear()
    for _ in range(10):
        setup.clock.time += USABLE / 11
        assert await setup.connect() == "in"
    setup.clock.time += USABLE
    assert await setup.connect() == "waits"


async def test_a_token_with_a_new_key_waits_while_the_issuer_is_unreachable(setup: Setup) -> None:
    await setup.connect()
    setup.issuer.status = 500
    assert await setup.connect(SECOND, "2") == "waits"
    setup.issuer.status = 200
    setup.issuer.keys.append(jwk(SECOND, kid="2"))
    assert await setup.connect(SECOND, "2") == "in"


async def test_a_client_waits_for_an_issuer_that_never_answered() -> None:
    issuer = Issuer()
    issuer.url = "http://127.0.0.1:9/jwks.json"  # the discard port: nobody listens
    setup = Setup(issuer)
    assert await setup.connect() == "waits"
    await setup.key_sets.close()


async def test_a_client_that_leaves_does_not_cancel_the_fetch_of_the_others() -> None:
    release = asyncio.Event()

    async def slow(url: str) -> bytes:
        await release.wait()
        return json.dumps({"keys": [jwk(FIRST, kid="1")]}).encode()

    key_set = KeySets(slow).at("https://id.example.com")
    first, second = (asyncio.create_task(key_set.candidates("1", "RS256")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    release.set()
    assert len(await second) == 1


async def test_a_fetch_that_does_not_finish_is_given_up() -> None:
    async def silent(url: str) -> bytes:
        await asyncio.Event().wait()
        return b""

    with pytest.raises(KeysUnavailable):
        await KeySet("https://id.example.com", silent, HandClock(), patience=0.05).candidates("1", "RS256")


async def test_closing_does_not_wait_for_a_fetch_that_does_not_finish() -> None:
    started = asyncio.Event()

    async def silent(url: str) -> bytes:
        started.set()
        await asyncio.Event().wait()
        return b""

    key_set = KeySet("https://id.example.com", silent, HandClock(), patience=1e6)
    waiting = asyncio.create_task(key_set.candidates("1", "RS256"))
    await started.wait()
    async with asyncio.timeout(30):  # the fetch has eleven days
        await key_set.close()
    await asyncio.wait([waiting])
    assert waiting.cancelled() or waiting.exception() is not None


async def test_a_redirect_of_the_issuer_is_not_followed(setup: Setup) -> None:
    async with Issuer([jwk(FIRST, kid="1")]) as elsewhere:
        setup.issuer.status, setup.issuer.headers = 302, {"Location": elsewhere.url}
        assert await setup.connect() == "waits"
        assert (setup.issuer.asked > 0, elsewhere.asked) == (True, 0)


async def test_unknown_key_ids_are_remembered_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.access.jwks.MAX_MISSING", 2)
    monkeypatch.setattr("proxy.access.jwks.SOONEST", 1e-9)  # no limit on fetches

    async def fetch(url: str) -> bytes:
        clock.time += 1e-3
        return json.dumps({"keys": [jwk(FIRST, kid="1")]}).encode()

    clock = HandClock()
    key_set = KeySet("https://id.example.com", fetch, clock)
    await key_set.candidates("1", "RS256")
    for n in range(20):
        clock.time += 1e-3
        assert await key_set.candidates(f"forged-{n}", "RS256") == ()
        assert len(key_set._missing) == 1 + n % 2, "a full memory begins again"


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (TimeoutError(), "does not answer in time"),
        (OSError("ClientConnectorError"), "cannot be reached (ClientConnectorError)"),
        (ValueError("https://id.example.com/?secret"), "publishes no key that can be used"),
    ],
)
async def test_a_fetch_that_fails_is_described_by_the_issuers_host(error: Exception, says: str) -> None:
    async def fetch(url: str) -> bytes:
        raise error

    key_set = KeySet("https://id.example.com/?secret", fetch, HandClock())
    await key_set.check()
    assert str(key_set.trouble) == f"the issuer at id.example.com {says}"


async def test_a_set_over_the_size_limit_is_not_read_further(setup: Setup) -> None:
    setup.issuer.body = json.dumps({"keys": setup.issuer.keys}).encode() + b" " * MAX_SET_BYTES
    assert await setup.connect() == "waits"


async def test_a_token_without_a_key_id_is_tried_with_each_fitting_key(setup: Setup) -> None:
    setup.issuer.keys.append(jwk(private_key("ES256"), "ES256"))
    assert await setup.connect(FIRST, None) == "in"
    assert await setup.connect(private_key("ES256"), None, "ES256") == "in"
    assert await setup.connect(SECOND, None) == "refused"


@pytest.mark.parametrize(
    "spoilt",
    [
        {"use": "enc"},
        {"key_ops": ["encrypt"]},
        {"key_ops": "verify"},
        {"alg": "RS512"},
        {"alg": "HS256"},
        {"kid": "other"},
        {"kid": 1},
        {"kty": "EC"},
        {"n": "AQAB"},
    ],
)
async def test_a_key_for_another_use_is_ignored(setup: Setup, spoilt: dict[str, Any]) -> None:
    setup.issuer.keys[:] = [{**jwk(FIRST, kid="1"), **spoilt}, jwk(SECOND, kid="2")]
    assert await setup.connect() == "refused"
    assert await setup.connect(SECOND, "2") == "in"


async def test_a_published_symmetric_key_is_ignored(setup: Setup) -> None:
    secret = b"known to everyone" * 4
    setup.issuer.keys.append({"kty": "oct", "k": jwt.utils.base64url_encode(secret).decode(), "kid": "3"})
    setup.algorithms = ("RS256", "HS256")
    setup.team = setup.front()
    assert await setup.connect(secret, "3", "HS256") == "refused"


async def test_a_public_key_of_the_set_is_never_an_hmac_secret(setup: Setup) -> None:
    setup.algorithms = ("RS256", "HS256")
    setup.team = setup.front()
    for known in (json.dumps(setup.issuer.keys[0]), setup.issuer.keys[0]["n"]):
        secret = jwt.utils.base64url_encode(known.encode())  # the form does not matter: the key is ignored
        assert await setup.connect(secret, "1", "HS256") == "refused"


def test_a_private_key_in_a_published_set_is_not_used() -> None:
    import jwt.algorithms as families  # noqa: PLC0415

    whole = json.loads(families.RSAAlgorithm.to_jwk(FIRST))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no key can verify signatures"):
        read_set(json.dumps({"keys": [whole]}).encode())


def test_a_short_rsa_key_verifies_nothing() -> None:
    short = rsa.generate_private_key(65537, 1024).public_key()
    assert not any(fits(short, algorithm) for algorithm in ("RS256", "RS512", "PS256"))


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"null", b"[]", b"{}", b'{"keys": {}}', b'{"keys": []}', b'{"keys": [1, null, "x", {}]}'),
        *(b"\xff", b'{"keys": ' + b"[" * 100_000),
    ],
)
def test_a_document_that_is_not_a_key_set_is_refused(text: bytes) -> None:
    with pytest.raises((ValueError, RecursionError)):
        read_set(text)


def test_an_issuer_that_goes_away_is_known_within_a_minute_although_cached_keys_serve() -> None:
    assert REFRESH_AFTER + EVERY * (1 + SPREAD) + PATIENCE < 60
