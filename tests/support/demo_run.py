"""What the demo's runs are in truth, and how to begin one."""

from __future__ import annotations

from typing import Final

import httpx

from proxy.cli.demo.workflows import ANSWER, THOUGHTS, words
from tests.support.reference import TrueStep, Truth

FAST: Final = ("--speed", "3")  # a run in three seconds
LOSSLESS: Final = {"metadata-hangup": False, "flush-buffers": False}
"""Quirks of an engine that loses no chunk, for tests of what comes after it: it hangs up on no tap, and on a
busy machine no end overtakes the last chunks by more than the proxy waits."""
STEPS: Final = ("start", "load_docs", "reason_docs", "generate_response")


def _texts(text: str) -> tuple[str, ...]:
    return tuple(word.decode() for word in words(text))


CHAT: Final = Truth(
    "completed",
    {
        "start": TrueStep("completed"),
        "load_docs": TrueStep("completed"),
        "reason_docs": TrueStep("completed", _texts(THOUGHTS)),
        "generate_response": TrueStep("completed", _texts(ANSWER)),
    },
)
FLAKY: Final = Truth(
    "completed",
    {**CHAT.steps, "generate_response": TrueStep("completed", _texts(ANSWER), attempt=2)},
)


async def trigger(url: str, workflow: str = "chat") -> str:
    """Begin a run as the page's button does; its id."""
    async with httpx.AsyncClient() as client:
        answer = await client.post(f"{url}/demo/runs", json={"workflow": workflow})
    assert answer.status_code == 201, answer.text
    run_id: str = answer.json()["run_id"]
    return run_id
