"""The ratios between time constants that the reconciler's reasoning rests on."""

from __future__ import annotations

import pytest

from proxy.runs import feeds, lag, lookup, subscription, subscriptions
from proxy.runs.reconcile import timing

FLUSH = 0.02  # seconds: the engine sends an end at most so long before the chunks that it overtook
ENGINE_HOLD = 5.0  # seconds for which the engine holds chunks back by run id
ENGINE_SLEEP = 1.0  # seconds that a subscription by id sleeps that was opened too early
READS_FAILED = 0.06  # seconds for which the history says FAILED of an attempt that will be retried
FIRST_SECOND = 0.5  # seconds within which a chunk, or what ended just before a join, must reach its client


@pytest.mark.parametrize(
    ("longer", "shorter"),
    [
        pytest.param(timing.SETTLE, FLUSH, id="an end waits longer than a flush"),
        pytest.param(timing.HOLE_WAIT, timing.SETTLE, id="a hole is waited for longer than an end's chunks"),
        pytest.param(
            timing.END_PROOF_WAIT, 4 * timing.SETTLE, id="the same end on another subscription settles"
        ),
        pytest.param(
            timing.SIGN_WAIT, timing.END_PROOF_WAIT, id="no event announces a stop, so it waits longer"
        ),
        pytest.param(timing.SETTLE_MOST, timing.SIGN_WAIT, id="lag may lengthen every wait for a proof"),
        pytest.param(timing.SETTLE, timing.AFTER_FLUSHES, id="a chunk that the end overtook is waited for"),
        pytest.param(timing.AFTER_FLUSHES, timing.END_WAITS, id="an end is flushed before a late chunk"),
        pytest.param(timing.OTHER_END, 2 * FLUSH, id="two ends may share a flush"),
        pytest.param(timing.ATTEMPT_WAIT, 2 * timing.HISTORY_LAG, id="an answer and a round trip fit in"),
        pytest.param(timing.WAITING_PROOF, timing.HISTORY_LAG, id="a waiting attempt had not begun"),
        pytest.param(timing.HISTORY_LAG_MOST, timing.HISTORY_LAG, id="a lag that is measured counts"),
        pytest.param(timing.RERUN_WAIT, timing.ATTEMPT_WAIT, id="a rerun is the weaker guess"),
        pytest.param(
            timing.RERUN_WAIT, 10 * READS_FAILED, id="a failure is received before a rerun is believed"
        ),
        pytest.param(timing.FAILED_WAIT, 10 * READS_FAILED, id="FAILED is final when it has stood"),
        pytest.param(timing.CLOCK_SKEW, timing.CLOCK_JITTER, id="two clocks differ more than one's threads"),
        pytest.param(timing.JOIN_SETTLE, timing.JOIN_WAIT, id="a history that answered may catch up"),
        pytest.param(timing.JOIN_SETTLE, 3 * timing.HISTORY_LAG, id="a join waits for a history under load"),
        pytest.param(FIRST_SECOND, timing.JOIN_SETTLE, id="the first items come within half a second"),
        pytest.param(FIRST_SECOND, timing.ATTEMPT_WAIT, id="a chunk waits less than half a second"),
        pytest.param(FIRST_SECOND, timing.HOLE_WAIT + timing.SETTLE, id="and so does one behind a hole"),
        pytest.param(timing.LIVE_WAIT, timing.HISTORY_LAG, id="news of a state waits for the subscription"),
        pytest.param(timing.CLOSE_WAIT, timing.LIVE_WAIT, id="a closed run waits longer for the history"),
        pytest.param(timing.ALONE, timing.REPLAY_PAUSE, id="without a history a pause is judged longer"),
        pytest.param(timing.REST, timing.SETTLE, id="a run rests when its last step has settled"),
        pytest.param(timing.POLL_FIRST, timing.POLL_NEAREST, id="the second read is no storm"),
        pytest.param(timing.POLL_SLOWEST, timing.POLL_FIRST, id="reads get rarer"),
        pytest.param(timing.AWAY_SLOWEST, timing.AWAY_FIRST, id="a source that is away is asked more rarely"),
        pytest.param(lookup.HAND_OVER, ENGINE_HOLD, id="a search outlasts the engine's hold"),
        pytest.param(subscriptions.CHOICE, ENGINE_SLEEP, id="of two by id one has all_answered by then"),
        pytest.param(feeds.TAP_WAIT, subscription.SPREAD, id="a tap is opened again before it is given up"),
    ],
)
def test_one_time_is_longer_than_the_other(longer: float, shorter: float) -> None:
    assert longer > shorter


def test_the_history_is_asked_several_times_while_a_failure_may_be_retried() -> None:
    reads = [timing.POLL_FIRST * (2**n - 1) for n in range(8)]
    assert sum(at < timing.FAILED_WAIT for at in reads) >= 3


def test_the_core_state_is_asked_often_enough_to_see_a_claim_stand() -> None:
    assert timing.POLL_FIRST > timing.REPLAY_PAUSE
    assert sum(timing.POLL_FIRST * 2**n for n in range(timing.END_POLLS - 1)) > timing.ALONE


def test_an_idle_engine_s_lag_lengthens_no_wait() -> None:
    meter = lag.LagMeter(wall=lambda: 0)
    assert meter.settle() == timing.SETTLE
    assert timing.LAG_IDLE > FLUSH
