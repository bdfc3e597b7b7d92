"""``${NAME}``, ``${NAME:-default}``, ``${NAME:?message}`` and ``${file:/path}``, inside one scalar's text.

They are resolved after parsing, so that a value can never add a key or a line. The resulting text is marked
(`config.model.types.Resolved`) and never shown. No message has a variable's value or a file's content.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from msgspec import Struct

from config.problems import Own
from config.source.files import read_regular

OPEN: Final = "${"
REFERENCE: Final = re.compile(
    r"\$\{(?:file:(?P<path>[^${}]*)|(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::(?P<how>[-?])(?P<rest>[^{}]*))?)\}"
)
LARGEST_FILE: Final = 64 << 10
"""Bytes: enough for a certificate chain, and a log file named by mistake does not fill the memory."""

ESCAPED: Final = "`$$` is no escape here, so the value would begin with a dollar sign"
FORMS: Final = "the forms are ${NAME}, ${NAME:-default}, ${NAME:?message} and ${file:/path}"

FOREIGN: Final = re.compile(
    r"\$\{\{?\s*(?:(?i:env|vars?|secrets?|process\.env|os\.environ)[:.]\s*)?(?P<name>[A-Z][A-Z0-9_]*)\s*"
    r"(?:(?::?(?P<how>[-=?+|])(?P<rest>[^{}]*))?\}\}?|$)"
)
"""As other programs write one: `${env:NAME}`, `${ NAME }`, `${NAME-default}`, `${{ secrets.NAME }}`."""

PLACEHOLDER: Final = "workflowRunId"
FIELDS: Final = frozenset(
    {"type", "step", "payload", "run_id", "step_run_id", "attempt", "index", "metadata"}
)
"""Of the event: in an expression somebody wrote them as a template."""


class Piece(Struct, frozen=True):
    """A part of the resolved text, and its offset in the written text."""

    start: int
    written: int
    literal: bool


class Fault(Struct, frozen=True):
    """An error in a reference: its offset in the written text, what is wrong, and what to do.

    `absent`: what is wrong is only the place where the file is checked, which lacks a variable or a file.
    """

    offset: int
    code: str
    message: str
    hint: str
    absent: bool = False


class Substitution(Struct, frozen=True):
    """The resolved text, its pieces, and every fault; `assumed`: a part of the text is not known."""

    text: str
    pieces: tuple[Piece, ...]
    faults: tuple[Fault, ...]
    assumed: bool = False

    def written(self, offset: int) -> int:
        """The offset in the written text of an offset in the resolved text."""
        piece = max((piece for piece in self.pieces if piece.start <= offset), key=lambda piece: piece.start)
        return piece.written + (offset - piece.start if piece.literal else 0)


class WithoutEnvironment(dict[str, str]):
    """An environment in which each missing variable and file is assumed to be there (``--no-env``)."""


class WithoutSecrets(WithoutEnvironment):
    """An environment without any variable, in which no file is read either: for YAML from a web page."""


def substitute(text: str, env: Mapping[str, str]) -> Substitution:
    """Resolves every reference of a text."""
    assumed = False
    out: list[str] = []
    pieces = [Piece(0, 0, literal=True)]
    faults: list[Fault] = []
    length = index = 0
    for match in REFERENCE.finditer(text):
        literal = text[index : match.start()]
        faults += leftover(literal, index)
        if literal.endswith("$"):
            faults.append(Fault(match.start() - 1, "leftover-variable", ESCAPED, "write one `$`: ${NAME}"))
        value = resolved(match, env)
        if isinstance(value, Fault):
            if isinstance(env, WithoutEnvironment) and value.absent:
                assumed = True
            else:
                faults.append(value)
            value = ""
        elif OPEN in value:
            faults.append(
                Fault(
                    match.start(),
                    "leftover-variable",
                    f"{named(match)} holds another `${{`",
                    "variables in a value are not replaced: give the final value",
                )
            )
        pieces.append(Piece(length + len(literal), match.start(), literal=False))
        length += len(literal) + len(value)
        pieces.append(Piece(length, match.end(), literal=True))
        out += [literal, value]
        index = match.end()
    faults += leftover(text[index:], index)
    return Substitution("".join([*out, text[index:]]), tuple(pieces), tuple(faults), assumed)


def leftover(literal: str, start: int) -> list[Fault]:
    """The fault for a ``${`` that is no reference."""
    offset = literal.find(OPEN)
    if offset < 0:
        return []
    hint = meant(literal[offset:]) or FORMS
    message = "`${` begins a variable, and this is not the form of one"
    return [Fault(start + offset, "leftover-variable", message, hint)]


def meant(literal: str) -> str:
    """How a variable in another program's notation is written here; empty where that is not plain.

    Only names in capitals are repeated: nothing else is a variable's name for sure, and not a secret.
    """
    match = FOREIGN.match(literal)
    if match is None:
        return ""
    how, rest = {"": "", "?": ":?", "+": ":-"}.get(match["how"] or "", ":-"), match["rest"] or ""
    plain = re.fullmatch(r"[\w .,/-]{1,60}", rest) is not None
    if how == ":?":
        return f"write ${{{match['name']}:?{rest if plain else 'message'}}}"
    return Own(f"write ${{{match['name']}{':-default' if how else ''}}}")


def named(match: re.Match[str]) -> str:
    """How a message names the reference."""
    return f"the file {match['path']}" if match["path"] is not None else f"the variable {match['name']}"


def resolved(match: re.Match[str], env: Mapping[str, str]) -> str | Fault:
    """The value of one reference."""
    if match["path"] is not None:
        if isinstance(env, WithoutSecrets):
            return Fault(
                match.start(),
                "variable-file",
                "the file is not read, because the check runs without secrets",
                "",
                absent=True,
            )
        return content(match["path"], match.start())
    name, how, rest = match["name"], match["how"], match["rest"]
    value = env.get(name)
    if value is None or (how is not None and value == ""):
        if how == "-":
            return str(rest)
        state = "is not set" if value is None else "is empty"
        hint = f"set {name} in the environment; to check without it: stream-proxy check --no-env"
        if name == PLACEHOLDER:
            hint = f"the placeholder of a path has no `$`: {{{name}}}"
        elif name in FIELDS:
            hint = f"in an expression a field has no `${{}}`: write join('', ['a text ', {name}])"
        message = f"the variable {name} {state}" + (f": {rest}" if rest else "")
        return Fault(match.start(), "unset-variable", message, hint, absent=True)
    return value


def content(path: str, offset: int) -> str | Fault:
    """A file's text without the line break at its end, which editors and `echo` add."""
    if not path.startswith("/"):
        return Fault(
            offset, "variable-file", f"the file `{path}` has no absolute path", "write ${file:/path}"
        )
    try:
        if not Path(path).is_file():  # a pipe or a device would hang or never end
            return _no_file(path, offset)
        held = read_regular(Path(path), LARGEST_FILE + 1)
        if len(held) > LARGEST_FILE:
            return Fault(
                offset, "variable-file", f"the file {path} is larger than 64 KiB", "is it the right one?"
            )
        return held.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        return Fault(offset, "variable-file", f"the file {path} is not UTF-8 text", "is it the right one?")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        return Fault(
            offset,
            "variable-file",
            f"the file {path} cannot be read: {reason}",
            "is it mounted, and may this process read it?",
            absent=isinstance(error, OSError),
        )


def _no_file(path: str, offset: int) -> Fault:
    """The fault for a path at which there is no regular file."""
    found = Path(path)
    if found.is_dir():
        inside = sorted(each.name for each in found.iterdir() if not each.name.startswith("."))
        hint = f"name a file in it, like ${{file:{path.rstrip('/')}/{inside[0] if inside else 'NAME'}}}"
        return Fault(offset, "variable-file", f"{path} is a directory and no file", hint)
    if found.exists():
        return Fault(
            offset, "variable-file", f"{path} is a pipe or a device and no file", "name a regular file"
        )
    if found.is_symlink():
        message = f"the file {path} is a link to a file that does not exist"
        return Fault(offset, "variable-file", message, "is what it points to mounted?", absent=True)
    parent = next((each for each in found.parents if each.exists()), Path("/"))
    hint = "is it mounted? To check without it: stream-proxy check --no-env"
    if not parent.is_dir():
        hint = f"{parent} is a file and no directory"
    elif parent == found.parent and (close := get_close_matches(found.name, _names(parent), 1)):
        hint = f"did you mean {parent / close[0]}?"
    return Fault(offset, "variable-file", f"the file {path} does not exist", hint, absent=True)


def _names(folder: Path) -> list[str]:
    try:
        return sorted(each.name for each in folder.iterdir())[:MOST_NAMES]
    except OSError:
        return []


MOST_NAMES: Final = 1000
"""Names of a folder that are looked at for did-you-mean."""
