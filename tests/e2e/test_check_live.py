"""`stream-proxy check --live`: what Hatchet knows of the token, the history, workflows and steps."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from config.load import survey
from proxy.cli.live_check import with_live
from proxy.cli.main import main
from proxy.simulator import Engine
from proxy.simulator.script.model import Script, Step, Workflow, script
from tests.support.redis_server import redis_server

pytestmark = pytest.mark.timeout(60)

FILE = """version: 1
hatchet:
  token: ${HATCHET_CLIENT_TOKEN}
streams:
  chat:
    workflow: [chat, "bil*"]
    rules:
      - {name: right, events: step_stream, steps: [answer, "pla*"], data: payload}
      - {name: wrong, events: step_completed, steps: ["anser*", "x*", charge], data: step}
  orders:
    workflow: ordres
    rules: [{events: run_completed, data: type}]
  bills:
    rules: [{events: step_completed, workflows: billing, steps: plan, data: step}]
"""


def workflows() -> Script:
    return script(
        Workflow("chat", (Step("plan"), Step("answer"))),
        Workflow("orders", (Step("charge"),)),
        Workflow("billing", (Step("bill"),)),
    )


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with Engine(workflows()) as one:
        yield one


async def asked(path: Path, env: dict[str, str]) -> list[str]:
    """The problems of a file, in short."""
    return [
        f"{Path(problem.file).name}:{problem.line}:{problem.column} "
        f"{problem.code}: {problem.message} ({problem.hint})"
        for each in await with_live(path, survey(path, env), env)
        for problem in each.problems
    ]


async def test_workflows_and_steps_that_do_not_exist_are_named(engine: Engine, tmp_path: Path) -> None:
    file = tmp_path / "streams.yaml"
    file.write_text(FILE)
    assert await asked(file, engine.env) == [
        "streams.yaml:9:55 unknown-step: no workflow has a step `anser*` (did you mean `answer`?)",
        "streams.yaml:9:65 unknown-step: no workflow has a step `x*` (the steps are answer, bill, plan)",
        "streams.yaml:9:71 unknown-step: no workflow has a step `charge` (the steps are answer, bill, plan)",
        "streams.yaml:11:15 unknown-workflow: there is no workflow `ordres` (did you mean `orders`?)",
        "streams.yaml:14:65 unknown-step: no workflow has a step `plan` (the steps are bill)",
    ]


async def test_a_folder_is_asked_team_by_team_each_at_its_own_place(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "teams").mkdir()
    (tmp_path / "proxy.yaml").write_text("""version: 1
teams:
  one: {hatchet: {token: "${HATCHET_CLIENT_TOKEN}"}, auth: none}
  two: {hatchet: {token: "${HATCHET_CLIENT_TOKEN}", api: "off"}, auth: none}
  three: {hatchet: {token: "${HATCHET_CLIENT_TOKEN}", host_port: "127.0.0.1:1"}, auth: none}
""")
    for name in ("one", "two", "three"):
        (tmp_path / "teams" / f"{name}.yaml").write_text(
            "version: 1\nstreams: {chat: {rules: [{events: step_completed, steps: anwser}]}}\n"
        )
    found = await asked(tmp_path, engine.env)
    assert [line.partition(": ")[0] for line in found] == [
        "proxy.yaml:4:58 no-history",
        "proxy.yaml:5:66 unreachable",
        "one.yaml:2:58 unknown-step",
    ]
    assert [line.partition(" ")[0] for line in await asked(tmp_path / "teams" / "one.yaml", engine.env)] == [
        "one.yaml:2:58"
    ]


async def test_a_refused_token_and_a_history_that_is_away_are_reported(
    engine: Engine, tmp_path: Path
) -> None:
    file = tmp_path / "streams.yaml"
    file.write_text(FILE.partition("streams:")[0] + "streams: {chat: {rules: [{events: step_completed}]}}\n")
    assert await asked(file, engine.env) == []
    [away] = await asked(file, {**engine.env, "HATCHET_CLIENT_SERVER_URL": "http://127.0.0.1:1"})
    assert away.startswith("streams.yaml:3:3 no-history: ")
    engine.faults.refuse_tokens()
    [refused] = await asked(file, engine.env)
    assert refused.startswith("streams.yaml:3:10 token-refused: Hatchet refuses the token")
    assert engine.env["HATCHET_CLIENT_TOKEN"] not in refused


async def test_a_file_with_problems_is_not_asked_about(engine: Engine, tmp_path: Path) -> None:
    file = tmp_path / "streams.yaml"
    file.write_text(FILE.replace("step_stream", "step_straem"))
    calls = sum(engine.calls.values())
    assert len(await asked(file, engine.env)) == 1
    assert sum(engine.calls.values()) == calls


def test_without_a_token_nothing_can_be_asked(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["check", "--live", "--no-env", str(tmp_path)])
    assert result.exit_code == 2


async def test_the_redis_of_the_shared_log_is_looked_at_and_not_changed(
    engine: Engine, tmp_path: Path
) -> None:
    file = tmp_path / "streams.yaml"
    with redis_server(tmp_path) as redis:
        file.write_text(f"""version: 1
server: {{log: "{redis.url}"}}
hatchet: {{token: "${{HATCHET_CLIENT_TOKEN}}"}}
streams:
  chat: {{rules: [{{events: step_completed, data: step}}]}}
""")
        assert await asked(file, engine.env) == []
        assert redis.call("KEYS", "*") == []
        redis.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        [warned] = await asked(file, engine.env)
        assert warned.startswith("streams.yaml:2:15 shared-log: the Redis of server.log has maxmemory-policy")
        redis.call("SET", "hsp:about", "a cache")
        [refused] = await asked(file, engine.env)
        assert "keys of another application" in refused
    [away] = await asked(file, engine.env)
    assert away.startswith(f"streams.yaml:2:15 unreachable: nothing listens at 127.0.0.1:{redis.port} (")
