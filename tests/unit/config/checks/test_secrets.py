"""What `check` and `serve` say of secrets that are none, and of keys that cannot work, in every place."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives import serialization as pem
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa

from config.checks.checker import Checked, Form, check
from config.model.files import JwtConfig
from config.problems import Problem, errors
from config.render.report import as_github, as_json, as_text
from config.source.variables import WithoutEnvironment
from proxy.access.errors import KeyProblem
from proxy.access.keys import FixedKey
from tests.support.secrets import HATCHET_TOKEN

GOOD: Final = {"TOKEN": HATCHET_TOKEN, "KEY": "k" * 40}
STREAMS: Final = "streams: {chat: {rules: [{events: step_completed}]}}\n"
SINGLE: Final = """\
version: 1
hatchet: {token: %s}
auth:
  jwt: {key: %s, algorithms: HS256, audience: a}
  from: [bearer, ticket]
  tickets: {key: %s}
"""
PLACES: Final = {2: 0, 4: 1, 6: 2}
"""The line of each secret's place in SINGLE, and its number."""


def checked(text: str, env: dict[str, str] | None = None, form: Form = Form.SINGLE) -> Checked:
    return check("f.yaml", text.encode(), form, GOOD if env is None else env)


def single(*secrets: str) -> str:
    return SINGLE % tuple(map(quoted, secrets)) + STREAMS


def quoted(secret: str) -> str:
    """In quotes, which a variable needs between brackets."""
    return f'"{secret}"' if secret.startswith(("$", "{")) and secret.endswith("}") else secret


def proxy(*secrets: str) -> str:
    block = (SINGLE % tuple(map(quoted, secrets))).partition("\n")[2]
    return "version: 1\nteams:\n  a:\n" + "".join(f"    {line}\n" for line in block.splitlines())


def at(found: Checked, line: int) -> list[Problem]:
    return [problem for problem in found.problems if problem.line == line]


# (what stands in the secret's place, the variable that the hint proposes)
NOTATIONS: Final = [
    ("$PAYMENTS_TEAM_STREAM_PROXY_JWT_KEY", "${PAYMENTS_TEAM_STREAM_PROXY_JWT_KEY}"),
    ("$$KEY", "${KEY}"),
    ("$token", "${NAME}"),
    ("$env:KEY", "${KEY}"),
    ("$(KEY)", "${KEY}"),
    ("$(cat /run/secrets/key)", "${NAME}"),
    ("`cat /run/secrets/key`", "${NAME}"),
    ("%KEY%", "${KEY}"),
    ("%{KEY}", "${KEY}"),
    ("$[KEY]", "${KEY}"),
    ("#{KEY}", "${KEY}"),
    ("@{KEY}", "${KEY}"),
    ("{KEY}", "${KEY}"),
    ("{{KEY}}", "${KEY}"),
    ("{{ .Values.KEY }}", "${KEY}"),
    ('{{ env "KEY" }}', "${NAME}"),
    ("<KEY>", "${KEY}"),
    ("<your token>", "${NAME}"),
    ("[your token]", "${NAME}"),
    ("env:KEY", "${KEY}"),
    ("ENV KEY", "${KEY}"),
    ("env.KEY", "${KEY}"),
    ("secrets.KEY", "${KEY}"),
    ("process.env.KEY", "${KEY}"),
    ("os.environ['KEY']", "${KEY}"),
    ("@KEY@", "${KEY}"),
    ("__KEY__", "${KEY}"),
    ("HATCHET_CLIENT_TOKEN", "${HATCHET_CLIENT_TOKEN}"),
]
OTHERS: Final = [
    "changeme", "change-me", "CHANGE_ME_IN_PRODUCTION", "please-change-this", "replace-me", "your-token-here",
    "YOUR_API_TOKEN", "your secret key", "insert-token-here", "my-secret-key", "placeholder", "todo",
    "secret", "password", "token", "xxxxxxxx", "********", "...", "[redacted]", "test", "example",
    "/run/secrets/token", "file:/run/secrets/token", "file:///run/secrets/token", "./token.txt", "~/token",
    "/some/where/jwt.pem", "vault:secret/data/proxy#token", "op://vault/proxy/token", "vault://secret/x",
    "arn:aws:secretsmanager:eu-west-1:1:secret:x", "ENC[AES256_GCM,data:x]", "Bearer abcdefghijk",
]  # fmt: skip


