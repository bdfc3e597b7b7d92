"""Merged sessions for tests, which are dropped at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from proxy.streams.stream import LiveStream
from tests.support.fakes import rest
from tests.support.merged_runs import Listed, Make, MergedSetup


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    made: list[MergedSetup] = []

    def one(membership: Listed, shown: LiveStream | None = None) -> MergedSetup:
        made.append(MergedSetup(membership, shown))
        return made[-1]

    yield one
    for each in made:
        each.session.drop()
    await rest()
