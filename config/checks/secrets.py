"""Secrets that are none: variables that nobody expanded, paths, placeholders; and what is no Hatchet token.

A secret is checked in every place whose type in the model is `Secret`, whether it is written there or comes
from a variable. No message quotes any of it: a text that looks like `$NAME` may still be somebody's password.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any, Final

from pydantic import BaseModel

from config.checks.redaction import secret_nodes
from config.model.wording import Resolved, flaw
from config.problems import WARNING, Own
from config.source.nodes import Path, Source, scalars

_NAME: Final = r"[A-Za-z_][A-Za-z0-9_.]*"
_VARIABLES: Final = (
    # what somebody wrote, and its name where that is plain
    (re.compile(rf"\$\$?({_NAME})"), "`$NAME` is no variable here"),
    (re.compile(rf"%({_NAME})%"), "`%NAME%` is no variable here"),
    (re.compile(rf"\$env:({_NAME})", re.IGNORECASE), "`$env:NAME` is no variable here"),
    (re.compile(rf"\$?\{{\{{[-\s]*(?:[A-Za-z]+\.)*\.?({_NAME})[^{{}}]*\}}\}}"),
     "`{{ … }}` is no variable here"),
    (re.compile(r"\$?\{\{.*\}\}", re.DOTALL), "`{{ … }}` is no variable here"),
    (re.compile(rf"[#@$%]?\{{({_NAME})\}}"), "`{NAME}` is no variable here"),
    (re.compile(rf"\$\[({_NAME})\]"), "`$[NAME]` is no variable here"),
    (re.compile(r"([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*_(?:TOKEN|KEY|SECRET|PASSWORD))"),
     "this is a variable's name, and not what is in it"),
    (re.compile(rf"\$\(\s*(?:cat\s+)?({_NAME})\s*\)"), "`$(NAME)` is no variable here"),
    (re.compile(r"\$\(.*\)|`.*`", re.DOTALL), "commands are not run here"),
    (re.compile(rf"<\s*({_NAME})\s*>"), "`<NAME>` is a placeholder"),
    (re.compile(r"<[^<>]+>|\[(?!\s*$)[A-Za-z _-]+\]"), "this is a placeholder"),
    (re.compile(rf"(?:!?env|ENV|!ENV)\s*[:\s.]\s*({_NAME})"), "`env:NAME` is no variable here"),
    (re.compile(rf"(?:process\.env|os\.environ|env|ENV|secrets|vars)(?:\.|\[['\"]?|\(['\"]?)({_NAME})['\"]?[\])]?"),
     "code of another language is not run here"),
    (re.compile(rf"@@?({_NAME})@@?|__({_NAME}?)__"), "this is a placeholder of another program"),
)  # fmt: skip
_ELSEWHERE: Final = re.compile(
    r"(?:vault|op|ref\+\w+|awssm|gcpsm|azurekv|aws-secret|doppler|keyvault)://?\S*|vault:\S+|arn:aws:\S+"
    r"|ENC\[.*\]|projects/[^/]+/secrets/\S+|secretKeyRef\S*"
)
_FILE: Final = re.compile(
    r"(?:file:(?://)?|@)/\S+|file:\S+|(?:\.{1,2}/|~/|[A-Z]:\\)\S+"
    r"|/(?:run|etc|var|secrets?|mnt|vault|home|opt|tmp|usr|app|data|config|root|srv|proc|dev|keys|certs)/\S+"
    r"|/[\w./-]+\.(?:pem|key|txt|crt|pub|token|secret|json)"
)
_HEADER: Final = re.compile(r"(?i:bearer|basic|token)\s+\S+")
_PLACEHOLDER: Final = re.compile(
    r"change(me|this|it)|replace(me|this|it)|fillin|your[a-z]{0,12}(token|secret|key|password|here|value)"
    r"|(token|secret|key|password|value)(goes)?here|placeholder"
)
_PHRASE: Final = re.compile(
    r"(my|the|some|insert|enter|paste|put|add|set|create)[a-z]{0,20}(token|secret|key|password|value)"
)
_PLACEHOLDERS: Final = frozenset(
    {
        *("secret", "token", "key", "password", "passwd", "apikey", "apitoken", "jwtkey", "example"),
        *("sample", "dummy", "test", "testing", "none", "null", "undefined", "unset", "redacted", "abc"),
        *("topsecret", "supersecret", "mysecret", "value", "string", "default", "empty", "notset"),
        *("foo", "bar", "todo", "tbd", "fixme"),
    }
)
_WORDS: Final = re.compile(r"[A-Za-z0-9 _.,:!*<>\[\]-]+")
LONGEST_PLACEHOLDER: Final = 64
"""Letters and digits: a longer text with such words in it is a passphrase."""


def check_secrets(source: Source, model: type[BaseModel]) -> None:
    """Reports every secret of a file that cannot be one."""
    if source.root is None:
        return
    for node in secret_nodes(source.root, model, known=True):
        if node.start in source.spoiled or not isinstance(node.value, str) or not node.value.strip():
            continue
        found = no_secret(node.value)
        if found is not None:
            source.add(node.start, "no-secret", Own(found[0]), Own(found[1]))
            source.spoiled.add(node.start)
        elif (wrong := flaw(node.value.rstrip("\r\n"))) and "-----BEGIN" not in node.value:
            hint = "take it away, unless it belongs to the secret"
            source.add(node.start, "no-secret", Own(f"this secret {wrong}"), Own(hint), WARNING)


def no_secret(value: str) -> tuple[str, str] | None:
    """Message and hint about a text that is no secret; None where it may be one."""
    text = value.strip()
    if (variable := unexpanded(value)) is not None:
        return variable[0], f"write {variable[1]}, or `${{file:/path}}`"
    if _ELSEWHERE.fullmatch(text):
        return (
            "references to a secret store are not resolved here",
            "let the secret store write a file, and name that: `${file:/path}`",
        )
    if _FILE.fullmatch(text) is not None:
        return "this is the path of a file, not the secret", "write `${file:/path}`"
    if _HEADER.fullmatch(text):
        return "this is a header with a secret in it", "write the secret alone, without `Bearer`"
    if is_placeholder(text):
        return "this is a placeholder and no secret", "write `${NAME}` or `${file:/path}`, and set it"
    return None


def unexpanded(text: str) -> tuple[str, str] | None:
    """What is wrong with a text that another program would expand, and how this one writes it."""
    for pattern, message in _VARIABLES:
        if (found := pattern.fullmatch(text.strip())) is not None:
            name = next((group for group in found.groups() if group), "").rpartition(".")[2]
            name = "" if isinstance(text, Resolved) else name  # what a variable holds is never shown
            return message, f"`${{{name if plain_name(name) else 'NAME'}}}`"
    return None


def check_unexpanded(source: Source) -> None:
    """Reports settings beside the secrets, like an audience or a host, that hold another program's variable.

    Streams and tests are left out: their texts are expressions, paths and payloads.
    """
    data = source.root.fields if source.root is not None and source.root.fields is not None else {}
    for key, (_, block) in data.items():
        if key not in ("server", "hatchet", "auth", "limits", "teams"):
            continue
        for node in scalars(block):
            if node.start in source.spoiled or not isinstance(node.value, str):
                continue
            if (found := unexpanded(node.value)) is not None:
                source.add(node.start, "leftover-variable", Own(found[0]), Own(f"write {found[1]}"))
                source.spoiled.add(node.start)


def plain_name(name: str) -> bool:
    """Whether a hint may repeat a name: capitals are how variables are written, and hardly any password."""
    return re.fullmatch(r"[A-Z][A-Z0-9_]*", name) is not None


def is_placeholder(text: str) -> bool:
    """Whether a text is what examples have in a secret's place."""
    if re.fullmatch(r"[xX*.#?_0\u2026 -]+", text):
        return True
    low = re.sub(r"[^a-z0-9]", "", text.lower())
    if low.rstrip("0123456789") in _PLACEHOLDERS or re.fullmatch("abc123|1234?5?6?7?8?9?0?", low):
        return True
    if _WORDS.fullmatch(text) is None or len(low) > LONGEST_PLACEHOLDER:
        return False
    return _PLACEHOLDER.search(low) is not None or _PHRASE.fullmatch(low) is not None


def check_token(source: Source, path: Path, token: Any) -> None:
    """Reports a malformed Hatchet token: a valid one is a JWT whose payload names the tenant."""
    node = source.node(path)
    if not isinstance(token, str) or node is None or node.start in source.spoiled or not token.strip():
        return
    if (message := no_token(token.strip())) is not None:
        hint = (
            "create an API token in Hatchet's dashboard, under Settings; it begins with ey and has two dots"
        )
        source.add(node.start, "no-token", Own(message), Own(hint))


def no_token(token: str) -> str | None:
    """What is wrong with a text as a Hatchet token; None where it looks like one."""
    parts = token.split(".")
    if len(parts) != 3 or not token.startswith("ey"):
        return "this is not a Hatchet API token, which is a JWT"
    if re.search(r"\s", token):
        return "this token has a blank or a line break in it: it was cut, or copied with a line's end"
    for part in parts[:2]:
        try:
            claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        except (binascii.Error, ValueError, RecursionError):
            return "this token cannot be read: a part of it is missing"
        if not isinstance(claims, dict):
            return "this is not a Hatchet API token, which is a JWT"
    return None
