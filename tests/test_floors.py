"""The house's map: what stands where, and that imports go downwards only.

`FLOORS` lists every module from the ground to the roof; a module imports only what stands before it (lazy
imports inside functions count too; two on one floor may know each other's types). A name that is a package
speaks for all that is in it. `GUESTS` says which foreign library may be met in which rooms. A new file gets
its place here, in the commit that brings it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parent.parent

CONFIG: Final = (
    "config.problems",  # a complaint is a value
    "config.saying",  # how values are spoken of
    "config.measures",  # durations and sizes
    "config.units",  # the small types: text, numbers, secrets, origins
    "config.tree",  # a parsed expression, and the two ways to go wrong
    "config.globs",  # * and ? over names
    "config.shapes",  # what expressions know of their root
    "config.declaring",  # how a block is declared
    "config.streams",  # streams and rules
    "config.hatchet",  # how Hatchet is reached
    "config.access",  # auth, limits, the listener
    "config.examples",  # the tests beside the rules
    "config.model",  # files, and what the proxy uses
    "config.offsets",  # where each character of a scalar stands
    "config.scalars",  # YAML 1.2's plain scalars
    "config.variables",  # ${…}
    "config.wording",  # libyaml's complaints in plain words
    "config.nodes",  # a file's text, and values that know their place in it
    "config.source",  # YAML text to values that know their line
    "config.blocks",  # values against the model
    "config.assemble",  # files as written to what the proxy uses
    "config.meter",  # the allowance of work, and what values weigh
    "config.comparing",  # truth and comparison, as the library has them and as allow needs them
    "config.functions",  # what JMESPath's functions take and give
    "config.lowering",  # the tree as Python closures
    "config.copies",  # how often an expression can repeat the event
    "config.hints",  # what to say when an expression cannot be read
    "config.syntax",  # an expression's text as a tree
    "config.structure",  # what makes an expression impossible to run
    "config.doubts",  # the complaints about fields, types and literals, in words
    "config.lints",  # fields, types, literals
    "config.expressions",  # compile, lint, evaluate safely
    "config.names",  # event names and globs
    "config.details",  # rules that let tracebacks out
    "config.reach",  # what earlier rules leave for later ones
    "config.check_rules",  # what is wrong with rules
    "config.check_paths",  # … with paths
    "config.check_tests",  # … with the tests beside the rules
    "config.check_access",  # … with hatchet, auth, cors, server
    "config.redaction",  # what must never be shown of a file
    "config.check",  # source + model -> every Problem
    "config.report",  # problems as text, JSON, workflow commands
    "config.schema",  # the model as JSON Schema
    "config.docs",  # the model as docs/configuration.md
    "config.sketch",  # a first streams.yaml
    "config.load",  # paths -> Config
    "config.watch",  # a change, seen once it is quiet
)

FLOORS: Final = {
    "ground": (
        "proxy.errors",
        "proxy.asking",  # a question in steps, of which few are waited for
        "proxy.jsontext",  # JSON in and out
        "proxy.clock",
        "proxy.values",  # frozen, and cheap to make
        "proxy.events",
        "proxy.upstream",
        "proxy.quiet",  # how often a thing may be said
        "proxy.journal",  # what is said to operators, as verbs
        "proxy.counts",  # plain numbers that metrics and logs read
        "proxy.outcome",  # what an ended attempt left behind
        "proxy.story",  # items in one order
        "proxy.look",  # when a state is to be read next
        "proxy.line",  # one subscription, and which attempt it tells
        "proxy.facts",  # what is known of one step
        "proxy.times",  # what chunks' times say of attempts
        "proxy.step",  # one step's own order
        "proxy.ending",  # the verified end
        "proxy.known",  # a run's steps, lines and states
        "proxy.flow",  # a chunk in order: the fast path
        "proxy.vouching",  # whether an end's chunks were all told
        "proxy.hearing",  # what lines tell
        "proxy.reading",  # what states say
        "proxy.leaving",  # what a line that is gone leaves untold
        "proxy.closing",  # when the verified end can be told
        "proxy.history",
        "proxy.restate",  # a run's lifecycle from its states alone
        "proxy.recorded",  # a recorded run told again
        "proxy.sse",
        "proxy.chunked",
        "proxy.backlog",
        "proxy.kept",  # an item of a run in its backlog
        "proxy.rule",  # one of them
        "proxy.rules",
        "proxy.given",
        "proxy.trials",
        "proxy.origins",  # which pages may ask
        "proxy.limits",  # which clients have a place
        "proxy.routes",  # which stream a path means
        "proxy.plain",  # the request of nearly every EventSource, in one look
        "proxy.answers",  # the responses that are no stream
        "proxy.probes",  # a snapshot of the process to what probes answer
    ),
    "first floor: one foreign party each": (
        "proxy.stubs",  # Hatchet's generated messages, reached past the SDK's package
        "proxy.wire",  # protobuf to values
        "proxy.past",  # the REST history's answers to values
        "proxy.refusals",  # gRPC statuses to errors
        "proxy.endpoint",  # where a team's Hatchet is
        "proxy.transport",  # bytes in, bytes out
        "proxy.channels",  # ... on grpcio
        "proxy.frames",  # HTTP/2's frames
        "proxy.call",  # one gRPC call: bytes to messages, headers to an outcome
        "proxy.http2",  # a client's side of one HTTP/2 connection, pure
        "proxy.turns",  # ... in which a team's connections share the loop
        "proxy.link",  # ... with a socket and a clock
        "proxy.lean",  # ... on asyncio alone, at a third of grpcio's cost
        "proxy.rest",  # the history over HTTP
        "proxy.hatchet",
        "proxy.credentials",  # what can be wrong with them, without what verifies them
        "proxy.keys",
        "proxy.jwks",
        "proxy.tickets",
        "proxy.verified",  # tokens whose signatures were good
        "proxy.tokens",
        "proxy.auth",
    ),
    "second floor: the heart": (
        "proxy.watch",  # what operators count of a run
        "proxy.bridges",  # a team's share of short subscriptions
        "proxy.wires",  # a run's subscriptions by id
        "proxy.telling",  # a run's state, and how it tells
        "proxy.looking",  # its look-ups
        "proxy.following",  # its subscriptions
        "proxy.spanning",  # its bridge
        "proxy.run",
        "proxy.tap",
        "proxy.finder",
        "proxy.channel",
        "proxy.livestream",  # a stream as it is served
        "proxy.reader",  # one client's place in a channel
        "proxy.life",  # one run in this process, with its channels
        "proxy.counting",  # what a team's runs tell, as counts
        "proxy.switch",  # a team's door to Hatchet, replaced while runs go on
        "proxy.team",
        "proxy.stay",  # one client's stream, and what was lent for it
        "proxy.hub",
        "proxy.visit",  # one client's request, from the question to its ending
    ),
    "third floor: the front door": (
        "proxy.metrics",
        "proxy.logs",
        "proxy.deadlines",  # one timer for many
        "proxy.guard",  # the uvicorn protocol that holds requests to a size, a time and a number
        "proxy.connection",  # the uvicorn protocol whose streams the publisher writes
        "proxy.app",
        "proxy.doorway",  # connections that are served in place, where nothing has to be waited for
        "proxy.sidedoors",  # probes, metrics, tickets
    ),
    "roof: the process": (
        "proxy.simulator",
        "proxy.cycles",  # when Python's collector walks
        "proxy.process",  # a configuration that is served, and served anew
        "proxy.server",
        "proxy.demo",
        "proxy.about",  # what bug reports need
        "proxy.commands",
        "proxy.cli",
    ),
}

PURE: Final = FLOORS["ground"]
NOT_PURE_ENOUGH: Final = frozenset({"asyncio", "socket", "threading", "time", "anyio", "select"})
PURE_EXCEPT: Final = frozenset({"proxy.clock"})  # the one place that asks what time it is

GUESTS: Final = {
    "grpc": ("proxy.channels", "proxy.simulator"),
    "hatchet_sdk": ("proxy.stubs", "proxy.simulator"),
    "google": ("proxy.wire", "proxy.simulator"),
    "aiohttp": ("proxy.rest", "proxy.simulator", "proxy.jwks"),
    "starlette": ("proxy.app", "proxy.sidedoors", "proxy.demo"),
    "hpack": ("proxy.http2", "proxy.simulator"),
    "uvicorn": ("proxy.server", "proxy.guard", "proxy.doorway"),
    "yaml": ("config.source",),
    "jmespath": ("config.syntax",),
    "jwt": ("proxy.keys", "proxy.tokens", "proxy.tickets"),
    "watchfiles": ("config.watch",),
    "prometheus_client": ("proxy.metrics",),
    "structlog": ("proxy.logs",),
    "rich": ("proxy.commands",),
}


def modules() -> dict[str, Path]:
    """Every module of both packages by its dotted name; a package's __init__ goes by the package's name."""
    found = {}
    for package in ("config", "proxy"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def nodes(path: Path, *, types: bool) -> list[ast.AST]:
    """The file's syntax, with or without what stands under ``if TYPE_CHECKING``."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if not types:
        tree.body = [
            x for x in tree.body if not (isinstance(x, ast.If) and "TYPE_CHECKING" in ast.dump(x.test))
        ]
    return list(ast.walk(tree))


