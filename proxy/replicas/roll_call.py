"""RollCall: each replica reports what it does, when one of them asks.

    who ID            a replica asks
    here ID REPORT    each of the others answers with its report, as JSON

Nothing is written to the log for it. Reports of other replicas are only shown; nothing is decided by them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import count
from typing import Any, Final

from proxy.log.base import LogAway, SharedLog

WITHIN: Final = 1.0  # seconds for which answers are waited for
MOST_LED: Final = 100  # runs that a report names
MOST_REPORTS: Final = 256  # of one roll call
LONGEST: Final = 64 << 10  # characters of a report


@dataclass(frozen=True, slots=True)
class Report:
    """What a replica does; times are Unix seconds.

    `leads` are the names of the logs of some runs that it leads. `stored_within`: seconds within which 99 of
    100 appends are stored. `behind`: seconds within which 99 of 100 measured events of other leaders came.
    """

    replica: str
    host: str
    started: float
    leading: int
    following: int
    local: int
    leads: tuple[str, ...]
    take_overs: int
    last_take_over: float | None
    stored_within: float | None
    behind: float | None


@dataclass(frozen=True, slots=True)
class Roll:
    """The reports of all replicas, this one's first.

    `silent`: how many more are connected, and gave none; None: not known.
    """

    reports: tuple[Report, ...]
    silent: int | None


class RollCall:
    """Asks all replicas, and answers when another one asks."""

    def __init__(self, log: SharedLog, report: Callable[[], Report]) -> None:
        """`report` is this replica's."""
        self._log = log
        self._report = report
        self._numbers = count(1)
        self._asked: dict[str, dict[str, Report]] = {}  # the answers by replica, of each question
        self._answered = asyncio.Event()

    def announced(self, replica: str, words: Sequence[str]) -> bool:
        """Another replica announced `words`; returns whether they belong to a roll call."""
        if words[:1] == ["who"] and len(words) == 2:
            self._log.announce(["here", words[1], json.dumps(asdict(self._report()))])
            return True
        if words[:1] == ["here"] and len(words) == 3:
            answers = self._asked.get(words[1])
            report = _read(replica, words[2])
            if answers is not None and report is not None and len(answers) < MOST_REPORTS:
                answers[replica] = report
                self._answered.set()
            return True
        return False

    async def ask(self) -> Roll:
        """Ask all replicas; those that do not answer in time are counted as silent."""
        number = f"{self._log.replica}.{next(self._numbers)}"
        answers = self._asked[number] = {}
        others: int | None = None
        try:
            others = await self._log.replicas() - 1
            self._log.announce(["who", number])
            async with asyncio.timeout(WITHIN):
                while len(answers) < others:
                    self._answered.clear()
                    await self._answered.wait()
        except (LogAway, TimeoutError):
            pass
        finally:
            del self._asked[number]
        known = sorted(answers.values(), key=lambda report: report.started)
        silent = None if others is None else max(0, others - len(answers))
        return Roll((self._report(), *known), silent)


def _read(replica: str, text: str) -> Report | None:
    """The report of `replica`; None where the text is not a report."""
    try:
        plain: Any = json.loads(text) if len(text) <= LONGEST else None
        report = Report(**{each.name: plain[each.name] for each in fields(Report)})
        return Report(
            replica,
            str(report.host),
            float(report.started),
            int(report.leading),
            int(report.following),
            int(report.local),
            tuple(str(name) for name in report.leads[:MOST_LED]),
            int(report.take_overs),
            None if report.last_take_over is None else float(report.last_take_over),
            None if report.stored_within is None else float(report.stored_within),
            None if report.behind is None else float(report.behind),
        )
    except (ValueError, TypeError, KeyError):
        return None
