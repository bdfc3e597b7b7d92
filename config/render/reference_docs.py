"""Writes ``docs/configuration.md`` from the same declarations as the schema; a test keeps it current."""

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

An editor with a YAML language server completes and checks the file while you type, if its first line
names the schema (`stream-proxy schema > streams.schema.json`). `stream-proxy check PATH` finds every
mistake before it is live. A running proxy notices a changed file within two seconds; a team whose file is
wrong keeps its last good version.

```yaml
# yaml-language-server: $schema=./streams.schema.json
version: 1
hatchet:
  token: ${HATCHET_CLIENT_TOKEN:?create an API token in the Hatchet dashboard}
  tap: {stream: "on"} # the metadata pair that each streamed run carries

streams:
  chat:
    path: /message/{workflowRunId}
    rules:
      - events: step_completed
        steps: [start, load_docs, reason_docs, generate_response]
        data: {type: type, payload: payload, messageId: run_id}
```

[tap.md](tap.md) shows how the application gives its runs the pair of `tap`, in Python, TypeScript and Go.

## How it is read

YAML 1.2: `yes`, `on`, `1:30` and `2026-01-01` are text, `012` is refused, and so are duplicate keys,
tags, merge keys and unknown keys. Durations are a whole number and `ms`, `s`, `m` or `h`; sizes a whole
number and `B`, `KiB`, `MiB` or `GiB`. A key may be left out, but never left empty.

`${NAME}`, `${NAME:-default}`, `${NAME:?message}` and `${file:/path}` are resolved inside values, after
parsing, so that a value can never add a key. A team's own file has none. Secrets are printed as
`[redacted]`.

A file may have at most 1 MiB, 50,000 values, 32 levels and 128 KiB of expressions.

## The event that expressions see

| field | meaning |
|---|---|
| `type` | the event's name, from the table below |
| `step` | the step's name as in the workflow's code; null on run events |
| `payload` | what it carries, see below |
| `workflow` | the workflow's name; null where it is not known |
| `run_id`, `step_run_id` | Hatchet's ids |
| `parent` | `{run_id, step, workflow}` of what started a child run (`include: [children]`); null elsewhere |
| `attempt` | 1 for the first try; null on run events |
| `index` | a chunk's number within its step and attempt, from 0; null elsewhere |
| `first_index` | the same, or that of the first of several chunks that a rule with `merge` made one event |
| `at` | when: ISO 8601, UTC; null where the time is not known |
| `metadata` | the run's additional metadata |
| `recovered` | true where the event was rebuilt from the run's state, or repairs a text (`whole`) |

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

`true`, `false` and `null` stand in backticks too: without them they are names of fields. `!` belongs only to
the name right after it, so write `!(payload.done)`. Values of unlike types have no order: ``price > `10` ``
is null where the price is a text, and such an element of a list is not selected. Reading long texts is work;
an event that needs too much of it is skipped, and `check` warns of expressions that do.

