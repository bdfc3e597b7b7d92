"""Which parts of its root an expression reads, as paths: so that nothing else has to be made of an event.

    paths_read(parse("payload.order.total > `10` && step")[0])  ->  {("payload", "order", "total"), ("step",)}

The value at a path is read whole. A path may be shorter than what is really read, never longer.
"""

from __future__ import annotations

from typing import Final

from config.expressions.ast import Node
from config.expressions.compiler import keys_of

Path = tuple[str | int, ...]

ROOT: Final[Path] = ()
"""The whole root is read."""

_CHAINS: Final = frozenset({"subexpression", "index_expression", "pipe"})
_FIRST_ALONE: Final = frozenset({"projection", "value_projection", "filter_projection", "flatten"})
"""Their other children are given parts of what the first one has read."""
_ALL_CHILDREN: Final = frozenset(
    {
        "and_expression", "comparator", "function_expression", "key_val_pair", "multi_select_dict",
        "multi_select_list", "not_expression", "or_expression",
    }
)  # fmt: skip


def paths_read(node: Node) -> set[Path]:
    """The paths of the values that `node` reads."""
    keys = keys_of(node)
    if keys is not None:
        return {tuple(keys)}
    if node.kind in ("literal", "expref"):  # what follows `&` is given elements of another argument
        return set()
    if node.kind in _CHAINS:
        return _read_by_chain(node)
    if node.kind in _FIRST_ALONE:
        return paths_read(node.children[0])
    if node.kind in _ALL_CHILDREN:
        return {path for child in node.children for path in paths_read(child)}
    return {ROOT}


def _read_by_chain(node: Node) -> set[Path]:
    """Each link is given what the one before it has found: only the first ones read the root."""
    path: Path = ()
    for link in node.children:
        keys = keys_of(link)
        if keys is None:
            return {path + below for below in paths_read(link)} or {path}
        path += tuple(keys)
    return {path}
