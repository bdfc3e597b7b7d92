"""Writes results of tests as a JUnit report, which build servers read.

There is no standard of the format. This is what the servers agree on: ``testsuites``, a ``testsuite`` for
each team, a ``testcase`` for each test with its stream as the class, ``failure`` and ``error``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final
from xml.etree.ElementTree import Element, SubElement, tostring

from config.problems import Problem
from proxy.rules.test_runner import TestResult

FORBIDDEN: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot have, not even escaped."""


def junit(results: Mapping[str, Sequence[TestResult]], problems: Sequence[Problem] = ()) -> bytes:
    """The report; `results` by team, `problems` of files whose tests could not be run."""
    root = Element("testsuites")
    for team, of_team in results.items():
        suite = _suite(root, team, len(of_team), failures=sum(not result.passed for result in of_team))
        for result in of_team:
            case = SubElement(suite, "testcase", classname=_text(result.stream), name=_text(result.name))
            if not result.passed:
                message = result.problem or "got another result than it expected"
                failure = SubElement(case, "failure", message=_text(message))
                failure.text = _text("\n".join(result.diff))
    if problems:
        suite = _suite(root, "files", len(problems), errors=len(problems))
        for problem in problems:
            case = SubElement(suite, "testcase", classname=_text(problem.file), name=_text(problem.code))
            SubElement(case, "error", message=_text(problem.message)).text = _text(str(problem))
    return bytes(tostring(root, encoding="utf-8", xml_declaration=True))


def _suite(root: Element, name: str, tests: int, *, failures: int = 0, errors: int = 0) -> Element:
    counts = {"tests": str(tests), "failures": str(failures), "errors": str(errors)}
    return SubElement(root, "testsuite", {"name": _text(name), **counts})


def _text(text: str) -> str:
    return FORBIDDEN.sub("\ufffd", text)