`allow` sees `claims` (the token's), `run` (`id`, `metadata`) and `request` (`params`, `origin`); anything
but true refuses. A comparison with a missing side is not true, and neither is an order of unlike types.

### Functions beside those of JMESPath

| function | gives |
|---|---|
| `add(a, b)`, `sub(a, b)`, `mul(a, b)` | the sum, difference and product of two numbers |
| `div(a, b)` | the quotient of two numbers; a division by 0 fails |
| `round(number, digits)` | the number, rounded to `digits` decimal digits, halves away from zero |
| `slice(text, from, to)` | a part of a text; negative numbers count from the end, `null` as `to` is the end |
| `lower(text)`, `upper(text)` | the text in lower case, in upper case |
| `trim(text)`, `trim(text, characters)` | the text without blanks, or those characters, at both ends |
| `replace(text, from, to)` | the text with every `from` replaced; a fourth argument says how many at most |
| `split(text, separator)` | the parts of the text (of an empty separator: its characters); a third argument \
says how often it is split at most |
| `pick(object, names)`, `omit(object, names)` | the object with only the named fields, or without them |
| `lookup(object, key, default)` | the field that a text names, or the default where it is missing or null |
| `if(condition, a, b)` | `a` where the condition is not false-like, else `b`; only that one is evaluated |

## Which events a rule takes

`events` has names and globs. Globs match lifecycle events only: `step_*` is every `step_…` event but
`step_stream`, `"*"` is every event but `step_stream`. Chunks are taken only by a rule that names
`step_stream`, because they can hold what must not reach a browser. Such a rule should name the `steps`
that stream: gaps are announced for these steps only.

A step's name has letters, digits, `.`, `-` and `_`. The Python SDK turns it into lower case, so a rule for
`Generate_Answer` never matches; write `generate_answer`.

## Text that repairs itself: `whole`

Hatchet delivers each chunk at most once, and a client may join late. Most steps that stream a text also
return it. `whole` on a rule for chunks says where the whole text is in the step's output:

```yaml
version: 1
hatchet:
  token: ${HATCHET_CLIENT_TOKEN}
  tap: {stream: "on"}

streams:
  chat:
    rules:
      - events: step_stream
        steps: answer
        whole: payload.text # of step_completed: the output of the step
        event: token
        data: {step: step, attempt: attempt, index: index, recovered: recovered, text: payload}

tests:
  - name: the missing end of a text comes when the step completes
    stream: chat
    given:
      - {type: step_stream, step: answer, payload: Hel}
      - {type: step_completed, step: answer, payload: {text: Hello}}
    expect:
      - {event: token, data: {step: answer, attempt: 1, index: 0, recovered: false, text: Hel}}
      - {event: token, data: {step: answer, attempt: 1, index: 1, recovered: true, text: lo}}
```

When the step completes, the text that was sent is compared with this value:

| sent so far | what follows before `step_completed` |
|---|---|
| the whole text | nothing |
| a beginning of it, or nothing | the rest as one message of the rule: `recovered: true`, the next `index` |
| another text | `stream.reset` with `"whole": true`, then the whole text as one message |

Gaps of such a step are held until it ends. They are announced if the step fails or is retried, or if
`whole` fails or gives no text; they are dropped if the text was complete or is repaired. If other rules
without `whole` forward chunks of the same step, their chunks stay unproven and the gaps are announced.

"""
SINGLE: Final = """\
## Fewer frames for fast tokens: `merge`

A model may send 200 tokens in a second. `merge: 50ms` on a rule for chunks makes one frame of all chunks that
come within 50 ms, so a reader gets at most 20 frames in a second:

```yaml
version: 1
hatchet:
  token: ${HATCHET_CLIENT_TOKEN}
  tap: {stream: "on"}

streams:
  chat:
    rules:
      - events: step_stream
        steps: answer
        merge: 50ms
        event: token
        data: {step: step, attempt: attempt, first_index: first_index, index: index, text: payload}

tests:
  - name: chunks that come together are one frame
    stream: chat
    given:
      - {type: step_stream, step: answer, payload: Hel}
      - {type: step_stream, step: answer, payload: lo}
    expect: {event: token, data: {step: answer, attempt: 1, first_index: 0, index: 1, text: Hello}}
```

Only chunks of one step and attempt are merged, and only those that this rule takes: `when` is asked for each
chunk. `data` sees them together: the texts joined, with `payload: json` an array of the chunks (also of a
single one), `index` of the last and `first_index` of the first. A client that reconnects
with the frame's id misses no chunk and gets none twice. A step's end, and every lifecycle event that
the stream forwards, sends waiting chunks first, so the order is kept. A gap among the merged chunks is
announced before their frame. In `tests` no time passes between the events.

## Tests beside the rules

`stream-proxy test PATH` runs them, and a reload does before the new version goes live. `--junit FILE` writes
a report for build servers; `stream-proxy check --strict` names the rules that no test reaches.

```yaml
version: 1
hatchet:
  token: ${HATCHET_CLIENT_TOKEN}
auth: {jwt: {jwks_url: https://id.example.com/jwks.json, audience: streams, algorithms: [RS256]}}
streams:
  checkout:
    allow: claims.sub == run.metadata.user_id
    rules:
      - {events: step_completed, steps: charge, event: paid, data: {order: payload.order_id}}
      - {events: run_failed, event: problem, const: {message: Something went wrong}}
tests:
  - name: the card number never leaves
    stream: checkout
    given: {type: step_completed, step: charge, payload: {order_id: 7, card: {number: "4242"}}}
    expect: {event: paid, data: {order: 7}}
  - name: of a failed run the page gets no traceback
    stream: checkout
    given:
      - {type: step_failed, step: charge, payload: {message: declined, detail: "Traceback …"}}
      - {type: run_failed, payload: {message: declined, detail: "Traceback …", step: charge}}
    expect: [{event: problem, data: {message: Something went wrong}}]
  - name: nobody reads the order of another user
    stream: checkout
    claims: {sub: u2}
    run: {metadata: {user_id: u1}}
    allowed: false
```

`given: {recording: runs/checkout.jsonl}` gives a whole recorded run (`stream-proxy record`), from a file
beside the YAML or in a folder below; `expect` then lists everything that the stream sends, `stream.gap`,
`stream.reset` and `stream.end` included.

## One team in one file

"""
MANY: Final = """\
## Many teams: a folder

`proxy.yaml` belongs to the platform team. `teams/NAME.yaml` belongs to one team; it has `version`,
`streams`, `shapes` and `tests`, no secrets and no `${`. The paths of a team's streams begin with
`/NAME/`. A team whose file is broken keeps its last good version; other teams are not affected.

```yaml
# proxy.yaml
version: 1
server: {host: 127.0.0.1, port: 8080}
teams:
  payments:
    hatchet: {token: "${PAYMENTS_HATCHET_TOKEN:?get one in the dashboard}", tap: {stream: "on"}}
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
    """The table of a block, then the tables of the blocks in it; each block once."""
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
    """A default as it is written in YAML."""
    if field.is_required():
        return "must be written"
    value: Any = field.default
    return "" if value is None or value in ({}, []) else code(flow(value))


def code(text: str) -> str:
    """Code in a table's cell."""
    return f"`` {text} ``" if "`" in text else f"`{text}`"
