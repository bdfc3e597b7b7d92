"""A short piece of chaos, and the proof that its judge would see what it must see."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.play import play


@pytest.mark.timeout(150)
@pytest.mark.parametrize("seed", [11])
async def test_nothing_is_lost_unsaid_while_everything_breaks(seed: int, tmp_path: Path) -> None:
    report = await play(seed, 15, tmp_path, clients_per_run=5)
    print(report)
    assert report.runs > 10
    assert report.faults
    assert report.fine, str(report)
