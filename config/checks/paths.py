"""Checks the streams' paths: placeholders, characters, two streams for one request."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from config.model.files import PLACEHOLDER
from config.model.resolve import path_of
from config.model.types import nearest
from config.problems import WARNING
from config.source.nodes import Path, Source

RUN: Final = "workflowRunId"
METADATA: Final = "metadata."
OWN_PATHS: Final = ("healthz", "readyz", "metrics")  # the proxy's own: no name for a stream or a team
URL: Final = re.compile(r"(?i:https?:)?//[^/]*")
# As other routers write a placeholder: /:id, /<id>, /[id], /$id, /*
OTHER_PLACEHOLDER: Final = re.compile(r"/(:[A-Za-z_]\w*|<[^<>/]+>|\[[^\[\]/]+\]|\$[A-Za-z_]\w*|\*+)(?=/|$)")
LITERAL: Final = re.compile(r"[A-Za-z0-9._~!$&'()+,;=:@-]+")
KEY: Final = re.compile(r"[^\s{}/:]{1,200}")
STREAM_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
LONGEST: Final = 200  # characters of a path
FORM: Final = "like /chat/{workflowRunId} or /message/{metadata.message_id}"


def streams_of(source: Source) -> list[tuple[str, Path, dict[str, Any]]]:
    """The streams that are mappings: name, path in the file, fields."""
    data = source.data if isinstance(source.data, dict) else {}
    streams = data.get("streams")
    if not isinstance(streams, dict):
        return []
    return [(name, ("streams", name), block) for name, block in streams.items() if isinstance(block, dict)]


def check_paths(source: Source, *, at_root: bool) -> None:
    """Checks all names and paths; `at_root`: they share the root with the proxy's own paths."""
    templates = Templates()
    for name, path, block in streams_of(source):
        if source.enough:
            return
        if not STREAM_NAME.fullmatch(name):
            hint = "letters, digits, `-`, `_` and `.`, at most 64"
            source.add(source.key_at(path), "stream-name", f"`{name[:60]}` cannot be a stream's name", hint)
            continue
        template = block.get("path")
        if template is not None and not isinstance(template, str):
            continue
        place = (*path, "path")
        if template is not None and not check_template(source, place, template, at_root=at_root):
            continue
        segments = path_of(name, template).split("/")[1:]
        where = place if template is not None else path
        templates.collide(source, where, name, segments)


def check_template(source: Source, place: Path, template: str, *, at_root: bool) -> bool:
    """Checks one path; True where it can be compared with the others."""
    start = source.node(place)
    if start is None or start.start in source.spoiled:
        return False

    def wrong(offset: int, message: str, hint: str) -> bool:
        source.add(source.inside(place, offset), "path", message, hint)
        return False

    if len(template) > LONGEST:
        return wrong(0, f"a path has at most {LONGEST} characters", FORM)
    if (other := other_form(template)) is not None:
        return wrong(*other)
    if not template:
        return False  # the model says that it is empty
    if not template.startswith("/"):
        return wrong(0, "a path begins with `/`", f"write `/{template}`")
    offset = 1
    placeholders: list[str] = []
    for segment in template[1:].split("/"):
        if not segment:
            once = "/" + "/".join(part for part in template.split("/") if part)
            hint = f"write `{once}`" if "{" in once else FORM
            return wrong(offset - 1, "a path must not have `//` in it or a `/` at its end", hint)
        if "{" in segment or "}" in segment:
            if not PLACEHOLDER.fullmatch(segment):
                once = re.sub(r"\{+\s*([\w.]+)\s*\}+", r"{\1}", template)
                doubled = once != template and PLACEHOLDER.fullmatch(
                    once.split("/")[template[:offset].count("/")]
                )
                hint = f"write `{once}`" if doubled else FORM
                return wrong(offset, "a placeholder must fill the whole part between two `/`", hint)
            placeholders.append(segment[1:-1])
            if fault := unknown_placeholder(segment[1:-1]):
                right = re.findall(r"\{[\w.]+\}", fault[1])
                single = len(right) == 1 and fault[1].startswith("write")
                whole = f": `{template.replace(segment, right[0])}`" if single else ""
                return wrong(offset, fault[0], fault[1] + whole)
        elif not LITERAL.fullmatch(segment) or segment in (".", ".."):
            return wrong(offset, "a path may have only ASCII letters, digits and -._~ between its `/`", FORM)
        offset += len(segment) + 1
    first = template[1:].partition("/")[0]
    if at_root and first in OWN_PATHS:
        return wrong(0, f"/{first} is a path of the proxy itself", "choose another first part")
    return how_many(source, place, placeholders)


