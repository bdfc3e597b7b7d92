"""The scalar types of the YAML: text, numbers, durations, sizes, one or a list, secrets, origins.

A value from a file (validation context ``{"yaml": True}``) is read strictly, and an error says what to write
instead. A value given by code (a number of seconds or bytes) is taken as it is. No message repeats a value
that came from a variable: such text is a `Resolved`.
"""

import ipaddress
import re
import unicodedata
from collections.abc import Callable
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import BeforeValidator, PlainSerializer, SecretStr, WithJsonSchema

from config.model.units import DURATION, SECONDS, duration, size
from config.model.wording import REDACTED, Resolved, alternatives, kind, nearest, shown, wrong

__all__ = [
    "DURATION",
    "REDACTED",
    "SECONDS",
    "Resolved",
    "alternatives",
    "duration",
    "kind",
    "nearest",
    "shown",
    "wrong",
]

VARIABLE: Final = r"\$\{"  # a value with a variable in it passes every pattern of the schema
NO_WORDS: Final = ("off", "none", "false", "no", "never", "disabled", "hidden")
YES_WORDS: Final = ("on", "true", "yes", "auto", "tls", "named", "enabled", "shown")
"""Words for no and for yes, of which each setting has its own."""

BOOLEANS_OF_YAML_1_1: Final = {
    "yes": "true",
    "on": "true",
    "y": "true",
    "no": "false",
    "off": "false",
    "n": "false",
}


def text(value: Any) -> str:
    """Text; a number or a boolean must be quoted to be text."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        raise wrong(
            "wrong-type",
            f"must be text, but this is {kind(value)}",
            f'put it in quotes: "{str(value).lower()}"',
        )
    raise wrong("wrong-type", f"must be text, but this is {kind(value)}")


def word(value: Any) -> str:
    """Text that is not empty."""
    if not text(value).strip():
        raise wrong("empty", "must not be empty")
    return text(value)


def integer(least: int, most: int) -> Callable[[Any], int]:
    """An integer between two bounds."""

    def read(value: Any) -> int:
        if isinstance(value, Resolved) and re.fullmatch(r"-?[0-9]{1,18}", value):
            value = int(value)
        if isinstance(value, str) and value.isdecimal() and not isinstance(value, Resolved):
            raise wrong(
                "wrong-type", f"must be a number, but this is the text {shown(value)}", "remove the quotes"
            )
        if isinstance(value, bool) or not isinstance(value, int):
            raise wrong(
                "wrong-type", f"must be a whole number, but this is {kind(value)}", whole_number(value)
            )
        if not least <= value <= most:
            raise wrong("out-of-range", f"must be between {least} and {most}")
        return value

    return read


def whole_number(value: Any) -> str:
    """What to write for a whole number in another notation: 1e3, 1_000, 5k; empty for anything else."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 10**15:
        return f"write `{int(value)}`"
    written = "" if isinstance(value, Resolved) or not isinstance(value, str) else value.strip()
    if re.fullmatch(r"[0-9]{1,3}(?:[_,.' ]?[0-9]{3})+", written):
        return f"write `{re.sub('[^0-9]', '', written)}`"
    if (thousands := re.fullmatch(r"([0-9]{1,9})\s*([kKmM])", written)) is not None:
        return f"write `{int(thousands[1]) * (1000 if thousands[2] in 'kK' else 10**6)}`"
    return ""


def meant_by(value: Any, choices: tuple[str, ...]) -> str:
    """The word among `choices` that stands for an answer like `false` or `off`; empty where none does."""
    said = str(value).lower() if type(value) in (bool, str) else ""
    words = NO_WORDS if said in NO_WORDS else YES_WORDS if said in YES_WORDS else ()
    return next((choice for choice in choices if choice in words), "")


def flag(value: Any) -> bool:
    """``true`` or ``false``."""
    if isinstance(value, bool):
        return value
    if isinstance(value, Resolved) and value in ("true", "false"):
        return value == "true"
    meant = BOOLEANS_OF_YAML_1_1.get(str(value).lower())
    if meant:
        hint = f"write `{meant}`; `{value}` is a boolean only in YAML 1.1 and plain text here"
        raise wrong("yaml-1.1", f"must be true or false, but this is {kind(value)}", hint)
    raise wrong("wrong-type", f"must be true or false, but this is {kind(value)}")


