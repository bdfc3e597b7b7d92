"""What an expression reads: on a root with nothing else it gives the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

from config.expressions.api import ExpressionProblem, compile_expression
from config.expressions.reading import Path, paths_read
from proxy.core.json_parts import decoder
from tests.unit.config.expressions.test_compiler import EXPRESSIONS, ROOTS, ours


def paths_of(text: str) -> set[Path]:
    return paths_read(compile_expression(text).tree)


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("payload.order.id", {("payload", "order", "id")}),
        ("payload.items[0].name", {("payload", "items", 0, "name")}),
        ("payload | order | id", {("payload", "order", "id")}),
        ("payload.order.total > `10` && step", {("payload", "order", "total"), ("step",)}),
        ("{a: payload.a, b: [type, 'text']}", {("payload", "a"), ("type",)}),
        ("payload.order.{a: id}", {("payload", "order", "id")}),
        ("payload.order.{a: 'text'}", {("payload", "order")}),
        ("payload.items[*].name", {("payload", "items")}),
        ("payload.items[?price > `1`].name | [0]", {("payload", "items")}),
        ("payload.items[].tags[]", {("payload", "items")}),
        ("payload.*", {("payload",)}),
        ("items[1:]", {("items",)}),
        ("sort_by(payload.items, &price)[0]", {("payload", "items")}),
        ("if(payload.a, payload.b, `1`)", {("payload", "a"), ("payload", "b")}),
        ("!(metadata.x) || metadata.y", {("metadata", "x"), ("metadata", "y")}),
        ("'text'", set()),
        ("@", {()}),
        ("@.payload", {("payload",)}),
        ("keys(@)", {()}),
        ("[*].a", {()}),
    ],
)
def test_paths(text: str, paths: set[Path]) -> None:
    assert paths_of(text) == paths


@given(EXPRESSIONS, ROOTS)
def test_nothing_else_is_read(text: str, root: dict[str, Any]) -> None:
    try:
        paths = paths_of(text)
    except ExpressionProblem:
        return
    assert ours(text, decoder(paths)(json.dumps(root))) == ours(text, json.loads(json.dumps(root)))
