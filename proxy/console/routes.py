"""The console's routes: its files, which everybody may read, and its data, which needs the console's token.

The token travels in an Authorization header alone, so no other page can make a browser send it. Nothing that
a request asks for changes anything: the two POSTs carry a draft and a look-up.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final, Protocol

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from config.model.files import ConsoleConfig
from proxy.console.answers import Nobody, Others, answer, to_json
from proxy.console.config_view import Newest, config_as_json
from proxy.console.overview import overview_as_json
from proxy.console.playground import MOST_TEXT, BadDraft, play
from proxy.console.recent import SAMPLE_EVERY, LastHour, RecentLines
from proxy.console.replicas_view import replicas_as_json
from proxy.console.run_view import run_as_json, verdicts_as_json, view_from_state
from proxy.hatchet.errors import HatchetError, RunUnknown
from proxy.log.cursor import run_id_of
from proxy.teams.hub import ALL_TEAMS, Hub
from proxy.teams.team import Team

STATIC: Final = Path(__file__).resolve().parent / "static"
KINDS: Final = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
MOST_BODY: Final = 8 * MOST_TEXT
"""Bytes of a request: the longest draft with each character escaped, and its events."""
LOGGED_AS: Final = "(console)"
"""The stream in the log lines of refused requests."""

HEADERS: Final = {
    "cache-control": "no-store",
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}

Handler = Callable[[Request, ConsoleConfig], Awaitable[Response]]


class Files(Protocol):
    """The files of the configuration."""

    def newest(self, team: str) -> Newest | None:
        """What the files said of a team when they were read last; None: they grant no such team."""

    def text(self, team: str) -> str | None:
        """What a team's file holds now, secrets masked; None where it cannot be read. It may block."""


class Console:
    """The operators' page of one process."""

    def __init__(self, hub: Hub, files: Files, others: Others | None = None) -> None:
        """`others`: the other workers, whose runs are shown too; None: there are none."""
        self._others = others or Nobody()
        self._hub = hub
        self._files = files
        self._lines = RecentLines()
        self._last_hour = LastHour(hub.counters)
        self._busy = asyncio.Lock()  # one draft at a time: each takes the time of a whole core
        hub.event_log.also(self._lines.write)

    async def run(self) -> None:
        """Count the last hour, until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self._last_hour.sample(loop.time())
            await asyncio.sleep(SAMPLE_EVERY)

    def routes(self) -> list[Route]:
        """The page, its files, and its data under ``/console/api/``."""
        files = [
            Route("/console/" + ("" if file.name == "index.html" else file.name), self._file(file))
            for file in sorted(STATIC.iterdir())
            if file.suffix in KINDS
        ]
        return [
            Route("/console", self._to_page),
            *files,
            self._data("/overview", self._overview),
            self._data("/runs", self._runs),
            self._data("/log", self._log),
            self._data("/replicas", self._replicas),
            self._data("/find", self._find, "POST"),
            self._data("/teams/{team}/config", self._config),
            self._data("/teams/{team}/text", self._text),
            self._data("/teams/{team}/runs/{run}", self._run),
            self._data("/teams/{team}/runs/{run}/items/{number:int}", self._item),
            self._data("/playground", self._playground, "POST"),
        ]

    # -- files --

    async def _to_page(self, request: Request) -> Response:
        if self._hub.server.console is None:
            return _problem(404, "the console is off")
        return Response(status_code=308, headers={**HEADERS, "location": "console/"})

    def _file(self, file: Path) -> Callable[[Request], Awaitable[Response]]:
        body, kind = file.read_bytes(), KINDS[file.suffix]

        async def answer(request: Request) -> Response:
            if self._hub.server.console is None:
                return _problem(404, "the console is off")
            return Response(body, headers=HEADERS, media_type=kind)

        return answer

    # -- data --

    def _data(self, path: str, handler: Handler, method: str = "GET") -> Route:
        async def answer(request: Request) -> Response:
            console = self._hub.server.console
            if console is None:
                return _problem(404, "the console is off")
            if not _admits(console, request.headers.get("authorization", "")):
                why = "the console's token is wrong" if "authorization" in request.headers else "no token"
                self._hub.event_log.refused(ALL_TEAMS, LOGGED_AS, "401", why=why)
                return _problem(401, why, {"www-authenticate": "Bearer"})
            try:
                return await handler(request, console)
            except _NotFound as error:
                return _problem(404, str(error))
            except RunUnknown:
                return _problem(404, "Hatchet knows no such run of this team")
            except HatchetError as error:
                return _problem(503, f"Hatchet cannot be asked: {error}")
            except BadDraft as error:
                return _problem(400, str(error))

        return Route("/console/api" + path, answer, methods=[method])

    async def _overview(self, request: Request, console: ConsoleConfig) -> Response:
        return _json(overview_as_json(self._hub, self._last_hour))

    async def _runs(self, request: Request, console: ConsoleConfig) -> Response:
        question = {"ask": "runs", "team": request.query_params.get("team")}
        parts = [answer(self._hub, question), *await self._others.ask_all(question)]
        rows = zip_longest(*(part["runs"] for part in parts))  # the newest of each worker first
        runs = [run for row in rows for run in row if run is not None]
        return _json({"more": any(part["more"] for part in parts), "runs": runs})

    async def _log(self, request: Request, console: ConsoleConfig) -> Response:
        return _json({"lines": [line.as_json for line in self._lines]})

    async def _replicas(self, request: Request, console: ConsoleConfig) -> Response:
        return _json(await replicas_as_json(self._hub))

    async def _config(self, request: Request, console: ConsoleConfig) -> Response:
        name = request.path_params["team"]
        team, newest = self._hub.teams.get(name), self._files.newest(name)
        if team is None and newest is None:
            raise _NotFound("there is no such team")
        return _json(config_as_json(name, team, newest))

    async def _text(self, request: Request, console: ConsoleConfig) -> Response:
        text = await asyncio.to_thread(self._files.text, self._team(request).name)
        if text is None:
            raise _NotFound("the file cannot be read")
        return _json({"yaml": text})

    async def _run(self, request: Request, console: ConsoleConfig) -> Response:
        team, run_id = self._team(request), _run_id(request)
        after = request.query_params.get("after", "0")
        number = int(after) if after.isascii() and after.isdigit() else 0
        found = await self._followed("run", team, run_id, number)
        if not found:
            view = await view_from_state(team, run_id, number)
            found = run_as_json(view, (), shown=_shown(console))
        return _json(found)

    async def _item(self, request: Request, console: ConsoleConfig) -> Response:
        team, run_id, number = self._team(request), _run_id(request), request.path_params["number"]
        found = await self._followed("item", team, run_id, number)
        if not found:
            followed = team.runs.get(run_id) is not None
            item = None if followed else (await view_from_state(team, run_id, number - 1)).item(number)
            if item is None:
                raise _NotFound("this event is not kept any more: newer ones have displaced it")
            found = verdicts_as_json(number, item, team.streams.values(), shown=_shown(console))
        return _json(found)

    async def _followed(self, ask: str, team: Team, run_id: str, number: int) -> dict[str, Any]:
        """What the worker answers that follows the run, this one first; empty where none does."""
        question = {"ask": ask, "team": team.name, "run": run_id, "number": number}
        own = answer(self._hub, question)
        return own or next(iter(await self._others.ask_all(question)), {})

    async def _find(self, request: Request, console: ConsoleConfig) -> Response:
        """The run that ``{"text": …}`` means: a run id, a stream's address, or KEY=VALUE of its metadata."""
        asked = await _asked(request)
        text = str(asked.get("text", "")).strip()
        teams = list(self._hub.teams.values())
        if (run_id := run_id_of(text)) is not None:
            here = [team for team in teams if team.runs.get(run_id) is not None]
            return _json({"found": [{"team": team.name, "run": run_id} for team in here or teams]})
        path = _path_of(text)
        for team in teams:
            within = path if self._hub.single else path.removeprefix(f"/{team.name}")
            match = team.router.match(within) if path and (self._hub.single or within != path) else None
            if match is not None:
                key = match.target.metadata_key
                run_id = run_id_of(match.value) if key is None else await _by_metadata(team, key, match.value)
                if run_id is not None:
                    return _json({"found": [{"team": team.name, "run": run_id}]})
        key, equals, value = text.partition("=")
        if equals and not path:
            found = [(team.name, await _by_metadata(team, key.strip(), value.strip())) for team in teams]
            return _json({"found": [{"team": name, "run": run} for name, run in found if run is not None]})
        return _json({"found": []})

    async def _playground(self, request: Request, console: ConsoleConfig) -> Response:
        draft = await _asked(request)
        async with self._busy:
            return _json(await asyncio.to_thread(play, draft))

    def _team(self, request: Request) -> Team:
        name = request.path_params["team"]
        team = self._hub.teams.get(name)
        if team is None:
            raise _NotFound("there is no such team, or its file has had no valid version yet")
        return team