def imports(path: Path, name: str, *, types: bool = True) -> Iterator[str]:
    """Each dotted name that the file imports, wherever the import stands."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in nodes(path, types=types):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            yield from (f"{base}.{alias.name}" for alias in node.names)


ORDER: Final = ("config", *CONFIG, "proxy", *(room for floor in FLOORS.values() for room in floor))


def room(name: str) -> str | None:
    """The place on the map that `name` (a module, or something in one) belongs to: the longest that fits."""
    fits = [place for place in ORDER if name == place or name.startswith(place + ".")]
    return max(fits, key=len, default=None)


ROOMS: Final = modules()


@pytest.mark.parametrize("name", ROOMS)
def test_every_file_has_its_place_on_the_map(name: str) -> None:
    place = room(name)
    if place in {"config", "proxy"}:
        assert name == place, f"{name} stands on no floor: give it a place in FLOORS or CONFIG above"


@pytest.mark.parametrize("name", ROOMS)
def test_imports_go_downwards_only(name: str) -> None:
    here = room(name)
    assert here is not None
    for imported in imports(ROOMS[name], name, types=False):
        there = room(imported)
        if there is None or there == here:
            continue
        assert ORDER.index(there) < ORDER.index(here), f"{name} imports {imported}, which stands above it"


@pytest.mark.parametrize("name", ROOMS)
def test_types_come_from_no_higher_floor(name: str) -> None:
    floor = {place: number for number, places in enumerate(FLOORS.values()) for place in places}
    for imported in imports(ROOMS[name], name):
        assert floor.get(room(imported) or "", -1) <= floor.get(room(name) or "", -1), (
            f"{name} imports {imported}"
        )


@pytest.mark.parametrize("name", [name for name in ROOMS if name.split(".")[0] == "config"])
def test_config_never_imports_proxy(name: str) -> None:
    assert not [found for found in imports(ROOMS[name], name) if found.split(".")[0] == "proxy"]


@pytest.mark.parametrize("name", ROOMS)
def test_guests_stay_in_their_rooms(name: str) -> None:
    for imported in imports(ROOMS[name], name):
        rooms = GUESTS.get(imported.split(".")[0])
        assert rooms is None or room(name) in rooms, f"{imported} is a guest of {rooms}, not of {name}"


@pytest.mark.parametrize("name", [name for name in ROOMS if room(name) in PURE and name not in PURE_EXCEPT])
def test_the_ground_does_no_io_and_knows_no_clock_or_loop(name: str) -> None:
    found = {imported.split(".")[0] for imported in imports(ROOMS[name], name)}
    assert not found & NOT_PURE_ENOUGH


def test_the_map_has_no_room_twice() -> None:
    assert len(set(ORDER)) == len(ORDER)


def test_relative_imports_are_seen_for_what_they_are(tmp_path: Path) -> None:
    file = tmp_path / "run.py"
    file.write_text("from . import hub\nfrom .app import routes\nfrom ..config import load\n")
    assert list(imports(file, "proxy.commands.run")) == [
        "proxy.commands.hub",
        "proxy.commands.app.routes",
        "proxy.config.load",
    ]
