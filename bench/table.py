"""Tables of medians with their spread, and of ratios within one repetition.

The machine drifts between repetitions by more than the peers differ. So ratios are taken within one
repetition, and the table shows their median.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median

Figures = Mapping[str, float]


class Table:
    """One work's figures: repetitions of named rows."""

    def __init__(self, title: str, columns: Sequence[tuple[str, str, str]], first: str) -> None:
        """`columns`: key, heading and format; `first` is the row that all others are compared with."""
        self.title = title
        self.columns = columns
        self.first = first
        self._rows: dict[str, list[Figures]] = {}

    def add(self, row: str, figures: Figures) -> None:
        """One repetition of one row."""
        self._rows.setdefault(row, []).append(figures)

    def median(self, row: str, key: str) -> float:
        """The median of a row's figures."""
        return median(figures[key] for figures in self._rows[row])

    def ratio(self, row: str, key: str) -> tuple[float, float, float]:
        """The first row's figure divided by `row`'s: median, lowest and highest over the repetitions."""
        pairs = zip(self._rows[self.first], self._rows[row], strict=False)
        ratios = [ours[key] / theirs[key] for ours, theirs in pairs if theirs[key]]
        return (median(ratios), min(ratios), max(ratios)) if ratios else (0.0, 0.0, 0.0)

    def text(self) -> str:
        """As a Markdown table."""
        heads = ["", *(heading for _, heading, _ in self.columns)]
        compared = self.first in self._rows and len(self._rows) > 1
        key, heading, _ = self.columns[0]
        if compared:
            heads.append(f"{self.first} / it, {heading}")
        body = [[row, *(self._cell(row, *column[::2]) for column in self.columns)] for row in self._rows]
        if compared:
            for cells in body:
                cells.append("" if cells[0] == self.first else _spread(*self.ratio(cells[0], key), "{:.2f}"))
        lines = [f"### {self.title}", "", _line(heads), _line(["---"] + ["---:"] * (len(heads) - 1))]
        return "\n".join([*lines, *(_line(cells) for cells in body), ""])

    def _cell(self, row: str, key: str, form: str) -> str:
        values = [figures[key] for figures in self._rows[row]]
        return _spread(median(values), min(values), max(values), form)


def _spread(middle: float, least: float, most: float, form: str) -> str:
    shown: Callable[[float], str] = form.format
    return shown(middle) if least == most else f"{shown(middle)} ({shown(least)}–{shown(most)})"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
