"""Tickets: what they are bound to, which claims they carry, and that nothing else is accepted as one."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import jwt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.access.errors import BadTicketRequest, TicketRefused, TicketRequest
from proxy.access.tickets import MAX_TICKET, TYPE, Tickets, claims_named

KEY = "a ticket key of the payments team"
RUN = "7b1c5a3e-9f1d-4c49-8f0e-0f5f5f6d2a11"
SOON = time.time() + 3600


def tickets(key: str = KEY, team: str = "payments", lifetime: float = 600.0, **more: Any) -> Tickets:
    return Tickets(key, team=team, lifetime=lifetime, **more)


def mint(
    by: Tickets | None = None,
    claims: dict[str, Any] | None = None,
    named: frozenset[str] | None = frozenset(),
    until: float | None = SOON,
) -> str:
    by = by or tickets()
    return by.mint(claims or {"sub": "ada"}, stream="chat", run=RUN, named=named, until=until)[0]


def body_of(ticket: str) -> dict[str, Any]:
    part = ticket.split(".")[1]
    body: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return body


def test_a_ticket_is_valid_for_its_stream_and_run_on_every_replica() -> None:
    asked = time.time()
    ticket, expires_at = tickets().mint({"sub": "ada"}, stream="chat", run=RUN, named=frozenset(), until=SOON)
    another_replica = tickets()
    found = another_replica.read(ticket, stream="chat", run=RUN, named=frozenset())
    assert found.claims == {"sub": "ada"}
    assert found.expires_at == expires_at
    assert int(asked) + 600 <= expires_at <= time.time() + 600


def test_a_ticket_for_a_token_without_an_end_expires_after_the_lifetime() -> None:
    _, expires_at = tickets(now=lambda: 1000.0).mint(
        {"sub": "ada"}, stream="chat", run=RUN, named=None, until=None
    )
    assert expires_at == 1600


@pytest.mark.parametrize(
    ("stream", "run"), [("other", RUN), ("chat", RUN.replace("7", "8")), ("chat", RUN.upper()), ("", "")]
)
def test_a_ticket_is_for_one_stream_and_one_run(stream: str, run: str) -> None:
    with pytest.raises(TicketRefused, match="another stream or run"):
        tickets().read(mint(), stream=stream, run=run, named=frozenset())


@pytest.mark.parametrize("reader", [tickets(team="search"), tickets(key="another key")])
def test_a_ticket_is_valid_for_its_team_only_even_if_two_teams_share_a_key(reader: Tickets) -> None:
    with pytest.raises(TicketRefused, match="not this team's"):
        reader.read(mint(), stream="chat", run=RUN, named=frozenset())


def test_a_ticket_expires_no_later_than_its_token() -> None:
    until = time.time() + 30.7
    _, expires_at = tickets().mint({}, stream="chat", run=RUN, named=frozenset(), until=until)
    assert until - 1 < expires_at <= until


def test_a_token_in_its_last_second_gets_no_ticket() -> None:
    with pytest.raises(TicketRefused, match="too little time"):
        mint(until=time.time() - 1)


def test_an_expired_ticket_is_refused_as_expired() -> None:
    an_hour_ago = tickets(now=lambda: time.time() - 3600)
    with pytest.raises(TicketRefused, match="the ticket has expired"):
        tickets().read(mint(an_hour_ago), stream="chat", run=RUN, named=frozenset())


def test_a_ticket_carries_only_the_subject_and_what_allow_names() -> None:
    claims = {"sub": "ada", "email": "ada@example.com", "org": {"id": 7}}
    assert body_of(mint(claims=claims, named=frozenset({"org"})))["claims"] == {
        "sub": "ada",
        "org": {"id": 7},
    }
    assert body_of(mint(claims=claims, named=None))["claims"] == claims


def test_a_ticket_is_refused_when_allow_names_a_claim_that_it_lacks() -> None:
    ticket = mint(named=frozenset({"org"}))
    assert tickets().read(ticket, stream="chat", run=RUN, named=frozenset())
    for now_named in (frozenset({"org", "banned"}), None):
        with pytest.raises(TicketRefused, match="rules have changed"):
            tickets().read(ticket, stream="chat", run=RUN, named=now_named)


def test_claims_that_would_not_fit_into_a_url_are_refused_when_the_ticket_is_made() -> None:
    with pytest.raises(TicketRefused, match="too large"):
        mint(claims={"groups": ["g" * 50] * 100}, named=None)


@pytest.mark.parametrize("at", [0, 10, 60, -1])
def test_a_ticket_with_one_character_changed_is_refused(at: int) -> None:
    ticket = mint()
    at %= len(ticket)
    forged = ticket[:at] + ("A" if ticket[at] != "A" else "B") + ticket[at + 1 :]
    with pytest.raises(TicketRefused):
        tickets().read(forged, stream="chat", run=RUN, named=frozenset())


def payload() -> dict[str, Any]:
    return {"stream": "chat", "run": RUN, "exp": int(SOON), "claims": {"sub": "eve"}, "named": None}


@pytest.mark.parametrize(
    "forged",
    [
        jwt.encode(payload(), "", algorithm="none", headers={"typ": TYPE}),
        jwt.encode(payload(), "k" * 32, algorithm="HS256", headers={"typ": TYPE}),
        jwt.encode(
            payload(), KEY, algorithm="HS256", headers={"typ": TYPE}
        ),  # the key as written signs nothing
        "",
        "..",
        "a.b.c",
        "\x00",
        "é.ü.\ud800",
        "x" * (MAX_TICKET + 1),
    ],
)
def test_a_ticket_that_the_team_did_not_sign_is_refused(forged: str) -> None:
    with pytest.raises(TicketRefused):
        tickets().read(forged, stream="chat", run=RUN, named=frozenset())


def test_a_token_signed_with_the_ticket_key_is_no_ticket() -> None:
    own = tickets()
    signed = jwt.encode(payload(), own._key, algorithm="HS256")
    with pytest.raises(TicketRefused):
        own.read(signed, stream="chat", run=RUN, named=frozenset())


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-9, 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["", "chat", RUN, "\ud800", "é", str(int(SOON))]),
    st.sampled_from([int(SOON), int(SOON) - 7200, float(SOON), ["sub"], {"sub": "eve", "id": 2**64 + 1}]),
)


@given(
    st.dictionaries(st.sampled_from(["stream", "run", "exp", "claims", "named", "nbf", "aud", "x"]), VALUES),
    st.sets(st.sampled_from(["stream", "run", "exp", "claims", "named"]), max_size=1),
    st.sampled_from([{"typ": TYPE}, {}, {"typ": TYPE, "kid": "1"}]),
)
@example({}, set(), {"typ": TYPE})
@example({"exp": int(SOON) - 7200}, set(), {"typ": TYPE})
@example({"nbf": int(SOON)}, set(), {"typ": TYPE})
def test_the_short_cut_accepts_what_pyjwt_accepts(
    changed: dict[str, Any], left_out: set[str], headers: dict[str, Any]
) -> None:
    own = tickets()
    body = {name: value for name, value in (payload() | changed).items() if name not in left_out}
    ticket = jwt.encode(body, own._key, algorithm="HS256", headers=headers)

    def read() -> object:
        try:
            return own.read(ticket, stream="chat", run=RUN, named=frozenset())
        except TicketRefused as refused:
            return str(refused)

    found = read()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Tickets, "_read_own", lambda self, ticket: None)
        assert found == read()


def test_a_ticket_that_was_minted_takes_the_short_cut() -> None:
    own = tickets()
    assert own._read_own(mint(own)) == body_of(mint(own))
    assert own._read_own(mint(own)[:-2]) is None
    assert own._read_own(mint(tickets(team="search"))) is None


def test_a_ticket_that_was_verified_is_not_verified_again_and_stays_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    by = tickets()
    ticket = mint(by)
    first = by.read(ticket, stream="chat", run=RUN, named=frozenset())
    monkeypatch.setattr(Tickets, "_verify", None)  # calling it fails
    assert by.read(ticket, stream="chat", run=RUN, named=frozenset()) == first
    asked: dict[str, Any] = {"stream": "chat", "run": RUN, "named": frozenset()}
    others: tuple[dict[str, Any], ...] = (
        {"stream": "other"},
        {"run": "other"},
        {"named": frozenset({"org"})},
    )
    for other in others:
        with pytest.raises(TicketRefused):
            by.read(ticket, **asked | other)


@pytest.mark.timeout(10)
def test_a_ticket_that_was_verified_is_refused_once_it_has_expired() -> None:
    by = tickets(lifetime=1.5)
    ticket = mint(by)
    expires_at = by.read(ticket, stream="chat", run=RUN, named=frozenset()).expires_at
    while time.time() < expires_at:
        time.sleep(0.02)
    with pytest.raises(TicketRefused, match="expired"):
        by.read(ticket, stream="chat", run=RUN, named=frozenset())


def test_refusals_never_quote_the_ticket() -> None:
    for forged in (mint(tickets(key="another")), "planted-secret-in-a-ticket"):
        with pytest.raises(TicketRefused) as refused:
            tickets().read(forged, stream="chat", run=RUN, named=frozenset())
        assert forged not in str(refused.value)
        assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    ("allow", "named"),
    [
        (None, set()),
        ("claims.sub == run.metadata.user_id", {"sub"}),
        ("claims.org.id == run.metadata.org && !claims . banned", {"org", "banned"}),
        ("contains(claims.groups, 'claims.x')", {"groups"}),
        ("claims.admin == `true`", {"admin"}),
        ("claims.a == '\\'claims.b'", {"a"}),
        ("`true`", set()),
        ("claims", None),
        ("claims | sub == run.id", None),
        ("length(claims) == `3`", None),
        ("keys(@)[0] == 'claims'", None),
        ("*.admin", None),
        ('"claims".sub == run.id', None),
        ('claims."sub" == run.id', None),
        ("claims.[sub, org]", None),
        ("values(claims)", None),
        ("run.claims.x == 'y'", None),  # not the token's claims, but counted to be safe
    ],
)
def test_claims_that_allow_may_read_are_found_conservatively(
    allow: str | None, named: set[str] | None
) -> None:
    assert claims_named(allow) == named


def test_a_request_for_a_ticket_is_two_texts() -> None:
    assert TicketRequest.read(b'{"stream": "chat", "run": "r"}') == TicketRequest("chat", "r")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"stream": "chat"}',
        b'{"stream": "chat", "run": 7}',
        b'{"stream": "chat", "run": ""}',
        b'{"stream": "", "run": "r"}',
        b'{"stream": "chat", "run": "r", "lifetime": "1y"}',
        b'{"stream": "chat", "run": "' + b"r" * 201 + b'"}',
        b'{"stream": "chat", "run": "\xff"}',
        b'{"stream": "staff", "stream": "chat", "run": "r"}',
        '{"stream": "chat", "run": "r"}'.encode("utf-16"),
        '{"stream": "chat", "run": "r"}'.encode("utf-32-le"),
        b"[" * 4000,
        b'{"stream": "chat", "run": "r"}' + b" " * 5000,
    ],
)
def test_a_malformed_ticket_request_gets_the_expected_form(body: bytes) -> None:
    with pytest.raises(BadTicketRequest, match=r"expected a JSON object"):
        TicketRequest.read(body)
