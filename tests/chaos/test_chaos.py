"""A short piece of chaos, and the proof that its judge would see what it must see."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.play import play


@pytest.mark.timeout(300)
async def test_replicas_with_a_shared_log_send_the_same_frames_while_leaders_and_redis_break(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """`scripts/chaos --log redis --seed N --minutes 0.15 --clients 4` repeats it."""
    seed = int(request.config.getoption("hypothesis_seed")) % 10**6
    report = await play(seed, 9, tmp_path, proxies=3, clients_per_run=4, shared_log=True)
    print(f"seed {seed}", report)
    assert report.runs > 3
    assert report.faults
    assert report.fine, f"seed {seed}: {report}"


@pytest.mark.timeout(150)
async def test_no_loss_is_unannounced_while_everything_breaks(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """The seed is new in each run; `scripts/chaos --seed N --minutes 0.25` repeats it."""
    seed = int(request.config.getoption("hypothesis_seed")) % 10**6
    report = await play(seed, 15, tmp_path, clients_per_run=5)
    print(f"seed {seed}", report)
    assert report.runs > 10
    assert report.faults
    assert report.fine, f"seed {seed}: {report}"
