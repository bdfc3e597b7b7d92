"""Streams, as they are written and as the proxy uses them; their rules are in `config.model.rules`."""

import re
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, ValidationInfo, WithJsonSchema

from config.model.fields import PART, Block, choice, setting
from config.model.formats import AI_SDK, FORMATS, SSE
from config.model.rules import Expression, RuleBlock, RuleConfig
from config.model.types import (
    HEADER_SCHEMA,
    ORIGIN_SCHEMA,
    VARIABLE,
    Count,
    Duration,
    Flag,
    HeaderName,
    Lasting,
    OneOrMany,
    Origin,
    Size,
    Word,
    duration,
    kind,
    listed,
    many,
    nearest,
    one_of,
    one_or_many,
    wrong,
)

HOLD: Final = "hold"
RETRY: Final = 3.0
"""Seconds of `retry` where it is not written, or says ``hold``."""
PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")


def retry(value: Any, info: ValidationInfo) -> float | str:
    """A duration, or ``hold``."""
    if value == HOLD:
        return HOLD
    found = nearest(value, (HOLD,))
    if found:
        raise wrong("choice", f"must be a duration or `{HOLD}`, but this is {kind(value)}", found)
    return duration(0.001)(value, info)


def status_or(other: str) -> Any:
    """A word, or the status 204, which YAML reads as a number."""

    def read(value: Any) -> str:
        return one_of(other, "204")("204" if value == 204 and not isinstance(value, bool) else value)

    return BeforeValidator(read), WithJsonSchema({"enum": [other, 204, "204"]})


Template = Annotated[
    Word, WithJsonSchema({"type": "string", "pattern": r"^/.*\{(workflowRunId|metadata\.[^{}]+)\}"})
]
Format = Annotated[Literal["sse", "ai-sdk", "ag-ui", "openai", "text"], choice(*FORMATS)]
Retry = Annotated[
    float | str,
    BeforeValidator(retry),
    WithJsonSchema(
        {"anyOf": [{"const": HOLD}, {"type": "string", "pattern": rf"^[0-9]+(ms|s|m|h)$|{VARIABLE}"}]}
    ),
]
A_CHILD: Final = {"const": "children"}
Included = Annotated[Literal["children"], choice("children")]
Unknown = Annotated[Literal["wait", "204"], *status_or("wait")]
Finished = Annotated[Literal["replay", "204"], *status_or("replay")]


class BacklogConfig(Block):
    """How much of a run's frames is kept for clients that join late or reconnect."""

    events: Count = setting(1000, "How many frames at most.", 1000)
    bytes: Size = setting("1MiB", "How many bytes at most.", "1MiB")
    keep_after_end: Duration = setting("5m", "How long a finished run's frames are kept.", "5m")


class CorsConfig(Block):
    """Which pages of other origins may read the stream."""

    origins: Annotated[tuple[Origin, ...], BeforeValidator(many), one_or_many(ORIGIN_SCHEMA)] = setting(
        ...,
        "The origins: scheme, host, and port if it is not the default port.",
        ["https://app.example.com"],
    )
    credentials: Flag = setting(False, "Whether these pages may send cookies.", True)
    headers: Annotated[tuple[HeaderName, ...], BeforeValidator(many), one_or_many(HEADER_SCHEMA)] | None = (
        setting(
            None,
            "More request headers that these pages may send; those of EventSource and its polyfills, "
            "Authorization and the headers of tracing libraries always pass.",
            ["x-requested-with"],
        )
    )


