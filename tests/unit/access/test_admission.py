"""A team's limits: which clients are admitted, releases, and reloads with other limits."""

from __future__ import annotations

import resource

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.model.files import LimitsConfig
from proxy.access.admission import Lease, Refused, TeamLimits, max_connections, raise_file_limit


def admitted(limits: TeamLimits, run: str = "r", subject: str | None = "ada", now: float = 0.0) -> Lease:
    lease = limits.admit(run, subject, now)
    assert isinstance(lease, Lease)
    return lease


def refused(limits: TeamLimits, run: str = "r", subject: str | None = "ada", now: float = 0.0) -> str:
    refusal = limits.admit(run, subject, now)
    assert isinstance(refusal, Refused)
    return refusal.which


def test_no_limit_applies_unless_it_is_configured() -> None:
    limits = TeamLimits(LimitsConfig())
    for _ in range(10_000):
        admitted(limits)
    assert limits.connections == 10_000


def test_connections_of_a_team_are_limited_and_a_lease_is_released_once() -> None:
    limits = TeamLimits(LimitsConfig(connections=2))
    first, _ = admitted(limits, "a"), admitted(limits, "b")
    assert refused(limits, "c") == "connections"
    first.release()
    first.release()
    admitted(limits, "c")
    assert refused(limits, "d") == "connections"


def test_connections_per_run_are_limited() -> None:
    limits = TeamLimits(LimitsConfig(connections_per_run=1))
    lease = admitted(limits, "a")
    assert refused(limits, "a") == "connections_per_run"
    admitted(limits, "b")
    lease.release()
    admitted(limits, "a")


def test_connections_per_subject_are_limited_over_all_runs() -> None:
    limits = TeamLimits(LimitsConfig(connections_per_subject=2))
    admitted(limits, "a"), admitted(limits, "b")
    assert refused(limits, "c") == "connections_per_subject"
    admitted(limits, "c", "bea")


def test_clients_without_a_subject_are_not_limited_per_subject() -> None:
    limits = TeamLimits(LimitsConfig(connections_per_subject=1))
    for _ in range(3):
        admitted(limits, subject=None)


def test_runs_are_limited_and_more_clients_of_an_open_run_are_admitted() -> None:
    limits = TeamLimits(LimitsConfig(runs=2))
    leases = [admitted(limits, "a"), admitted(limits, "b"), admitted(limits, "b")]
    assert refused(limits, "c") == "runs"
    leases[1].release()
    assert refused(limits, "c") == "runs"
    leases[2].release()
    admitted(limits, "c")


def test_connects_per_second_admits_a_burst_and_then_that_rate() -> None:
    limits = TeamLimits(LimitsConfig(connects_per_second=10))
    for _ in range(10):
        admitted(limits, now=100.0)
    assert refused(limits, now=100.0) == "connects_per_second"
    assert refused(limits, now=100.09) == "connects_per_second"
    admitted(limits, now=100.2)
    for _ in range(10):
        admitted(limits, now=1000.0)
    assert refused(limits, now=1000.0) == "connects_per_second"


def test_clients_refused_by_another_limit_do_not_use_up_the_rate() -> None:
    limits = TeamLimits(LimitsConfig(connections_per_run=1, connects_per_second=2))
    admitted(limits, "a")
    for _ in range(100):
        assert refused(limits, "a") == "connections_per_run"
    admitted(limits, "b")


def test_a_ticket_request_takes_no_connection_but_counts_for_the_rate() -> None:
    limits = TeamLimits(LimitsConfig(connections=1, connects_per_second=3))
    admitted(limits)
    assert limits.admit_request(0.0) is None and limits.admit_request(0.0) is None
    assert limits.admit_request(0.0) == Refused("connects_per_second")
    assert limits.connections == 1
    assert TeamLimits(LimitsConfig()).admit_request(0.0) is None


def test_a_clock_that_goes_back_admits_nobody_and_costs_nobody_later() -> None:
    limits = TeamLimits(LimitsConfig(connects_per_second=1))
    admitted(limits, now=100.0)
    assert refused(limits, now=50.0) == "connects_per_second"
    assert refused(limits, now=50.5) == "connects_per_second"
    admitted(limits, now=51.5)


def test_new_limits_apply_at_once_and_disconnect_nobody() -> None:
    limits = TeamLimits(LimitsConfig())
    leases = [admitted(limits) for _ in range(3)]
    limits.configure(LimitsConfig(connections=2))
    assert refused(limits) == "connections"
    leases.pop().release()
    assert refused(limits) == "connections"
    leases.pop().release()
    admitted(limits)


def test_a_reload_that_leaves_the_rate_alone_does_not_fill_the_bucket() -> None:
    limits = TeamLimits(LimitsConfig(connects_per_second=1))
    admitted(limits)
    limits.configure(LimitsConfig(connects_per_second=1, connections=9))
    assert refused(limits) == "connects_per_second"
    limits.configure(LimitsConfig(connects_per_second=2))
    admitted(limits), admitted(limits)
    assert refused(limits) == "connects_per_second"


@given(
    st.lists(
        st.tuples(
            st.booleans(), st.sampled_from("abc"), st.sampled_from(["ada", "bea", None]), st.integers(0, 9)
        ),
        max_size=60,
    )
)
def test_no_limit_is_ever_exceeded_and_all_counts_return_to_zero(
    arrivals: list[tuple[bool, str, str | None, int]],
) -> None:
    config = LimitsConfig(connections=5, connections_per_run=3, connections_per_subject=2, runs=2)
    limits = TeamLimits(config)
    here: list[tuple[Lease, str, str | None]] = []
    for comes, run, subject, which in arrivals:
        if comes:
            lease = limits.admit(run, subject, 0.0)
            if isinstance(lease, Lease):
                here.append((lease, run, subject))
        elif here:
            here.pop(which % len(here))[0].release()
        assert limits.connections == len(here) <= 5
        assert len({run for _, run, _ in here}) <= 2
        for name in "abc":
            assert sum(run == name for _, run, _ in here) <= 3
        for name in ("ada", "bea"):
            assert sum(subject == name for _, _, subject in here) <= 2
    for lease, _, _ in here:
        lease.release()
    assert limits.connections == 0
    assert not limits._by_run and not limits._by_subject


@pytest.mark.parametrize(("files", "connections"), [(1024, 896), (65536, 61376), (256, 176), (10, 1)])
def test_the_process_stops_before_the_file_limit(files: int, connections: int) -> None:
    assert max_connections(files) == connections


def test_the_file_limit_is_raised_to_what_the_system_grants() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        assert raise_file_limit() == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        assert raise_file_limit() >= before[0]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("error", [ValueError("not allowed to raise"), OSError("invalid argument")])
def test_a_hard_limit_that_the_system_does_not_grant_leaves_the_soft_one(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(which: int, limits: tuple[int, int]) -> None:
        raise error

    monkeypatch.setattr(resource, "getrlimit", lambda which: (256, 1 << 30))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert raise_file_limit() == 256