def many(value: Any) -> tuple[Any, ...]:
    """One or a list, as a tuple; at least one."""
    if isinstance(value, str):
        value = [value]
    if isinstance(value, dict):
        hint = "write a list: [first, second]"
        raise wrong("wrong-type", f"must be one name or a list of names, but this is {kind(value)}", hint)
    if not isinstance(value, list | tuple):
        raise wrong("wrong-type", f"must be one name or a list of names, but this is {kind(value)}")
    if not value:
        raise wrong("empty", "must not be an empty list")
    return tuple(value)


def listed(value: Any) -> tuple[Any, ...]:
    """A list, as a tuple."""
    if not isinstance(value, list | tuple):
        hint = (
            f"put it in brackets: [{value}]"
            if isinstance(value, str) and not isinstance(value, Resolved)
            else ""
        )
        raise wrong("wrong-type", f"must be a list, but this is {kind(value)}", hint)
    return tuple(value)


def mapping(value: Any) -> Any:
    """A mapping; the error describes it as YAML."""
    if isinstance(value, dict):
        return value
    found = "text" if isinstance(value, str) else kind(value)
    raise wrong("wrong-type", f"must be a mapping (`key: value` lines), but this is {found}")


class Hidden(SecretStr):
    """Text that is printed as ``[redacted]``."""

    def _display(self) -> str:
        return REDACTED


def secret(value: Any) -> SecretStr:
    """A secret: text that is never printed."""
    if isinstance(value, SecretStr):
        return Hidden(value.get_secret_value())
    if not isinstance(value, str):
        raise wrong(
            "wrong-type", "must be text", "write `${NAME}` or `${file:/path}`, in quotes where it is a number"
        )
    if not value.strip():
        raise wrong("empty", "must not be empty")
    # A line break at the end comes from editors, `echo` and block texts (`|`), and is never a part of it.
    return Hidden(str(value).rstrip("\r\n"))


def one_of(*choices: str) -> Callable[[Any], str]:
    """One of a few words; the error lists them and proposes the nearest."""

    def read(value: Any) -> str:
        if isinstance(value, str) and value in choices:
            return str(value)
        meant = meant_by(value, choices)
        quoted = f'"{meant}"' if meant in BOOLEANS_OF_YAML_1_1 else f"`{meant}`"
        hint = f"write {quoted}" if meant else nearest(value, choices)
        raise wrong("choice", f"must be {alternatives(choices)}, but this is {kind(value)}", hint)

    return read


def url(value: Any) -> str:
    """An http or https URL."""
    written = word(value)
    try:
        parts = urlsplit(written)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        fine = False
    if not fine or re.search(r"\s", written):
        raise wrong(
            "url", f"must be a URL, but this is {kind(value)}", "like https://id.example.com/jwks.json"
        )
    return str(written)


