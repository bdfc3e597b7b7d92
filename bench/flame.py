"""A flame graph as one SVG file without scripts: width is time; a tooltip names each box's function.

    py-spy record -r 500 -d 10 -f raw -o folded.txt -p PID
    python bench/flame.py folded.txt TITLE > flame.svg

Only the event loop's thread is drawn, from the loop's turn upwards, because what is below is the same in
every program. The part of the loop without a box above it is the loop itself: uvloop, and the kernel's
reads and writes.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

LOOP: Final = "Runner.run (asyncio/runners.py)"
WIDTH, ROW, LETTER = 1200.0, 17, 6.6  # a box's text is left out if it does not fit
LEAST: Final = 0.0015  # share of the whole; narrower boxes are not drawn
LINE: Final = re.compile(r":\d+\)$")
COLOURS: Final = {"proxy": "#f4a261", "config": "#e9c46a", "google": "#8ecae6", "": "#cfd8dc"}

Tree = dict[str, "Box"]


class Box:
    """A function, called from the function below it."""

    def __init__(self) -> None:
        self.samples = 0
        self.inside: Tree = {}


def folded(lines: list[str]) -> Box:
    """py-spy's raw format as a tree, from the loop's turn upwards; without line numbers."""
    root = Box()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        frames = [LINE.sub(")", frame) for frame in stack.split(";")]
        if LOOP not in frames:
            continue
        box = root
        box.samples += int(count)
        for frame in frames[frames.index(LOOP) :]:
            box = box.inside.setdefault(frame, Box())
            box.samples += int(count)
    return root


def boxes(box: Box, x: float, depth: int, whole: int, into: list[str]) -> int:
    """Draw the boxes inside `box`; returns the depth that was reached."""
    deepest = depth
    for name, inner in sorted(box.inside.items()):
        width = inner.samples / whole * WIDTH
        if inner.samples / whole >= LEAST:
            into.append(_box(name, x, depth, width, inner.samples / whole))
            deepest = max(deepest, boxes(inner, x, depth + 1, whole, into))
        x += width
    return deepest


def _box(name: str, x: float, depth: int, width: float, share: float) -> str:
    part = name.rpartition("(")[2].split("/")[0]
    colour = COLOURS.get(part, COLOURS[""])
    letters = int(width / LETTER)
    text = name if len(name) <= letters else name[: letters - 1] + "…" if letters > 4 else ""
    label = f'<text x="{x + 2:.1f}" y="{{y_text}}">{escape(text)}</text>' if text else ""
    size = f'width="{max(width - 0.4, 0.3):.1f}" height="{ROW - 1}"'
    return (
        f"<g><title>{escape(name)}: {share:.1%}</title>"
        f'<rect x="{x:.1f}" y="{{y}}" {size} fill="{colour}"/>'
        f"{label}</g>|{depth}"
    )


def svg(root: Box, title: str) -> str:
    """The whole picture, the loop at the bottom."""
    drawn: list[str] = []
    rows = boxes(root, 0.0, 0, max(root.samples, 1), drawn)
    height = (rows + 2) * ROW
    parts = []
    for each in drawn:
        body, _, depth = each.rpartition("|")
        y = height - (int(depth) + 1) * ROW
        parts.append(body.replace("{y}", str(y)).replace("{y_text}", str(y + 12)))
    style = "text{font:11px monospace}"
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:.0f} {height}"><style>{style}</style>'
    )
    what = f'<text x="4" y="13">{escape(title)}, {root.samples:,} samples</text>'
    return "\n".join([head, what, *parts, "</svg>", ""])


if __name__ == "__main__":
    raw = Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()
    sys.stdout.write(svg(folded(raw), " ".join(sys.argv[2:])))
