"""The console: only beside the admin port, and only behind a token that nobody finds by trying."""

from __future__ import annotations

import string
from random import Random

import pytest

from config.checks.checker import Form, check
from tests.support.secrets import HATCHET_TOKEN

GOOD = "3f9c1b7a5d2e8046b1c3d5e7f9a0b2c4"


def codes(console: str, admin: str = "admin_port: 9090, ") -> list[tuple[str, str]]:
    text = (
        f'version: 1\nhatchet: {{token: "${{T}}"}}\nserver: {{{admin}console: {console}}}\n'
        "streams: {a: {rules: [{events: step_started}]}}\n"
    )
    found = check("streams.yaml", text.encode(), Form.SINGLE, {"T": HATCHET_TOKEN, "SHORT": "abcdefgh"})
    return [(problem.code, problem.severity) for problem in found.problems]


def test_a_long_token_beside_an_admin_port_is_fine() -> None:
    assert codes(f"{{token: {GOOD}}}") == []
    assert codes(f"{{token: {GOOD}, payloads: shown}}") == []


@pytest.mark.parametrize(
    ("console", "code"),
    [
        ("{}", "missing-key"),
        ("{payloads: shown}", "missing-key"),
        ("{token: ''}", "empty"),
        (f"{{token: {GOOD[:-1]}}}", "weak-secret"),
        ("{token: '${SHORT}'}", "weak-secret"),
        (f"{{token: {'a' * 40}}}", "weak-secret"),
        (f"{{token: {'abc' * 20}}}", "weak-secret"),
        (f"{{token: {'0123456789abcdef' * 2}}}", "weak-secret"),
        (f"{{token: {'password' * 4}1}}", "weak-secret"),
        (f"{{token: {'tökenß' + GOOD}}}", "weak-secret"),
        (f'{{token: "{GOOD}\\n{GOOD}"}}', "weak-secret"),
        ("{token: $CONSOLE_TOKEN}", "no-secret"),
        ("{token: change-me-change-me-change-me-change-me}", "no-secret"),
        (f"{{token: {GOOD}, payloads: yes}}", "choice"),
        (f"{{token: {GOOD}, password: x}}", "unknown-key"),
        ("true", "wrong-type"),
    ],
)
def test_every_other_console_is_refused(console: str, code: str) -> None:
    assert codes(console) == [(code, "error")]


def test_a_token_with_blanks_at_its_ends_is_refused_because_browsers_cut_them() -> None:
    assert ("weak-secret", "error") in codes(f'{{token: " {GOOD}"}}')
    assert codes(f'{{token: "{GOOD} and more words"}}') == []


@pytest.mark.parametrize("alphabet", ["0123456789", "0123456789abcdef", string.ascii_letters])
def test_no_random_token_is_refused(alphabet: str) -> None:
    random = Random(7)
    for length in (32, 40, 64, 200):
        for _ in range(50):
            assert codes(f"{{token: '{''.join(random.choices(alphabet, k=length))}'}}") == []


@pytest.mark.parametrize("admin", ["", "admin_port: none, "])
def test_the_console_needs_the_admin_port(admin: str) -> None:
    assert codes(f"{{token: {GOOD}}}", admin) == [("console", "error")]