def other_form(template: str) -> tuple[int, str, str] | None:
    """Offset, message and hint for a whole URL, a query, or the placeholder of another router."""
    if (found := URL.match(template)) is not None:
        rest = "/" + template[found.end() :].lstrip("/")
        return 0, "a path must not have a scheme or a host", f"write only the path: `{rest}`"
    for sign in "?#":
        if sign in template:
            place = template.index(sign)
            named = re.search(r"\{[\w.]+\}", template[place:])
            run = f"/{named[0]}" if named is not None and "{" not in template[:place] else ""
            return place, f"a path must not have a `{sign}`", f"write `{template[:place].rstrip('/')}{run}`"
    if "{" not in template and (placed := OTHER_PLACEHOLDER.search(template)) is not None:
        fixed = f"{template[: placed.start(1)]}{{{RUN}}}{template[placed.end(1) :]}"
        return placed.start(1), "a placeholder stands in curly brackets", f"write `{fixed}`"
    return None


def unknown_placeholder(name: str) -> tuple[str, str] | None:
    """What is wrong with a placeholder's name."""
    if name == RUN or (name.startswith(METADATA) and KEY.fullmatch(name.removeprefix(METADATA))):
        return None
    if name in ("metadata", METADATA):
        return "`{metadata.KEY}` needs the key's name", "like {metadata.message_id}"
    if re.sub(r"[^a-z]", "", name.lower()) in (
        "runid",
        "run",
        "id",
        "workflowrunid",
        "workflowrun",
        "workflowid",
    ):
        return f"there is no placeholder `{{{name}}}`", f"write {{{RUN}}}, exactly so"
    bare = name.strip()
    if bare != name and unknown_placeholder(bare) is None:
        return f"there is no placeholder `{{{name}}}`", f"write {{{bare}}}, without blanks"
    bare = re.sub(r"^(?:additional_?)?meta(?:_?data)?\W+", "", name, flags=re.IGNORECASE)
    key = re.sub(r"[^A-Za-z0-9_]", "", bare)[:60] or "KEY"
    if bare != name and bare:
        return f"there is no placeholder `{{{name[:60]}}}`", f"write {{metadata.{key}}}"
    hint = nearest(name, [RUN]) or f"write {{{RUN}}}, or {{metadata.{key}}} for the application's own id"
    return f"there is no placeholder `{{{name[:60]}}}`", hint


def how_many(source: Source, place: Path, placeholders: list[str]) -> bool:
    """Checks that exactly one placeholder names the run."""
    if len(placeholders) == 1:
        return True
    if not placeholders:
        message = "this path does not name the run"
        source.add(
            source.at(place),
            "path",
            message,
            f"add /{{{RUN}}}, or /{{metadata.KEY}} for the application's own id",
        )
    else:
        source.add(source.at(place), "path", "this path names the run twice", f"keep one: {FORM}")
    return False


class Templates:
    """The paths checked so far, indexed so that two paths for the same request are found."""

    def __init__(self) -> None:
        self.same: dict[tuple[str, ...], str] = {}
        self.crossing: dict[tuple[int, int, tuple[str, ...]], str] = {}

    def collide(self, source: Source, place: Path, name: str, segments: list[str]) -> None:
        """Reports an earlier stream that answers the same requests, or some of them."""
        at = source.at(place) if place[-1] == "path" else source.key_at(place)
        here = next(n for n, segment in enumerate(segments) if "{" in segment)
        key = tuple("{}" if "{" in segment else segment for segment in segments)
        if key in self.same:
            hint = "give one of them a path of its own"
            source.add(at, "same-path", f"the stream `{self.same[key]}` has this path too", hint)
            return
        self.same[key] = name
        for there in range(len(segments)):
            if there == here:
                continue
            without = tuple("{}" if n in (here, there) else segment for n, segment in enumerate(segments))
            other = self.crossing.get((there, here, without))
            if other is not None:
                message, hint = (
                    f"some paths belong to this stream and to the stream `{other}`",
                    "make their fixed parts differ",
                )
                source.add(at, "same-path", message, hint, WARNING)
            self.crossing.setdefault((here, there, without), name)


def metadata_paths(source: Source) -> Iterable[Path]:
    """The paths that find a run by its metadata."""
    for _, path, block in streams_of(source):
        if isinstance(block.get("path"), str) and "{" + METADATA in block["path"]:
            yield (*path, "path")
