"""Whatever stands where, `check` says something about it and never breaks."""

from __future__ import annotations

import json
from typing import Any, Final

from hypothesis import given, settings
from hypothesis import strategies as st

from config.checks.checker import Form, check
from config.load import load
from config.model.files import ProxyFile, SingleFile, TeamFile
from config.problems import errors
from config.render.report import as_github, as_json, as_text
from tests.support.secrets import HATCHET_TOKEN

SCALARS: Final = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 10**20),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(
        [
            *(
                "step_*",
                "run_failed",
                "payload.a",
                "{a: b",
                "15s",
                "1MiB",
                "none",
                "nothing",
                "*",
                "[@,@]",
                "s",
            ),
            *("/a/{workflowRunId}", "${X}", "${file:/x}", "https://a.b/c", "text", "json", "hatchet:1"),
            *("RS256", "ticket", "bearer"),
        ]
    ),
)
NAMES: Final = """\
version hatchet token host_port tls api tap auth jwt key jwks_url algorithms from tickets limits
server port drain grace spread streams path rules name events steps when payload event use data
nulls on_error heartbeat backlog bytes cors origins credentials allow shapes tests stream given type
step attempt index expect teams s x
"""
KEYS: Final = st.sampled_from(NAMES.split())
THINGS: Final = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=15,
)
OF_A_RULE: Final = ("name", "events", "steps", "when", "payload", "event", "use", "data", "nulls")
RULE: Final = st.fixed_dictionaries({}, optional=dict.fromkeys(OF_A_RULE, THINGS))
STREAM: Final = st.fixed_dictionaries(
    {},
    optional={"path": THINGS, "rules": st.lists(RULE | THINGS, max_size=4), "cors": THINGS, "allow": THINGS},
)
TEST: Final = st.fixed_dictionaries({}, optional=dict.fromkeys(("name", "stream", "given", "expect"), THINGS))
JWT: Final = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("key", "jwks_url", "algorithms", "audience"), THINGS)
)
AUTH: Final = st.fixed_dictionaries({}, optional={"jwt": JWT | THINGS, "from": THINGS, "tickets": THINGS})
HATCHET: Final = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("token", "tls", "api", "tap", "ca", "cert"), THINGS)
)
FILE: Final = st.fixed_dictionaries(
    {},
    optional={
        "version": st.just(1) | THINGS,
        "hatchet": HATCHET | THINGS,
        "auth": AUTH | THINGS,
        "server": THINGS,
        "limits": THINGS,
        "streams": st.dictionaries(KEYS, STREAM | THINGS, max_size=3) | THINGS,
        "shapes": st.dictionaries(KEYS, THINGS, max_size=3) | THINGS,
        "tests": st.lists(TEST | THINGS, max_size=3) | THINGS,
        "teams": st.dictionaries(
            KEYS, st.fixed_dictionaries({}, optional={"hatchet": HATCHET, "auth": AUTH}) | THINGS
        )
        | THINGS,
    },
)


@given(FILE, st.sampled_from([*Form, None]))
@settings(max_examples=300)
def test_any_values_anywhere_are_judged_without_a_crash(data: Any, form: Form | None) -> None:
    checked = check("f.yaml", json.dumps(data).encode(), form, {}, granted=data)  # JSON is YAML
    if not errors(checked.problems):
        assert isinstance(checked.model, SingleFile | ProxyFile | TeamFile)
    else:
        assert checked.model is None
    assert as_text([checked])
    assert len(json.loads(as_json([checked]))) == len(checked.problems)
    assert as_github([checked]).count("\n") == len(checked.problems)
    for found in checked.problems:
        assert "Input should" not in found.message, "pydantic's own words got out"


@given(FILE)
@settings(max_examples=100)
def test_what_check_lets_pass_can_be_loaded(tmp_path_factory: Any, data: Any) -> None:
    file = tmp_path_factory.mktemp("f") / "streams.yaml"
    text = json.dumps({**data, "version": 1, "hatchet": {"token": HATCHET_TOKEN}})
    if not errors(check(str(file), text.encode(), Form.SINGLE, {}).problems):
        file.write_text(text)
        assert load(file, {}).teams["default"]
