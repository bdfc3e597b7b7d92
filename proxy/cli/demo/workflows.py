"""The demo's workflows: the tutorial's chat, the same with a retry, and the same with a failure."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from proxy.simulator.script.model import Chunks, Failure, Script, Step, Workflow, script

THOUGHT_EVERY: Final = 0.06  # seconds between words
WORD_EVERY: Final = 0.045

THOUGHTS: Final = (
    "Three pages describe event streams. The second one says what happens to a client that joins late, "
    "the third how a stream ends."
)
ANSWER: Final = (
    "Hatchet sends each event once, to the clients that are subscribed at that moment. Its streams have no "
    "history, and a stream may end before the run does. The proxy keeps each run for a while. It rebuilds "
    "missed lifecycle events from the run's state, numbers every frame so that a client can resume where it "
    "stopped, and sends the end only when the state confirms it. Lost chunks are announced, never silently "
    "left out."
)
FALSE_START: Final = (
    "Let me look at this from another side. On second thought, the connection to the model is"
)


def words(text: str) -> tuple[bytes, ...]:
    """A text in chunks as a model streams it: words, each with the space before it."""
    first, *rest = text.split(" ")
    return (first.encode(), *(f" {word}".encode() for word in rest))


START: Final = Step("start", takes=0.4, output={"status": "reading the docs"})
LOAD: Final = Step("load_docs", ("start",), takes=0.8, output={"status": "loaded", "pages": 3})
REASON: Final = Step(
    "reason_docs",
    ("load_docs",),
    takes=0.3,
    chunks=Chunks(words(THOUGHTS), THOUGHT_EVERY),
    output={"status": "understood"},
)
ANSWERING: Final = Step(
    "generate_response",
    ("reason_docs",),
    takes=0.3,
    chunks=Chunks(words(ANSWER), WORD_EVERY),
    output={"status": "complete", "message": ANSWER},
)
TRYING_AGAIN: Final = replace(
    ANSWERING,
    chunks=Chunks(lambda scope: words(FALSE_START if scope["attempt"] == 1 else ANSWER), WORD_EVERY),
    fails=Failure("ConnectionError: the model went away", attempts=1),
    retries=2,  # without backoff: the engine, like the real one, can add half a minute for it
)
FAILING: Final = replace(
    REASON, chunks=Chunks(words(THOUGHTS)[:9], THOUGHT_EVERY), fails=Failure("ValueError: page two is empty")
)


def demo_script() -> Script:
    """The script of the demo's engine."""
    return script(
        Workflow("chat", (START, LOAD, REASON, ANSWERING)),
        Workflow("flaky", (START, LOAD, REASON, TRYING_AGAIN)),
        Workflow("broken", (START, LOAD, FAILING, ANSWERING)),
    )
