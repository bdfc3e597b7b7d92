"""`allow` admits for `true` only: missing values, null, other types and errors refuse the client."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from config.expressions.api import compile_allow
from config.model.files import AuthConfig
from proxy.access.authenticator import Authenticator, Identity, RequestHead
from proxy.hatchet.codec import metadata_of
from tests.support.issuer import token

SECRET = "the secret of the team, long enough for an HMAC: 0123456789"
RUN = "7b1c5a3e-9f1d-4c49-8f0e-0f5f5f6d2a11"
OWNER = "claims.sub == run.metadata.user_id"


def root(
    claims: dict[str, Any] | None = None,
    metadata: dict[str, Any] | None = None,
    params: dict[str, str] | None = None,
    origin: str | None = None,
) -> dict[str, Any]:
    """The input of `allow`, as the server builds it."""
    return {
        "claims": claims or {},
        "run": {"id": RUN, "metadata": metadata or {}},
        "request": {"params": params or {}, "origin": origin},
    }


ADA = {"sub": "ada", "role": "staff", "org": {"id": 7, "roles": ["reader"]}, "admin": False}


@pytest.mark.parametrize(
    ("allow", "metadata"),
    [
        (OWNER, {"user_id": "ada"}),
        ("claims.role == 'staff'", {}),
        ("claims.role == 'admin' || claims.sub == run.metadata.user_id", {"user_id": "ada"}),
        ("contains(claims.org.roles, 'reader')", {}),
        ("claims.org.id == run.metadata.org", {"org": 7}),
        ("claims.admin == `false`", {}),
        ("!(claims.admin)", {}),
        ("claims.sub != run.metadata.banned", {"banned": "eve"}),
        ("claims.org.id > `5`", {}),
        (f"run.id == '{RUN}'", {}),
        ("`true`", {}),
    ],
)
def test_a_true_allow_admits_the_client(allow: str, metadata: dict[str, Any]) -> None:
    assert compile_allow(allow).permits(root(ADA, metadata))


@pytest.mark.parametrize("claims", [{}, {"sub": None}, {"sub": ""}, {"sub": 0}, {"sub": []}, {"sub": {}}])
@pytest.mark.parametrize("metadata", [{}, {"user_id": None}, {"user_id": "x"}, {"user_id": False}])
@pytest.mark.parametrize(
    "allow",
    [
        OWNER,
        "run.metadata.user_id == claims.sub",
        f"({OWNER})",
        f"!(!({OWNER}))",
        f"{OWNER} && `true`",
        f"[{OWNER}][0]",
        f"{{a: {OWNER}}}.a",
        f"not_null({OWNER})",
        f"{OWNER} | @",
    ],
)
def test_missing_and_empty_values_never_match_as_owner(
    allow: str, claims: dict[str, Any], metadata: dict[str, Any]
) -> None:
    assert not compile_allow(allow).permits(root(claims, metadata))


@pytest.mark.parametrize(
    "allow",
    [
        "claims.missing == run.metadata.missing",
        "claims.missing != run.metadata.user_id",
        "claims.missing != 'banned'",
        "!(claims.missing == 'banned')",
        "!(claims.missing == run.metadata.user_id)",
        "claims.missing == run.metadata.missing || `true`",
        "`true` && !(claims.missing == 'x')",
        "claims.missing == 'x' || claims.sub == 'ada'",
        "not_null(claims.missing == 'x', `true`)",
        "claims.missing < `5`",
        "!(claims.missing < `5`)",
        "claims.sub < run.metadata.user_id",
        "!(claims.sub < `5`)",
        "`null` == `null`",
        "claims.nothing == `null`",
        "!(claims.org.id == claims.org.nothing)",
    ],
)
def test_a_comparison_with_a_missing_or_null_side_refuses_the_client(allow: str) -> None:
    claims, metadata = {**ADA, "nothing": None}, {"user_id": "ada"}
    assert not compile_allow(allow).permits(root(claims, metadata))


@pytest.mark.parametrize(
    "allow",
    [
        "claims.sub",
        "claims.role",
        "'true'",
        '`"true"`',
        "`1`",
        "`[true]`",
        "`{}`",
        "claims",
        "run.metadata",
        "`null`",
        "`false`",
        "claims.org.roles[*] | [0]",
        "claims.missing || claims.sub",
    ],
)
def test_anything_but_true_refuses(allow: str) -> None:
    assert not compile_allow(allow).permits(root(ADA, {"user_id": "ada"}))


@pytest.mark.parametrize(
    "allow",
    [
        "contains(claims.missing, 'reader')",
        "!(contains(claims.missing, 'banned'))",
        "contains(claims.role, `7`)",
        "starts_with(claims.org, 'x') || `true`",
        "length(claims.missing) == `0`",
        "!(to_number(claims.sub) == `7`)",
        "sort(claims.org.roles)[0] == claims.org",
        "max_by(claims.org.roles, &x) == `null` || `true`",
    ],
)
def test_an_error_refuses_under_not_and_or_too(allow: str) -> None:
    assert not compile_allow(allow).permits(root(ADA))


def test_types_are_not_mixed_up() -> None:
    by_number = compile_allow("claims.org.id == run.metadata.org")
    assert not by_number.permits(root(ADA, {"org": "7"}))
    assert not by_number.permits(root({"org": {"id": True}}, {"org": 1}))
    assert not by_number.permits(root({"org": {"id": "7"}}, {"org": 7}))


@pytest.mark.parametrize(
    ("claim", "metadata", "allowed"),
    [
        ("18446744073709551616", "18446744073709551617", False),
        ("18446744073709551617", "18446744073709551617", True),
        ("9007199254740993", "9007199254740992", False),
        ("9007199254740993", "9007199254740993", True),
        ("9007199254740993.0", "9007199254740992", False),
        ("9007199254740992.0", "9007199254740992.0", False),  # each may have been another number as a text
        ("1e20", "1e20", False),
        ("-9007199254740993.0", "-9007199254740992.0", False),
        ("7.0", "7", True),
        ('{"id": 18446744073709551616}', '{"id": 18446744073709551617}', False),
        ('{"id": [1e20]}', '{"id": [1e20]}', False),
    ],
)
def test_numbers_are_compared_exactly_or_refused(claim: str, metadata: str, allowed: bool) -> None:
    asked = root({"uid": json.loads(claim)}, dict(metadata_of(f'{{"uid": {metadata}}}')))
    for text in (
        "claims.uid == run.metadata.uid",
        "!(claims.uid != run.metadata.uid)",
        "contains([claims.uid], run.metadata.uid)",
    ):
        assert compile_allow(text).permits(asked) is allowed, text


def test_request_parameters_are_not_claims() -> None:
    allow = compile_allow("claims.role == 'staff'")
    assert not allow.permits(root({}, {}, {"claims": "x", "role": "staff", "claims.role": "staff"}))
    assert not compile_allow("request.origin == run.metadata.page").permits(root(ADA, {"page": None}))


def test_the_reason_of_a_refusal_holds_no_value() -> None:
    for allow in (OWNER, "contains(claims.sub, run.metadata)", "claims.sub < run.metadata.user_id"):
        refusal = compile_allow(allow).refusal(root({"sub": "planted-1"}, {"user_id": "planted-0"}))
        assert refusal is not None and "planted" not in refusal


# -- together with the authenticator --------------------------------------------------------------------


def team(allow: str | None) -> Authenticator:
    config = {
        "jwt": {"key": SECRET, "algorithms": ["HS256"]},
        "from": ["bearer", "ticket"],
        "tickets": {"key": "the key of the tickets"},
    }
    return Authenticator(AuthConfig.model_validate(config), team="t", allows={"chat": allow})


async def by_token(authenticator: Authenticator, **claims: Any) -> Identity:
    signed = token(SECRET, "HS256", exp=int(time.time()) + 60, **claims)
    asked = RequestHead({"authorization": f"Bearer {signed}"}, {}, {})
    return await authenticator.authenticate(asked, stream="chat", run=RUN)


async def by_ticket(authenticator: Authenticator, identity: Identity) -> Identity:
    ticket, _ = authenticator.mint(identity, stream="chat", run=RUN)
    return await authenticator.authenticate(RequestHead({}, {}, {"ticket": ticket}), stream="chat", run=RUN)


@pytest.mark.parametrize(
    "allow",
    [
        OWNER,
        "claims.role == 'staff' && !(claims.banned)",
        "!(contains(keys(claims), 'banned'))",
        "length(keys(claims)) > `4`",
        "claims.org.id == `7` || claims.role == 'admin'",
        "claims.\"role\" == 'staff'",
        "claims | role == 'staff'",
        "values(claims) | contains(@, 'staff')",
        "contains(to_string(@), 'staff')",
        "@.claims.role == 'staff'",
        "*.role | [0] == 'staff'",
    ],
)
@pytest.mark.parametrize("more", [{}, {"banned": True}, {"role": None}, {"org": None}])
async def test_allow_decides_on_a_ticket_exactly_as_on_its_token(allow: str, more: dict[str, Any]) -> None:
    authenticator, allowed = team(allow), compile_allow(allow)
    whole = await by_token(authenticator, **{**ADA, **more})
    carried = await by_ticket(authenticator, whole)
    for metadata in ({"user_id": "ada"}, {}):
        assert allowed.permits(root(dict(carried.claims), metadata)) == allowed.permits(
            root(dict(whole.claims), metadata)
        )


async def test_without_a_token_claims_are_empty_and_match_nothing() -> None:
    nobody = await Authenticator(None, team="t").authenticate(RequestHead({}, {}, {}), stream="chat", run=RUN)
    assert nobody.claims == {}
    assert not compile_allow(OWNER).permits(root(dict(nobody.claims), {"user_id": "ada"}))