class _NotFound(Exception):
    """There is nothing at this path; the text is a sentence."""


def _admits(console: ConsoleConfig, header: str) -> bool:
    scheme, _, given = header.partition(" ")
    token = console.token.get_secret_value()
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())


def _shown(console: ConsoleConfig) -> bool:
    return console.payloads == "shown"


def _run_id(request: Request) -> str:
    run_id = run_id_of(request.path_params["run"])
    if run_id is None:
        raise _NotFound("this is not a run id, which is a UUID")
    return run_id


def _path_of(text: str) -> str:
    """The path of a stream's address, still quoted; "" where the text is none."""
    if text.startswith(("http://", "https://")):
        text = "/" + text.split("/", 3)[3] if text.count("/") >= 3 else ""
    return text.partition("?")[0] if text.startswith("/") else ""


async def _by_metadata(team: Team, key: str, value: str) -> str | None:
    try:
        return (await team.find(key, value, 0.0)).run_id
    except RunUnknown:
        return None


async def _asked(request: Request) -> dict[str, Any]:
    """The JSON object of a request's body; raises BadDraft."""
    body = b""
    try:
        async with asyncio.timeout(10.0):
            async for piece in request.stream():
                body += piece
                if len(body) > MOST_BODY:
                    raise BadDraft("the request is too large")
        asked = orjson.loads(body)
    except (ValueError, TimeoutError, ClientDisconnect) as error:
        raise error if isinstance(error, BadDraft) else BadDraft("the body is not a JSON object") from None
    if not isinstance(asked, dict):
        raise BadDraft("the body is not a JSON object")
    return asked


def _json(found: Mapping[str, Any]) -> Response:
    return Response(to_json(found), headers=HEADERS, media_type="application/json")


def _problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    body = orjson.dumps({"status": status, "detail": detail})
    return Response(body, status, {**HEADERS, **(headers or {})}, media_type="application/problem+json")