class StreamBlock(Block):
    """A stream: a path, and the rules that decide what of a run is sent to the browser."""

    path: Template | None = setting(
        None,
        "The path of its URL, with `{workflowRunId}` or `{metadata.KEY}`; "
        "by default `/streams/NAME/{workflowRunId}`.",
        "/chat/{workflowRunId}",
        "/message/{metadata.message_id}",
    )
    workflow: OneOrMany | None = setting(
        None,
        "The workflows that it is for: one or a list, globs too; by default every workflow. "
        "A run of another workflow does not exist on this stream (404).",
        "chat-*",
        ["chat", "support"],
    )
    rules: Annotated[tuple[Annotated[RuleBlock, PART], ...], BeforeValidator(listed)] = setting(
        ...,
        "In order: the first rule that matches an event decides; "
        "an event that none matches is not forwarded.",
        [{"events": "step_completed"}],
    )
    include: Annotated[tuple[Included, ...], BeforeValidator(many), one_or_many(A_CHILD)] | None = setting(
        None,
        "`[children]`: also the events of the runs that the run's steps start, at any depth. "
        "The end is that of the run itself.",
        ["children"],
    )
    runs: Annotated[Literal["newest", "all"], choice("newest", "all")] = setting(
        "newest",
        "Only with `{metadata.KEY}`: the newest run that carries the value, or `all` of them, the oldest "
        "first, in one stream without an end.",
        "all",
    )
    format: Format = setting(
        SSE,
        "The protocol that the stream speaks: messages and control frames of its own (`sse`), "
        "or that of a chat front end.",
        AI_SDK,
    )
    control: Annotated[Literal["named", "off"], choice("named", "off")] = setting(
        "named",
        "Only with `format: sse`: whether the stream has control frames (`stream.reset`, `stream.gap` …). "
        "Without them a page does not learn of losses and retries.",
        "off",
    )
    heartbeat: Lasting = setting("15s", "A comment is sent after this time without traffic.", "15s")
    retry: Retry = setting(
        "3s",
        "How long a browser waits before it reconnects, jittered by a third. Or `hold`, with another "
        "`format` than `sse`: a step's text is sent when its attempt cannot fail any more, for clients that "
        "cannot take back what they show.",
        "3s",
        HOLD,
    )
    wait_for_run: Duration = setting(
        "10s", "How long a client waits for a run that does not exist yet.", "10s"
    )
    unknown: Unknown | None = setting(
        None,
        "What a client without a cursor gets for a run that does not exist: `wait` waits for it, up to "
        "`wait_for_run`, `204` answers at once that there is nothing. "
        "Default: `204` with `format: ai-sdk`, else `wait`.",
        "204",
    )
    finished: Finished | None = setting(
        None,
        "What a client without a cursor gets for a run that is over: `replay` sends what it would have seen, "
        "`204` answers that there is nothing. Default: `204` with `format: ai-sdk`, else `replay`.",
        "204",
    )
    backlog: Annotated[BacklogConfig, PART] = setting(
        {}, "How much of each run is kept.", {"events": 1000, "bytes": "1MiB", "keep_after_end": "5m"}
    )
    cors: Annotated[CorsConfig, PART] | None = setting(
        None,
        "Which pages of other origins may read it; by default none.",
        {"origins": ["https://app.example.com"], "credentials": True},
    )
    allow: Expression | None = setting(
        None,
        "A JMESPath expression over `claims`, `run` and `request`; anything but true refuses.",
        "claims.sub == run.metadata.user_id",
    )


class StreamConfig(StreamBlock):
    """A stream as the proxy uses it: with its name, its path and complete rules."""

    name: str
    path: str
    rules: tuple[RuleConfig, ...]
    retry: Lasting = setting("3s", "How long a browser waits before it reconnects.")
    hold: bool = setting(False, "Whether a step's text is held until its attempt cannot fail any more.")
    unknown: Unknown = setting("wait", "What a client gets for a run that does not exist.")
    finished: Finished = setting("replay", "What a client gets for a run that is over.")

    @property
    def metadata_key(self) -> str | None:
        """The KEY of ``{metadata.KEY}`` in the path; None where the path has a run id."""
        for placeholder in PLACEHOLDER.findall(self.path):
            if placeholder.startswith("metadata."):
                return str(placeholder.removeprefix("metadata."))
        return None
