"""Calls of the next turn: in order, after what is under way, each of them whatever becomes of the others."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from proxy.core.next_turn import next_turn

pytestmark = pytest.mark.timeout(10)


async def test_calls_are_made_in_order_and_not_before_the_next_turn() -> None:
    made: list[str] = []
    turn = next_turn()
    turn.call(lambda: made.append("a"))
    asyncio.get_running_loop().call_soon(made.append, "b")
    turn.call(lambda: made.append("c"))
    assert made == []
    await asyncio.sleep(0)
    assert made == ["a", "c", "b"]


async def test_what_a_call_asks_for_is_made_in_the_turn_after_it() -> None:
    made: list[str] = []
    turn = next_turn()
    turn.call(lambda: turn.call(lambda: made.append("later")))
    await asyncio.sleep(0)
    assert made == []
    await asyncio.sleep(0)
    assert made == ["later"]


async def test_a_call_that_fails_is_reported_and_the_others_are_made() -> None:
    made: list[str] = []
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    turn = next_turn()
    turn.call(lambda: int("no number"))
    turn.call(lambda: made.append("other"))
    await asyncio.sleep(0)
    assert made == ["other"]
    assert [type(context["exception"]) for context in reported] == [ValueError]


def test_each_loop_has_its_own() -> None:
    async def one() -> object:
        assert next_turn() is next_turn()
        return next_turn()

    assert asyncio.run(one()) is not asyncio.run(one())
