"""The JSON Schema: kept current, of one mind with `check`, and read by a real language server."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest
from click.testing import CliRunner

from config.problems import errors
from config.render.json_schema import FORMS, schema, text
from config.source.reader import read
from proxy.cli.commands.schema import command
from tests.support.languageserver import LanguageServer
from tests.unit.config.checks.test_checker import CASES, NAMES, checked

ROOT: Final = Path(__file__).resolve().parents[4]
EXAMPLE: Final = (ROOT / "streams.example.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("form", FORMS)
def test_the_schema_in_the_repository_is_current(form: str) -> None:
    file = ROOT / "config" / f"{form}.schema.json"
    if os.environ.get("STREAM_PROXY_WRITE"):
        file.write_text(text(form), encoding="utf-8")
    assert file.read_text(encoding="utf-8") == text(form), (
        "STREAM_PROXY_WRITE=1 pytest tests/unit/config/render/test_json_schema.py"
    )


def within_the_chart(form: str) -> Any:
    """The schema of a file within the schema of the chart's values: nothing is required at its top."""

    def moved(part: Any) -> Any:
        if isinstance(part, list):
            return [moved(each) for each in part]
        if not isinstance(part, dict):
            return part
        kept = {key: moved(each) for key, each in part.items() if key != "examples"}
        if isinstance(reference := kept.get("$ref"), str):
            kept["$ref"] = reference.replace("#/$defs/", f"#/definitions/{form}/$defs/")
        return kept

    made = moved(schema(form))
    for key in ("$schema", "required", "title"):
        del made[key]
    return made


def test_the_schema_of_the_charts_values_has_the_files_within_it() -> None:
    """So `helm lint` finds in `proxy` and `teams` what an editor finds in the files."""
    file = ROOT / "deploy/helm/values.schema.json"
    values = json.loads(file.read_text(encoding="utf-8"))
    team = within_the_chart("team")
    at = {"configMap", "key"}
    team["properties"] |= {key: values["definitions"]["team"]["properties"][key] for key in at}
    wanted = {"proxy": within_the_chart("proxy"), "team": team}
    if os.environ.get("STREAM_PROXY_WRITE"):
        values["definitions"] = wanted
        file.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    assert values["definitions"] == wanted, (
        "STREAM_PROXY_WRITE=1 pytest tests/unit/config/render/test_json_schema.py"
    )


@pytest.mark.parametrize("form", FORMS)
def test_the_schema_is_one(form: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schema(form))


def fields(made: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    blocks = [made, *made.get("$defs", {}).values()]
    return [(name, field) for each in blocks for name, field in each["properties"].items()]


@pytest.mark.parametrize("form", FORMS)
def test_every_field_has_a_title_a_sentence_and_an_example(form: str) -> None:
    for name, field in fields(schema(form)):
        if name in ("key", "value") and "description" not in field:
            continue
        assert field["title"] == name
        assert field["description"].endswith("."), name
        assert field["examples"], name


def form_of(name: str) -> str:
    if name.startswith("teams/"):
        return "team"
    return "proxy" if name.startswith("proxy") else "streams"


def test_what_check_lets_pass_the_schema_lets_pass_too(monkeypatch: pytest.MonkeyPatch) -> None:
    fine = [name for name in NAMES if not any(errors(each.problems) for each in checked(name, monkeypatch))]
    assert {form_of(name) for name in fine} >= {"streams", "proxy"}, "no case of a form is without errors"
    assert "fine.yaml" in fine
    for name in fine:
        data = read(name, (CASES / name).read_bytes(), None).data
        jsonschema.validate(data, schema(form_of(name)), jsonschema.Draft202012Validator)


@pytest.mark.parametrize(
    "name",
    [
        *("key_unknown", "key_missing", "duration", "size", "event_unknown", "event_name_reserved"),
        *("origin_with_a_path", "path_without_placeholder", "type_choice", "type_number_for_text"),
        *("auth_algorithms", "trap_boolean"),
    ],
)
def test_simple_mistakes_the_schema_sees_as_one_types(name: str) -> None:
    data = read(name, (CASES / f"{name}.yaml").read_bytes(), {}).data
    assert not jsonschema.Draft202012Validator(schema("streams")).is_valid(data)


def test_the_command_prints_it() -> None:
    result = CliRunner().invoke(command, ["--form", "team"])
    assert json.loads(result.output) == schema("team")


async def test_a_language_server_completes_and_complains_with_it(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    file = tmp_path / "config" / "streams.schema.json"  # where the example's first line says
    file.write_text(text("streams"), encoding="utf-8")
    uri = (tmp_path / "streams.yaml").as_uri()
    async with LanguageServer(file) as server:
        assert await server.open(uri, EXAMPLE) == []
        wrong = EXAMPLE.replace("step_completed", "step_complete").replace(
            "    rules:", "    rulez: 1\n    rules:"
        )
        messages = " ".join(
            each["message"] for each in await server.open((tmp_path / "b.yaml").as_uri(), wrong)
        )
        assert "rulez" in messages
        other = (tmp_path / "c.yaml").as_uri()
        await server.open(other, "version: 1\nstreams:\n  chat:\n    \n    rules:\n      - events: \n")
        assert {"path", "heartbeat", "allow"} <= set(await server.complete(other, 3, 4))
        assert "step_completed" in await server.complete(other, 5, 16)
        assert "first rule that matches" in await server.hover(other, 4, 6)