@pytest.mark.parametrize("make", [single, proxy], ids=["single", "proxy"])
@pytest.mark.parametrize(("secret", "variable"), NOTATIONS)
def test_a_variable_of_another_program_is_an_error_in_every_place(
    secret: str, variable: str, make: Any
) -> None:
    written = json.dumps(secret)
    found = checked(make(written, written, written), form=Form.SINGLE if make is single else Form.PROXY)
    assert found.model is None
    assert [problem.code for problem in errors(found.problems)] == ["no-secret"] * 3
    assert all(variable in problem.hint for problem in found.problems)


@pytest.mark.parametrize("secret", OTHERS)
def test_a_placeholder_or_a_path_is_an_error_in_every_place(secret: str) -> None:
    written = json.dumps(secret)
    found = checked(single(written, written, written))
    assert [(problem.line, problem.code) for problem in errors(found.problems)] == [
        (line, "no-secret") for line in PLACES
    ]


@pytest.mark.parametrize("secret", [each for each, _ in NOTATIONS] + OTHERS)
def test_it_is_found_in_what_a_variable_holds_and_never_shown(secret: str) -> None:
    found = checked(single("${X}", "${X}", "${X}"), {"X": secret})
    assert {problem.line for problem in errors(found.problems)} == set(PLACES)
    if len(secret) > 12:
        assert secret not in as_text([found]) + as_json([found]) + as_github([found])


def test_a_dollar_before_a_variable_is_an_error_without_the_environment_too() -> None:
    for env in ({"KEY": "k" * 40}, WithoutEnvironment()):
        found = check("f.yaml", single("${TOKEN}", "$${KEY}", "${KEY}").encode(), Form.SINGLE, env)
        assert [each.code for each in at(found, 4)] == ["leftover-variable"]


@pytest.mark.parametrize(
    "secret",
    [
        "0123456789abcdef0123456789abcdef",
        "k3Jx9$abQ!mNoPqRsTuVwXyZ01234567",
        "/Ab3/x9dkLmQ+zPq/17aBcD/9KfE2hGiJkLmNoPqRsTuVwXyZ0123456789abc",
        "a key for the tickets of the payments team",
        "another key for tests that is long enough",
        "correct horse battery staple and more",
        "$2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy",
        "p@ss{word}with$signs<and>brackets-in-it",
    ],
)
def test_what_may_be_a_secret_is_taken(secret: str) -> None:
    assert checked(single("${TOKEN}", json.dumps(secret), json.dumps(secret))).problems == ()


@pytest.mark.parametrize("block", ["audience", "issuer"])
def test_a_variable_of_another_program_is_an_error_beside_the_secrets_too(block: str) -> None:
    text = "version: 1\nhatchet: {token: '${TOKEN}', ca: $CA_FILE}\nserver: {host: '%HOST%'}\nauth:\n"
    text += (
        f"  jwt: {{jwks_url: https://id.example.com/jwks.json, algorithms: RS256, {block}: '{{{{ X }}}}'}}\n"
    )
    found = checked(text + STREAMS)
    assert [(each.line, each.code) for each in errors(found.problems)] == [
        (2, "leftover-variable"),
        (3, "leftover-variable"),
        (5, "leftover-variable"),
    ]


# -- Hatchet's token


@pytest.mark.parametrize(
    ("token", "code"),
    [
        ("abc123", "no-secret"),
        ("4f9c1f2e7a", "no-token"),
        ("ghp_" + "0123456789abcdefghij0123456789abcdef", "no-token"),
        (HATCHET_TOKEN.rpartition(".")[0], "no-token"),
        (HATCHET_TOKEN[:30] + " " + HATCHET_TOKEN[30:], "no-token"),
        (HATCHET_TOKEN[:30] + "\n" + HATCHET_TOKEN[30:], "no-token"),
        ("ey.ey.x", "no-token"),
        ("eyJhbGciOiJFUzI1NiJ9.bm8ganNvbg.x", "no-token"),
    ],
)
def test_check_knows_what_a_hatchet_token_looks_like(token: str, code: str) -> None:
    for make in (json.dumps(token), '"${TOKEN}"'):
        found = checked(f"version: 1\nhatchet: {{token: {make}}}\n" + STREAMS, {"TOKEN": token})
        assert [each.code for each in errors(found.problems)] == [code]
        assert token not in as_text([found])


