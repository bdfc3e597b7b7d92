"""Authentication: sources of credentials, tokens, tickets, and the reasons of refusals."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.utils import base64url_encode

from config.model.files import AuthConfig
from proxy.access.authenticator import Authenticator, Identity, KeyProblem, RequestHead, Unauthenticated
from proxy.access.tickets import Tickets
from tests.support.issuer import jwk, pem, private_key, token

SECRET = "the secret of the team's tokens, long enough for any HMAC: 0123456789"
TICKETS = "the key of the team's tickets"
RUN = "7b1c5a3e-9f1d-4c49-8f0e-0f5f5f6d2a11"
NO_PEM = "-----BEGIN {0} KEY-----\nnope\n-----END {0} KEY-----"
FOR_EXCHANGE = (
    X25519PrivateKey.generate()
    .public_key()
    .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    .decode()
)
EVERY_WAY = ("bearer", "cookie:session", "ticket")


def auth(jwt: dict[str, Any] | None = None, *, ways: tuple[str, ...] = EVERY_WAY, **more: Any) -> AuthConfig:
    keys = jwt or {"key": SECRET, "algorithms": ["HS256"]}
    tickets = {"key": TICKETS, "lifetime": "10m"}
    return AuthConfig.model_validate({"jwt": keys, "from": list(ways), "tickets": tickets, **more})


def front(jwt: dict[str, Any] | None = None, **more: Any) -> Authenticator:
    allows = {"chat": "claims.sub == run.metadata.user_id", "free": None}
    return Authenticator(auth(jwt, **more), team="payments", allows=allows)


def asked(bearer: str = "", cookie: str = "", ticket: str = "") -> RequestHead:
    return RequestHead(
        {"authorization": f"Bearer {bearer}"} if bearer else {},
        {"session": cookie} if cookie else {},
        {"ticket": ticket} if ticket else {},
    )


async def who(by: Authenticator, **credentials: str) -> Identity:
    return await by.authenticate(asked(**credentials), stream="chat", run=RUN)


async def refusal(by: Authenticator, **credentials: str) -> Unauthenticated:
    with pytest.raises(Unauthenticated) as refused:
        await who(by, **credentials)
    return refused.value


def good(**claims: Any) -> str:
    return token(SECRET, "HS256", **claims)


# -- the sources ------------------------------------------------------------------------------------


async def test_without_auth_everybody_gets_the_anonymous_identity() -> None:
    anyone = Authenticator(None, team="default")
    assert await who(anyone) == Identity({}, None, None, "none")
    assert anyone.open and not anyone.issues_tickets and not anyone.accepts_cookies


@pytest.mark.parametrize("by", ["bearer", "cookie"])
async def test_a_token_is_taken_from_the_header_and_from_the_cookie(by: str) -> None:
    exp = int(time.time()) + 60
    identity = await who(front(), **{by: good(exp=exp, role="admin")})
    assert identity == Identity({"sub": "ada", "exp": exp, "role": "admin"}, "ada", exp + 30, by)


async def test_an_identity_expires_with_the_token_leeway_included() -> None:
    exp = int(time.time()) - 10
    identity = await who(front(), bearer=good(exp=exp))
    assert identity.expires_at == exp + 30


async def test_a_token_with_a_huge_exp_expires_with_the_last_date() -> None:
    by = front()
    identity = await who(by, bearer=good(exp=1e300))
    assert identity.expires_at == 253_402_300_799 + 30
    asyncio.get_running_loop().call_later(identity.expires_at, print).cancel()
    assert by.mint(identity, stream="chat", run=RUN)[1] <= time.time() + 600


async def test_a_ticket_is_accepted_for_its_own_stream_and_run() -> None:
    by = front()
    identity = await who(by, bearer=good(email="ada@example.com"))
    ticket, expires_at = by.mint(identity, stream="chat", run=RUN)
    assert await who(by, ticket=ticket) == Identity({"sub": "ada"}, "ada", expires_at, "ticket")
    for stream, run in (("free", RUN), ("chat", RUN[::-1])):
        with pytest.raises(Unauthenticated, match="another stream or run"):
            await by.authenticate(asked(ticket=ticket), stream=stream, run=run)


async def test_no_ticket_is_issued_for_a_ticket() -> None:
    by = front()
    ticket, _ = by.mint(await who(by, bearer=good()), stream="chat", run=RUN)
    with pytest.raises(Unauthenticated, match="no credentials"):
        await by.authenticate(asked(ticket=ticket), stream="chat", run=RUN, tickets=False)
    with pytest.raises(Unauthenticated, match="only for a token"):
        by.mint(await who(by, ticket=ticket), stream="chat", run=RUN)


async def test_a_source_that_is_not_listed_is_ignored() -> None:
    only_bearer = front(ways=("bearer",))
    assert not only_bearer.issues_tickets and not only_bearer.accepts_cookies
    assert (
        "no credentials were given; accepted are: a bearer token"
        in (await refusal(only_bearer, cookie=good(), ticket="t")).reason
    )


async def test_the_first_good_credential_in_the_teams_order_counts() -> None:
    both = {"bearer": good(sub="bea"), "cookie": good(sub="cyd")}
    assert (await who(front(ways=("bearer", "cookie:session")), **both)).subject == "bea"
    assert (await who(front(ways=("cookie:session", "bearer")), **both)).subject == "cyd"


async def test_an_expired_ticket_does_not_prevent_a_good_cookie() -> None:
    assert (await who(front(ways=("ticket", "cookie:session")), ticket="old", cookie=good())).by == "cookie"


async def test_a_stale_cookie_does_not_prevent_a_good_ticket() -> None:
    by = front()
    ticket, _ = by.mint(await who(by, bearer=good()), stream="chat", run=RUN)
    assert (await who(by, cookie=good(exp=1), ticket=ticket)).by == "ticket"


async def test_if_no_credential_is_good_the_first_bad_one_gives_the_reason() -> None:
    refused = await refusal(front(), bearer=good(exp=1), cookie="x", ticket="y")
    assert refused.reason == "the token has expired"
    assert refused.challenge == (
        'Bearer realm="payments", error="invalid_token", error_description="the token has expired"'
    )


async def test_a_request_without_credentials_gets_the_list_of_accepted_ones() -> None:
    refused = await refusal(front())
    assert refused.reason == (
        "no credentials were given; accepted are: a bearer token, the cookie session, a ticket"
    )
    assert refused.challenge == 'Bearer realm="payments"'


@pytest.mark.parametrize("header", ["Basic YWRhOnB3", "Bearer", "Bearer ", "bearer", "", "BearerX y"])
async def test_a_header_without_a_bearer_token_is_no_credential(header: str) -> None:
    with pytest.raises(Unauthenticated, match="no credentials"):
        await front().authenticate(RequestHead({"authorization": header}, {}, {}), stream="chat", run=RUN)


async def test_the_schemes_name_is_read_in_any_case() -> None:
    request = RequestHead({"authorization": f"bEARER   {good()}"}, {}, {})
    assert (await front().authenticate(request, stream="chat", run=RUN)).by == "bearer"


# -- tokens -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"exp": 1}, "the token has expired"),
        ({"exp": None}, "the token lacks a claim: exp is needed, and aud and iss where auth.jwt sets them"),
        ({"exp": "soon"}, "the token cannot be read"),
        ({"exp": float("inf")}, "the token cannot be read"),
        ({"exp": float("nan")}, "the token cannot be read"),
        ({"exp": 10**400}, "the token cannot be read"),
        ({"exp": {}}, "the token cannot be read"),
        ({"nbf": int(time.time()) + 86_400}, "the token is not valid yet"),
        ({"nbf": "x"}, "the token cannot be read"),
        ({"sub": 7}, "the token's sub is not a string"),
        ({"aud": "others"}, "the token is for another audience"),
    ],
)
async def test_a_signed_token_is_refused_for_its_claims(claims: dict[str, Any], reason: str) -> None:
    assert (await refusal(front(), bearer=good(**claims))).reason == reason


async def test_clocks_may_differ_by_the_leeway_and_no_more() -> None:
    now = int(time.time())
    assert await who(front(), bearer=good(exp=now - 20, nbf=now + 20))
    assert await refusal(front(), bearer=good(exp=now - 40))
    assert await refusal(front(), bearer=good(nbf=now + 40))


@pytest.mark.parametrize("aud", ["streams", ["others", "streams"]])
async def test_the_configured_audience_must_be_among_the_tokens(aud: str | list[str]) -> None:
    by = front({"key": SECRET, "algorithms": ["HS256"], "audience": "streams"})
    assert await who(by, bearer=good(aud=aud))
    for wrong in ("others", ["others"], [], "", None, 7, {"streams": 1}):
        assert await refusal(by, bearer=good(aud=wrong))


async def test_the_configured_issuer_must_be_the_tokens() -> None:
    by = front({"key": SECRET, "algorithms": ["HS256"], "issuer": "https://id.example.com/"})
    assert await who(by, bearer=good(iss="https://id.example.com/"))
    for wrong in ("https://id.example.com", "https://evil.example", None):
        assert await refusal(by, bearer=good(iss=wrong))


@pytest.mark.parametrize(
    "algorithm",
    ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "ES256K", "EdDSA"],
)
async def test_every_listed_algorithm_with_a_public_key(algorithm: str) -> None:
    key = private_key(algorithm)
    by = front({"key": pem(key), "algorithms": [algorithm]})
    assert (await who(by, bearer=token(key, algorithm))).subject == "ada"
    stranger = private_key(algorithm, "stranger")
    assert "not signed with a key" in (await refusal(by, bearer=token(stranger, algorithm))).reason


async def test_an_algorithm_that_is_not_listed_is_refused_even_with_the_right_key() -> None:
    key = private_key("RS256")
    by = front({"key": pem(key), "algorithms": ["RS256"]})
    for other in ("RS384", "PS256"):
        assert "an algorithm" in (await refusal(by, bearer=token(key, other))).reason


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "", None, ["RS256"], {"RS256": 1}, 7])
async def test_none_and_unknown_algorithms_are_refused(alg: Any) -> None:
    body = json.dumps({"sub": "eve", "exp": int(time.time()) + 60}).encode()
    parts = [base64url_encode(json.dumps({"alg": alg, "typ": "JWT"}).encode()), base64url_encode(body)]
    for signature in (b"", b"AAAA"):
        assert await refusal(front(), bearer=b".".join([*parts, signature]).decode())


@pytest.mark.parametrize("listed", [["RS256"], ["RS256", "HS256"], ["HS256", "RS256"]])
async def test_a_public_key_is_never_an_hmac_secret(listed: list[str]) -> None:
    public = pem(private_key("RS256"))
    by = front({"key": public, "algorithms": listed})
    hmac = jwt.get_algorithm_by_name("HS256")
    for secret in (public, public.strip(), public + "\n"):
        head = base64url_encode(b'{"alg":"HS256","typ":"JWT"}')
        body = base64url_encode(json.dumps({"sub": "eve", "exp": int(time.time()) + 60}).encode())
        signature = base64url_encode(hmac.sign(head + b"." + body, secret.encode()))
        assert "not signed" in (await refusal(by, bearer=b".".join([head, body, signature]).decode())).reason


async def test_keys_inside_a_token_are_ignored() -> None:
    eves = private_key("RS256", "eve")
    for headers in ({"jwk": jwk(eves)}, {"jku": "http://127.0.0.1:9/"}, {"x5u": "http://127.0.0.1:9/"}):
        forged = jwt.encode({"sub": "eve", "exp": time.time() + 60}, eves, algorithm="RS256", headers=headers)
        by = front({"key": pem(private_key("RS256")), "algorithms": ["RS256"]})
        assert "not signed" in (await refusal(by, bearer=forged)).reason


async def test_tokens_and_tickets_never_verify_as_each_other_even_with_one_secret() -> None:
    same = {"key": SECRET, "lifetime": "10m"}
    by = front({"key": SECRET, "algorithms": ["HS256"]}, tickets=same)
    ticket, _ = by.mint(await who(by, bearer=good()), stream="chat", run=RUN)
    assert await refusal(by, bearer=ticket)
    assert await refusal(by, cookie=ticket)
    assert await refusal(by, ticket=good(stream="chat", run=RUN))


async def test_a_token_of_another_team_is_refused() -> None:
    assert await refusal(front({"key": SECRET + "!", "algorithms": ["HS256"]}), bearer=good())


@pytest.mark.parametrize(
    "bearer",
    [
        *("x", "a.b", "a.b.c", "..", ".", "a.b.c.d", "\x00", "é.é.é", "\ud800.a.b", "x" * 8193),
        *("e30.e30.e30", "bnVsbA.bnVsbA.bnVsbA"),
        base64url_encode(b"[" * 5000).decode() + ".e30.AA",
    ],
)
async def test_a_malformed_token_is_refused_and_never_quoted(bearer: str) -> None:
    refused = await refusal(front(), bearer=bearer)
    assert len(bearer) < 2 or bearer not in f"{refused.reason} {refused.challenge}"


async def test_a_short_secret_works_without_a_warning_per_request() -> None:
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        signed = token("short", "HS256")
    assert await who(front({"key": "short", "algorithms": ["HS256"]}), bearer=signed)


async def test_a_subject_that_is_not_a_text_is_ignored() -> None:
    assert (await who(front(), bearer=good(sub=None))).subject is None
    assert (await who(front(), bearer=good(sub=""))).subject is None
    tickets = Tickets(TICKETS, team="payments", lifetime=600.0)  # PyJWT checks the subject of tokens alone
    ticket, _ = tickets.mint({"sub": 7}, stream="chat", run=RUN, named=None, until=None)
    assert (await who(front(), ticket=ticket)).subject is None


# -- configuration ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"key": SECRET, "algorithms": ["RS256"]}, r"\(a secret\) fits none"),
        ({"key": pem(private_key("RS256")), "algorithms": ["HS256"]}, "an RSA key of 2048 bits"),
        ({"key": pem(private_key("ES256")), "algorithms": ["ES384"]}, "an EC key on secp256r1"),
        ({"key": NO_PEM.format("PUBLIC"), "algorithms": ["RS256"]}, "no public key"),
        ({"key": NO_PEM.format("PRIVATE"), "algorithms": ["RS256"]}, "private key"),
        ({"key": FOR_EXCHANGE, "algorithms": ["EdDSA"]}, "of a kind that signs no tokens"),
        ({"jwks_url": "https://id.example.com/jwks.json", "algorithms": ["HS256"]}, "not published"),
        ({"algorithms": ["RS256"]}, "jwks_url or key"),
    ],
)
async def test_a_key_that_cannot_work_is_refused_at_the_start(config: dict[str, Any], says: str) -> None:
    with pytest.raises(KeyProblem, match=says) as problem:
        front(config)
    assert SECRET not in str(problem.value) and "nope" not in str(problem.value)


# -- the request head -----------------------------------------------------------------------------------


def test_a_request_is_read_from_raw_headers_and_query() -> None:
    headers = [
        (b"Authorization", b"Bearer x"),
        (b"authorization", b"Bearer y"),
        (b"cookie", b'a=1; session="s=1"; a=2; broken; =e'),
        (b"cookie", b"late=3"),
    ]
    found = RequestHead.read(headers, b"ticket=t%2B1&ticket=u&last_event_id=&x=%ff")
    assert found.headers["authorization"] == "Bearer x"
    assert found.cookies == (("a", "1"), ("session", "s=1"), ("a", "2"), ("", "e"), ("late", "3"))
    assert found.query == (("ticket", "t+1"), ("ticket", "u"), ("last_event_id", ""), ("x", "\ufffd"))
    assert found.parameters == {"ticket": "t+1", "last_event_id": "", "x": "\ufffd"}


def test_what_allow_reads_of_a_request_has_its_parameters_and_no_credentials() -> None:
    headers = [
        (b"origin", b"https://app.example"),
        (b"authorization", b"Bearer x"),
        (b"cookie", b"session=s"),
    ]
    page = RequestHead.read(headers, b"ticket=t&page=2").without_credentials()
    assert page.parameters == {"page": "2"}
    assert (page.headers, page.cookies) == ({"origin": "https://app.example"}, ())


def test_objects_with_credentials_do_not_print_them() -> None:
    assert "planted" not in repr(
        RequestHead({"authorization": "planted"}, {"s": "planted"}, {"ticket": "planted"})
    )
    assert "planted" not in repr(Identity({"email": "planted"}, "ada", None, "bearer"))
