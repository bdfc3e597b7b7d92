"""The workflow of an engine without a script: the tutorial's `chat`."""

from __future__ import annotations

from proxy.simulator.script.model import Chunks, Scope, Script, Step, Workflow, script

WORD_EVERY = 0.045

ANSWERS = {
    "stream": (
        "Each step of the workflow reports back as it happens. While this answer is being written, its "
        "words travel from the worker through Hatchet to the proxy, and on to your browser as they come."
    ),
    "retry": (
        "A step that fails is tried again as often as its workflow allows. The words of the failed attempt "
        "are void: the proxy tells the page to drop them, and the next attempt begins from its first word."
    ),
    "hatchet": (
        "Hatchet runs durable workflows: each step is a task on one of your workers, with retries, timeouts "
        "and a history that survives restarts. What it sends while a run goes on is what you are reading."
    ),
}
OTHERWISE = (
    "I have read the docs and thought about them. A run is a graph of steps; each step's result is kept, and "
    "what a step streams is shown as it comes. That is why these words appear one after the other."
)


def _answer(scope: Scope) -> str:
    question = scope["input"]
    asked = (
        str(question.get("question") or question.get("message") or "") if isinstance(question, dict) else ""
    )
    known = (text for word, text in ANSWERS.items() if word in asked.lower())
    begin = f"You asked: {asked.strip()[:200]} " if asked.strip() else ""
    return begin + next(known, OTHERWISE)


def words(text: str) -> tuple[bytes, ...]:
    """A text cut as a model would stream it: words, each with the space before it."""
    first, *rest = text.split(" ")
    return (first.encode(), *(f" {word}".encode() for word in rest))


def chat() -> Workflow:
    """start → load_docs → reason_docs → generate_response."""
    return Workflow(
        "chat",
        (
            Step("start", takes=0.6, output={"status": "reading hatchet docs"}),
            Step(
                "load_docs",
                ("start",),
                takes=1.0,
                output={"status": "making sense of the docs", "docs": "..."},
            ),
            Step(
                "reason_docs",
                ("load_docs",),
                takes=1.2,
                output={"status": "writing a response", "research": "..."},
            ),
            Step(
                "generate_response",
                ("reason_docs",),
                chunks=Chunks(lambda scope: words(_answer(scope)), WORD_EVERY),
                output=lambda scope: {"status": "complete", "message": _answer(scope)},
            ),
        ),
    )


def default() -> Script:
    """The script of an engine that got none."""
    return script(chat())