def test_a_line_break_at_a_secrets_end_is_no_part_of_it() -> None:
    env = {"TOKEN": HATCHET_TOKEN + "\n", "KEY": "k" * 40 + "\r\n"}
    found = checked(single("${TOKEN}", "${KEY}", "${KEY}"), env)
    assert found.problems == ()
    model: Any = found.model
    assert model.hatchet.token.get_secret_value() == HATCHET_TOKEN
    assert model.auth.jwt.key.get_secret_value() == model.auth.tickets.key.get_secret_value() == "k" * 40


@pytest.mark.parametrize("around", [" {}", "{} ", "'{}'", '"{}"', "\u00a0{}"])
def test_what_stands_around_a_secret_is_warned_of(around: str) -> None:
    [found] = checked(single("${TOKEN}", "${X}", "${KEY}"), GOOD | {"X": around.format("k" * 40)}).problems
    assert (found.severity, found.code, found.line) == ("warning", "no-secret", 4)


# -- JWT keys


RSA: Final = rsa.generate_private_key(65537, 2048)
SMALL: Final = rsa.generate_private_key(65537, 1024)
EC: Final = ec.generate_private_key(ec.SECP256R1())
EC384: Final = ec.generate_private_key(ec.SECP384R1())
ED: Final = ed25519.Ed25519PrivateKey.generate()
DSA: Final = dsa.generate_private_key(2048)


def public(key: Any) -> str:
    return str(
        key.public_key().public_bytes(pem.Encoding.PEM, pem.PublicFormat.SubjectPublicKeyInfo).decode()
    )


def private(key: Any, form: Any = pem.PrivateFormat.PKCS8) -> str:
    return str(key.private_bytes(pem.Encoding.PEM, form, pem.NoEncryption()).decode())


def body(key: str) -> str:
    return "".join(key.splitlines()[1:-1])


# (the key, the algorithms, a word of the message)
KEYS: Final = [
    (private(RSA), "RS256", "private key"),
    (private(RSA, pem.PrivateFormat.TraditionalOpenSSL), "RS256", "private key"),
    (private(EC), "ES256", "private key"),
    (private(RSA), "HS256", "private key"),
    (public(SMALL), "RS256", "1024 bits"),
    (public(RSA), "ES256", "an RSA key"),
    (public(EC), "RS256", "secp256r1"),
    (public(EC384), "ES256", "secp384r1"),
    (public(ED), "RS256", "Ed25519"),
    (public(DSA), "RS256", "signs no tokens"),
    (public(RSA).replace("\n", "\\n"), "RS256", "a backslash and an n"),
    (public(RSA).replace("\n", " "), "RS256", "line breaks"),
    (public(RSA)[:200] + public(RSA)[260:], "RS256", "no public key"),
    ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "RS256", "no public key"),
    (body(public(RSA)), "RS256", "first and last line"),
    (body(public(RSA)), "HS256", "first and last line"),
    ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJ me@example", "EdDSA", "SSH"),
    ('{"kty": "RSA", "n": "x", "e": "AQAB"}', "RS256", "JWK"),
    ('{"keys": []}', "RS256", "JWK"),
    ("https://id.example.com/jwks.json", "RS256", "address"),
    (HATCHET_TOKEN, "HS256", "token"),
    ("abcd-efgh-ijkl", "HS256", "less than 16 bytes"),
]


@pytest.mark.parametrize(("key", "algorithm", "message"), KEYS, ids=[each[2] for each in KEYS])
def test_a_key_that_cannot_work_is_an_error(key: str, algorithm: str, message: str) -> None:
    text = single("${TOKEN}", "${X}", "${KEY}").replace("HS256", algorithm)
    for written in (text, text.replace('"${X}"', json.dumps(key))):
        found = checked(written, GOOD | {"X": key})
        [wrong] = errors(found.problems)
        assert (wrong.line, wrong.code in ("key", "weak-secret")) == (4, True)
        assert message in wrong.message
        assert wrong.hint
        assert found.model is None
        assert key.strip() not in as_json([found]) + as_text([found])


