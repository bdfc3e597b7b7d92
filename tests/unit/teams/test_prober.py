"""A team is asked about every 20 seconds, whatever goes wrong in one probe."""

from __future__ import annotations

import asyncio
import itertools
from random import Random

from proxy.teams.prober import EVERY, SPREAD, Prober
from tests.support.fakes import HandClock, rest


async def test_the_first_probe_comes_at_once_and_then_one_every_twenty_seconds() -> None:
    clock, times = HandClock(), list[float]()

    async def probe() -> None:
        times.append(clock.now())

    prober = Prober(probe, lambda error: None, clock=clock, rng=Random(7))
    prober.start()
    prober.start()
    await clock.turn(600)
    await prober.close()
    assert times[0] == 1000.0
    waits = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert 600 / EVERY * 0.8 < len(waits) < 600 / EVERY * 1.2
    assert all(EVERY * (1 - SPREAD) <= wait <= EVERY * (1 + SPREAD) for wait in waits)
    assert EVERY * (1 + SPREAD) + 10.0 + 5.0 < 60, "with its calls' time-outs within the promised minute"


async def test_an_exception_in_a_probe_is_reported_and_the_next_one_comes() -> None:
    clock, errors = HandClock(), list[Exception]()
    probes = 0

    async def probe() -> None:
        nonlocal probes
        probes += 1
        raise KeyError("team")

    prober = Prober(probe, errors.append, clock=clock)
    prober.start()
    await clock.turn(100)
    await prober.close()
    assert probes == len(errors) > 3


async def test_a_probe_that_hangs_is_ended_by_the_close() -> None:
    prober = Prober(asyncio.Event().wait, lambda error: None, clock=HandClock())  # type: ignore[arg-type]
    prober.start()
    await rest()
    await prober.close()
