"""Paths to streams."""

from __future__ import annotations

import pytest

from proxy.teams.router import Match, Router

ROUTES = Router(
    {
        "/message/{workflowRunId}": "chat",
        "/streams/{workflowRunId}/tokens": "tokens",
        "/by/{metadata.message_id}": "mine",
        "/a b/{workflowRunId}": "space",
    }
)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/message/x", Match("chat", "x")),
        ("/streams/x/tokens", Match("tokens", "x")),
        ("/by/a%2Fb%20c", Match("mine", "a/b c")),
        ("/a%20b/7", Match("space", "7")),
        ("/by/", Match("mine", "")),
        ("/message/", None),
        ("/message/x/", None),
        ("/message", None),
        ("/Message/x", None),
        ("/message%2Fx", None),
        ("//message/x", None),
        ("/streams/../message/x", None),
        ("/", None),
        ("", None),
    ],
)
def test_a_path_means_one_stream_or_none(path: str, found: Match[str] | None) -> None:
    assert ROUTES.match(path) == found


def test_the_look_up_does_not_depend_on_how_many_streams_there_are() -> None:
    many = Router({f"/s{number}/{{workflowRunId}}": number for number in range(2000)})
    assert many.match("/s1999/x") == Match(1999, "x")
