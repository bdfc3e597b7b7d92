"""Writes a first streams.yaml for a workflow's steps: commented, with tests, free of warnings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from config.checks.paths import OWN_PATHS
from config.checks.schema_errors import flow

ANY_STEP: Final = "answer"  # the step in the example where no step is known
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


def starter(
    name: str,
    steps: Sequence[str] = (),
    streaming: Sequence[str] = (),
    metadata: str | None = None,
) -> str:
    """The text of a first streams.yaml.

    `name` is the stream's; `steps` are the workflow's steps in their order (none: every step is forwarded);
    `streaming` are those of them that send chunks (none: the last one, which usually writes the answer);
    `metadata` is the key by whose value runs are found (None: by their id). The frames are those that
    ``clients/js/stream-proxy.js`` reads: every frame has a `type`, tokens an `attempt` and an `index`.
    """
    placeholder = f"{{metadata.{metadata}}}" if metadata else "{workflowRunId}"
    found_by = f"the newest run that carries this {metadata}" if metadata else "a run by its id"
    tokens = tuple(streaming) or tuple(steps[-1:])
    example = flow(tokens[0] if tokens else ANY_STEP, inside=True)
    only = (
        f"        steps: {names(steps, 8)}\n"
        if steps
        else "        # steps: [one, two]         # only these; globs too\n"
    )
    of_tokens = (
        "        # The steps that send chunks with put_stream, and no others: a gap is announced for each\n"
        "        # of these steps whose chunks may be missing.\n"
        f"        steps: {names(tokens, 8)}\n"
        if tokens
        else "        # steps: [answer]           # name the steps that send chunks with put_stream\n"
    )
    return f"""\
# Which events of a Hatchet workflow's runs a browser gets, and what is in them.
#   stream-proxy check --strict streams.yaml     finds every mistake before it is live
#   stream-proxy test streams.yaml               runs the tests at the end
#   stream-proxy schema > streams.schema.json    completion in editors; then write as this file's first line
#                                                "yaml-language-server: $schema=./streams.schema.json"
version: 1
hatchet:
  token: ${{HATCHET_CLIENT_TOKEN:?create an API token in the Hatchet dashboard}}
  # The metadata pair that each streamed run carries. One subscription then serves all runs. In Python:
  #   await workflow.aio_run(input, wait_for_result=False, additional_metadata={{"stream": "on"}})
  tap: {{stream: "on"}}

streams:
  {name}:
    path: /{name}/{placeholder}    # {found_by}
    rules:                            # the first rule that matches an event decides; no match: not sent
      - name: tokens
        events: step_stream           # a chunk that a step sends with put_stream
{of_tokens}        # whole: payload.text         # if the step returns its text: sends what was missing
        event: token                  # source.addEventListener("token", …)
        data: {{type: type, step: step, attempt: attempt, index: index, recovered: recovered, text: payload}}
      - name: results
        events: [step_completed, step_skipped, step_cancelled]
{only}        event: result
        data: {{type: type, step: step, attempt: attempt, payload: payload}}
      - name: failures
        events: [step_failed, run_failed]
        event: problem
        data: {{type: type, step: step, attempt: attempt}}
        const: {{message: Something went wrong}}    # sent as it stands here: no error text gets out
    # heartbeat: 15s                  # these are the defaults
    # retry: 3s
    # wait_for_run: 10s
    # cors: {{origins: ["https://app.example.com"], credentials: true}}    # pages of other origins

tests:
  - name: tokens are forwarded as they come
    stream: {name}
    given: {{type: step_stream, step: {example}, index: 3, payload: "Hi"}}
    expect:
      event: token
      data: {{type: step_stream, step: {example}, attempt: 1, index: 3, recovered: false, text: "Hi"}}
  - name: a result is forwarded whole
    stream: {name}
    given: {{type: step_completed, step: {example}, payload: {{text: "Hi"}}}}
    expect:
      event: result
      data: {{type: step_completed, step: {example}, attempt: 1, payload: {{text: "Hi"}}}}
  - name: no error text gets out
    stream: {name}
    given: {{type: step_failed, step: {example}, payload: {{message: "password", detail: "traceback"}}}}
    expect:
      event: problem
      data: {{type: step_failed, step: {example}, attempt: 1, message: "Something went wrong"}}
"""
