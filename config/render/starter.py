"""A first streams.yaml for a workflow's steps: commented, with tests, and without a complaint."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from config.checks.paths import OWN_PATHS
from config.checks.schema_errors import flow

ANY_STEP: Final = "answer"  # the example's step where none is known
LINE: Final = 100  # columns; longer lists go over several lines


def stream_name(workflow: str) -> str:
    """A stream's name from a workflow's."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", workflow).strip("-._")[:64].rstrip("-._")
    return name if name and name not in OWN_PATHS else f"{name or 'chat'}-stream"


def names(steps: Sequence[str], indent: int) -> str:
    """A list of steps in YAML, over several lines where one is too short."""
    inline = flow(list(steps))
    if len(inline) + indent <= LINE:
        return inline
    blanks = " " * indent
    return "[\n" + "".join(f"{blanks}  {flow(step, inside=True)},\n" for step in steps) + f"{blanks}]"


def sketch(name: str, steps: Sequence[str] = (), metadata: str | None = None) -> str:
    """The text: stream `name` for `steps` (none: every one), runs found by a metadata key or by id."""
    placeholder = f"{{metadata.{metadata}}}" if metadata else "{workflowRunId}"
    by = f"the newest run that carries this {metadata}" if metadata else "a run by its id"
    some = flow(steps[0] if steps else ANY_STEP, inside=True)
    only = (
        f"        steps: {names(steps, 8)}\n"
        if steps
        else "        # steps: [one, two]      # only these; globs too\n"
    )
    return f"""\
# Which events of a Hatchet workflow's runs a browser gets, and what is in them.
#   stream-proxy check --strict streams.yaml     finds every mistake before it is live
#   stream-proxy test streams.yaml               runs the tests at the end
#   stream-proxy schema > streams.schema.json    makes editors complete; then this file's first line is
#                                                "yaml-language-server: $schema=./streams.schema.json"
version: 1
hatchet:
  token: ${{HATCHET_CLIENT_TOKEN:?create an API token in the Hatchet dashboard}}

streams:
  {name}:
    path: /{name}/{placeholder}    # {by}
    rules:                            # the first rule that matches an event decides; no match: not sent
      - name: tokens
        events: step_stream           # what a step sends with put_stream
{only}        when: payload != ''
        event: token                  # source.addEventListener("token", …)
        data: {{step: step, text: payload}}
      - name: results
        events: step_completed
{only}        event: result
        data: {{step: step, result: payload}}
      - name: failures
        events: [step_failed, run_failed]
        event: problem
        data: {{step: step, message: "'Something went wrong'"}}    # a constant: no error text gets out
    # heartbeat: 15s                  # these are the defaults
    # retry: 3s
    # wait_for_run: 10s
    # cors: {{origins: ["https://app.example.com"], credentials: true}}    # pages of other origins

tests:
  - name: tokens come as they are
    stream: {name}
    given: {{type: step_stream, step: {some}, payload: "Hi"}}
    expect: {{event: token, data: {{step: {some}, text: "Hi"}}}}
  - name: empty tokens are silent
    stream: {name}
    given: {{type: step_stream, step: {some}, payload: ""}}
    expect: nothing
  - name: results come whole
    stream: {name}
    given: {{type: step_completed, step: {some}, payload: {{text: "Hi"}}}}
    expect: {{event: result, data: {{step: {some}, result: {{text: "Hi"}}}}}}
  - name: no error text gets out
    stream: {name}
    given: {{type: step_failed, step: {some}, payload: {{message: "password", detail: "traceback"}}}}
    expect: {{event: problem, data: {{step: {some}, message: "Something went wrong"}}}}
"""
