"""``docs/configuration.md``, made of the same declarations as the schema; a test keeps it current."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from config.checks.schema_errors import flow
from config.model.files import ProxyFile, SingleFile, TapConfig
from config.render.json_schema import nested

FIRST: Final = """\
# Configuration

<!-- Made by `config/render/reference_docs.py` from the declarations in `config/model/files.py`;
a test keeps it current. -->

An editor with a YAML language server completes and checks as one types if the first line names the schema
(`stream-proxy schema > streams.schema.json`). `stream-proxy check PATH` finds every mistake before it is
live; a running proxy notices a changed file within two seconds and keeps the last good version of a team
whose file is wrong.

```yaml
# yaml-language-server: $schema=./streams.schema.json
version: 1
hatchet:
  token: ${HATCHET_CLIENT_TOKEN:?create an API token in the Hatchet dashboard}

streams:
  chat:
    path: /message/{workflowRunId}
    rules:
      - events: step_completed
        steps: [start, load_docs, reason_docs, generate_response]
        data: {type: type, payload: payload, messageId: run_id}
```

## How it is read

YAML 1.2: `yes`, `on`, `1:30` and `2026-01-01` are text, `012` is refused, and so are duplicate keys, tags,
merge keys and unknown keys. Durations are a whole number and `ms`, `s`, `m` or `h`; sizes a whole number and
`B`, `KiB`, `MiB` or `GiB`. A key may be left out, but never left empty.

`${NAME}`, `${NAME:-default}`, `${NAME:?message}` and `${file:/path}` are resolved inside values, after
parsing, so that a value can never add a key. A team's own file has none. Secrets are printed as `[redacted]`.

A file may have 1 MiB, 50,000 values, 32 levels and 128 KiB of expressions.

## The event that expressions see

| field | meaning |
|---|---|
| `type` | the event's name, from the table below |
| `step` | the step's name as in the workflow's code; null on run events |
| `payload` | what it carries, see below |
| `run_id`, `step_run_id` | Hatchet's ids |
| `attempt` | 1 for the first try; null on run events |
| `index` | a chunk's number within its step and attempt, from 0; null elsewhere |
| `at` | when: ISO 8601, UTC; null where nothing tells |
| `metadata` | the run's additional metadata |
| `recovered` | true where the event was rebuilt from the run's state |

| event | comes | payload |
|---|---|---|
| `step_started` | when Hatchet created the step, once | null |
| `step_stream` | for each chunk | the chunk: text, or JSON where the rule says `payload: json` |
| `step_completed` | once | the step's output |
| `step_skipped` | once, instead of `step_completed` | null |
| `step_retrying` | an attempt failed and another follows | `{message, detail}`, or null |
| `step_failed` | the last attempt failed, a timeout too | `{message, detail}` |
| `step_cancelled` | once | null |
| `run_completed` | the verified end | each step's output by its name |
| `run_failed` | the verified end | `{message, detail, step}` of the step that failed first |
| `run_cancelled` | the verified end | null |

`detail` holds tracebacks: a rule that forwards it, or the whole payload of a failure or of `run_completed`,
draws a warning. Expressions are [JMESPath](https://jmespath.org): texts in single quotes
(`step == 'answer'`), numbers in backticks (``attempt > `1` ``), fields by their names
(`payload.items[0].name`; between `{` and `}` a value with brackets needs double quotes around it).

`allow` sees `claims` (the token's), `run` (`id`, `metadata`) and `request` (`params`, `origin`); anything but
true refuses.

"""
SINGLE: Final = """\
## One team in one file

"""
MANY: Final = """\
## Many teams: a folder

`proxy.yaml` is the platform team's, `teams/NAME.yaml` each team's own: `version`, `streams`, `shapes` and
`tests`, no secrets and no `${`. A team's streams live under `/NAME/…`. A broken file leaves that team on its
last good version and touches nobody else.

```yaml
# proxy.yaml
version: 1
server: {host: 127.0.0.1, port: 8080}
teams:
  payments:
    hatchet: {token: "${PAYMENTS_HATCHET_TOKEN:-get one in the dashboard}"}
    auth: none
```

```yaml
# teams/payments.yaml
version: 1
streams:
  checkout:
    rules:
      - {events: step_completed, event: paid, data: {order: payload.order_id}}
tests:
  - name: the card number never leaves
    stream: checkout
    given: {type: step_completed, step: charge, payload: {order_id: 7, card: {number: "4242"}}}
    expect: {event: paid, data: {order: 7}}
```

"""
HEAD: Final = "| key | default | meaning | example |\n|---|---|---|---|\n"


def markdown() -> str:
    """The whole page."""
    seen: set[type[BaseModel]] = set()
    single = sections(SingleFile, "", seen)
    return FIRST + SINGLE + single + MANY + sections(ProxyFile, "", seen).rstrip("\n") + "\n"


def sections(model: type[BaseModel], path: str, seen: set[type[BaseModel]]) -> str:
    """A block's table, then those of the blocks in it; each block once."""
    seen.add(model)
    made = table(model, path)
    for name, field in model.model_fields.items():
        inner = nested(field.annotation)
        if inner is not None and inner not in seen and inner is not TapConfig:
            made += sections(inner, f"{path}.{field.alias or name}".lstrip("."), seen)
    return made


def table(model: type[BaseModel], path: str) -> str:
    """One block: its heading, its sentence, a row for each key."""
    heading = f"### `{path}`\n\n{(model.__doc__ or '').strip()}\n\n" if path else ""
    rows = "".join(row(field.alias or name, field) for name, field in model.model_fields.items())
    return f"{heading}{HEAD}{rows}\n"


def row(name: str, field: FieldInfo) -> str:
    """One key."""
    example = flow((field.examples or [""])[0])
    cells = [f"`{name}`", default(field), field.description or "", code(f"{name}: {example}")]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def default(field: FieldInfo) -> str:
    """A default as the YAML would say it."""
    if field.is_required():
        return "must be written"
    value: Any = field.default
    return "" if value is None or value in ({}, []) else code(flow(value))


def code(text: str) -> str:
    """Code in a table's cell."""
    return f"`` {text} ``" if "`" in text else f"`{text}`"