FITTING: Final = [
    (public(RSA), "RS256"), (public(RSA), "PS512"), (public(EC), "ES256"), (public(EC384), "ES384"),
    (public(ED), "EdDSA"), ("k" * 40, "HS256"), ("k" * 70, "HS512"), ("  " + public(RSA), "RS256"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "algorithm"), FITTING)
def test_a_key_that_works_is_taken(key: str, algorithm: str) -> None:
    text = single("${TOKEN}", "${X}", "${KEY}").replace("HS256", algorithm)
    assert errors(checked(text, GOOD | {"X": key}).problems) == ()


@pytest.mark.parametrize("key", [key for key, _, _ in KEYS] + [key for key, _ in FITTING])
@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "ES384", "EdDSA", "HS256"])
def test_no_key_passes_check_that_the_proxy_refuses(key: str, algorithm: str) -> None:
    text = single("${TOKEN}", "${X}", "${KEY}").replace("HS256", algorithm)
    if errors(checked(text, GOOD | {"X": key}).problems):
        return
    config = JwtConfig.model_validate({"key": key, "algorithms": [algorithm]})
    assert config.key is not None
    try:
        FixedKey(config.key.get_secret_value(), config.algorithms)
    except KeyProblem as problem:
        pytest.fail(str(problem))


@pytest.mark.parametrize(
    ("url", "severity"),
    [
        ("https://id.example.com/.well-known/openid-configuration", "error"),
        ("https://id.example.com/realms/x/.well-known/openid-configuration/", "error"),
        ("https://id.example.com/.well-known/oauth-authorization-server", "error"),
        ("https://id.example.com", "warning"),
        ("https://id.example.com/", "warning"),
        ("https://id.example.com/.well-known/jwks.json", None),
        ("https://id.example.com/realms/x/protocol/openid-connect/certs", None),
    ],
)
def test_a_jwks_url_that_has_no_keys_is_found_by_its_path(url: str, severity: str | None) -> None:
    text = single("${TOKEN}", "${KEY}", "${KEY}").replace('key: "${KEY}", algorithms: HS256', "X", 1)
    found = checked(text.replace("X", f"jwks_url: {url}, algorithms: RS256"))
    assert [each.severity for each in found.problems] == ([] if severity is None else [severity])
    assert all("jwks_uri" in each.hint for each in found.problems)


def test_an_audience_may_be_a_list() -> None:
    found = checked(single("${TOKEN}", "${KEY}", "${KEY}").replace("audience: a", "audience: [a, b]"))
    assert found.problems == ()
    model: Any = found.model
    assert model.auth.jwt.audience == ("a", "b")


# -- without the environment


EVERYWHERE: Final = """\
version: 1
hatchet: {token: "${T:?make one}", ca: "${file:/no/such/ca}", host_port: "${HP}", api: "${API}"}
server: {port: "${PORT}", drain: {grace: "${G}"}, host: "${HOST}"}
auth:
  jwt: {key: "${file:/no/such/key}", algorithms: ["${ALG}"], audience: "${AUD}", leeway: "${LEE}"}
  from: [bearer, ticket]
  tickets: {key: "prefix-${TK}", lifetime: "${L}"}
limits: {connections: "${C}", backlog_bytes: "${B}"}
streams:
  chat:
    path: "${P}"
    cors: {origins: ["${O}"], credentials: "${CR}"}
    allow: "${ALLOW}"
    rules: [{events: "${E}", steps: ["${S}"], when: "${W}", data: {a: "${D}"}}]
"""


def test_without_the_environment_what_is_missing_here_is_assumed() -> None:
    assert check("f.yaml", EVERYWHERE.encode(), Form.SINGLE, WithoutEnvironment()).problems == ()
    missing = errors(checked(EVERYWHERE, {}).problems)
    assert {each.code for each in missing} >= {"unset-variable", "variable-file"}
    assert all("--no-env" in each.hint for each in missing if each.code == "unset-variable")
    assert not any(":-" in each.hint for each in missing)


def test_without_the_environment_what_is_wrong_in_the_file_is_still_found() -> None:
    text = EVERYWHERE.replace("version: 1", "version: 2").replace('"prefix-${TK}"', "changeme")
    text = text.replace("[bearer, ticket]", "[bearer, tickets]") + "  x: {path: 3}\n"
    found = check("f.yaml", text.encode(), Form.SINGLE, WithoutEnvironment())
    assert {each.line for each in errors(found.problems)} == {1, 6, 7, 15}
