"""What is wrong or doubtful in an expression that can be read: fields, types, literals."""

from __future__ import annotations

from config.shapes import Shape
from config.structure import structural
from config.tree import Complaint, Node, Token


def complaints(tree: Node, tokens: list[Token], root: Shape) -> list[Complaint]:
    """All complaints, in the order of their positions."""
    return sorted(structural(tree, tokens), key=lambda complaint: complaint.position)