def origin(value: Any) -> str:
    """An origin as a browser sends it: scheme, host, and port if not the scheme's default; or ``*``."""
    written = word(value)
    form = "an origin is scheme://host[:port], like https://app.example.com"
    if written == "*":
        return written
    several(written, isinstance(value, Resolved))
    if written == "null":
        hint = "pages without an origin of their own send it (sandboxed frames, local files): give them one"
        raise wrong("origin", "must not be `null`: any page can send that", hint)
    try:
        parts = urlsplit(written)
        port = parts.port
    except ValueError:
        raise wrong("origin", f"must be an origin, but this is {kind(value)}", form) from None
    if (
        not parts.scheme
        or not parts.hostname
        or "@" in parts.netloc
        or "*" in written
        or re.search(r"\s", written)
    ):
        scheme = "http" if re.match(r"(localhost|127\.\d+\.\d+\.\d+)(:|$)", written) else "https"
        hint = f"write `{scheme}://{written}`; {form}" if re.fullmatch(r"[\w.-]+(:\d+)?", written) else form
        if "*" in written:
            hint = f"there are no wildcards inside an origin: list each one; {form}"
        raise wrong(
            "origin",
            f"must be an origin, but this is {kind(value)}",
            "" if isinstance(value, Resolved) else hint,
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else ascii_host(parts.hostname)
    if host.rpartition(".")[2].isdigit() and not is_ipv4(host):
        raise wrong(
            "origin",
            f"must have its IPv4 address as browsers write it, but this is {kind(value)}",
            "like http://127.0.0.1:3000",
        )
    usual = {"http": 80, "https": 443}.get(parts.scheme)
    canonical = f"{parts.scheme}://{host}" + (f":{port}" if port is not None and port != usual else "")
    if parts.path or parts.query or parts.fragment:
        hint = "" if isinstance(value, Resolved) else f"write `{canonical}`; {form}"
        raise wrong("origin", "has a path, and an origin has none: it would never match", hint)
    return canonical


def is_ipv4(host: str) -> bool:
    """Whether `host` is an IPv4 address in its usual form: four numbers."""
    try:
        return str(ipaddress.IPv4Address(host)) == host
    except ValueError:
        return False


def several(written: str, resolved: bool) -> None:
    """Refuses a list of origins in one text."""
    parts = [part for part in re.split(r"[\s,;]+", written.strip("[] ")) if part]
    if len(parts) < 2 or not all("://" in part or part == "*" for part in parts):
        return
    if resolved:
        message = "holds several origins, and one variable holds one"
        raise wrong("origin", message, 'write a list: ["${ORIGIN_1}", "${ORIGIN_2}"]')
    bare = [part.strip("\"'") for part in parts]
    raise wrong("origin", "holds several origins in one text", f"write a list: [{', '.join(bare)}]")


def ascii_host(host: str) -> str:
    """A host name as browsers send it: other letters than ASCII as punycode (RFC 3492)."""
    labels = unicodedata.normalize("NFKC", host).lower().split(".")
    return ".".join(
        label if label.isascii() else "xn--" + label.encode("punycode").decode("ascii") for label in labels
    )


def header_name(value: Any) -> str:
    """The name of an HTTP header (RFC 9110, 5.1), in lower case."""
    written = word(value)
    if re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", written) and written != "*":
        return str(written).lower()
    hint = (
        "list each header; there is no wildcard"
        if written == "*"
        else f"write a list: [{', '.join(written.replace(',', ' ').split())}]"
        if re.fullmatch(r"[A-Za-z0-9-]+(\s*,\s*[A-Za-z0-9-]+)+", written) and not isinstance(value, Resolved)
        else "a name without `:`, like x-requested-with"
    )
    raise wrong("header", f"must be the name of a header, but this is {kind(value)}", hint)


def variable_or(schema: dict[str, Any]) -> WithJsonSchema:
    """A schema that also accepts a variable."""
    return WithJsonSchema({"anyOf": [schema, {"type": "string", "pattern": VARIABLE}]})


DURATION_SCHEMA: Final = WithJsonSchema({"type": "string", "pattern": rf"^[0-9]+(ms|s|m|h)$|{VARIABLE}"})
SIZE_SCHEMA: Final = WithJsonSchema({"type": "string", "pattern": rf"^[0-9]+(B|KiB|MiB|GiB)$|{VARIABLE}"})
COUNT_SCHEMA: Final = variable_or({"type": "integer", "minimum": 1})
ORIGIN_SCHEMA: Final = {
    "type": "string",
    "pattern": rf"^\*$|^[a-z][a-z0-9+.-]*://[^/]+$|{VARIABLE}",
}


def one_or_many(each: dict[str, Any]) -> WithJsonSchema:
    """The schema of one or a list."""
    return WithJsonSchema({"anyOf": [each, {"type": "array", "items": each, "minItems": 1}]})


Text = Annotated[str, BeforeValidator(text)]
Word = Annotated[str, BeforeValidator(word)]
Flag = Annotated[bool, BeforeValidator(flag), variable_or({"type": "boolean"})]
Duration = Annotated[float, BeforeValidator(duration()), DURATION_SCHEMA]
Lasting = Annotated[float, BeforeValidator(duration(0.001)), DURATION_SCHEMA]
Size = Annotated[int, BeforeValidator(size), SIZE_SCHEMA]
Count = Annotated[int, BeforeValidator(integer(1, 10**12)), COUNT_SCHEMA]
CountOrZero = Annotated[
    int, BeforeValidator(integer(0, 10**12)), variable_or({"type": "integer", "minimum": 0})
]
Port = Annotated[
    int, BeforeValidator(integer(0, 65535)), variable_or({"type": "integer", "minimum": 0, "maximum": 65535})
]
OneOrMany = Annotated[tuple[Word, ...], BeforeValidator(many), one_or_many({"type": "string"})]
Secret = Annotated[
    SecretStr,
    BeforeValidator(secret),
    PlainSerializer(lambda _: REDACTED, when_used="json"),
    WithJsonSchema({"type": "string", "minLength": 1}),
]
Url = Annotated[
    str, BeforeValidator(url), WithJsonSchema({"type": "string", "pattern": rf"^https?://|{VARIABLE}"})
]
Origin = Annotated[str, BeforeValidator(origin)]
HeaderName = Annotated[str, BeforeValidator(header_name)]
HEADER_SCHEMA: Final = {"type": "string", "pattern": rf"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$|{VARIABLE}"}
