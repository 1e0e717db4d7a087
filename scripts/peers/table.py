"""Figures side by side, and the goals they are held against."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .figures import BEHIND, KINDS, NEW, NEXT, PREPARED, SAME

OURS, PLAIN, LOOP = "gguf_vl", "gguf_vl, no guesses", "bare loop"
ALONE, FOUR, EIGHT = "tokens/s, one client", "tokens/s, 4 clients", "tokens/s, 8 clients"
STEADY_ALONE, STEADY_FOUR = "tokens/s, one, steadily", "tokens/s, 4, steadily"
PEAK = "peak memory, MiB"
OTHERS = "taken by others, % of the CPU"
ROWS = (*KINDS, ALONE, FOUR, EIGHT, STEADY_ALONE, STEADY_FOUR, PEAK, OTHERS)
FIRST = "seconds to the first token:"

Columns = dict[str, dict[str, float]]
"""By column and row; what could not be measured is not there."""


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure of ours over that of the best peer, or of the bare loop, is to be at most or at least `bound`."""

    what: str
    column: str
    row: str
    against: str
    bound: float
    at_most: bool
    loop: bool = False


GOALS = (
    Goal("new picture", OURS, NEW, NEW, 1.0, at_most=True),
    Goal("prepared picture, over a new one", OURS, PREPARED, NEW, 0.1, at_most=True),
    Goal("next question", OURS, NEXT, NEXT, 0.5, at_most=True),
    Goal("same picture, new chat", OURS, SAME, SAME, 1.0, at_most=True),
    Goal("behind another system prompt", OURS, BEHIND, BEHIND, 0.5, at_most=True),
    Goal("decoding alone", OURS, ALONE, ALONE, 1.0, at_most=False),
    Goal("decoding alone, no guesses", PLAIN, ALONE, ALONE, 1.0, at_most=False),
    Goal("4 clients", OURS, FOUR, FOUR, 1.0, at_most=False),
    Goal("4 clients, no guesses", PLAIN, FOUR, FOUR, 1.0, at_most=False),
    Goal("4 clients, no guesses, over the bare loop", PLAIN, STEADY_FOUR, STEADY_FOUR, 0.95, at_most=False, loop=True),
    Goal("peak memory", OURS, PEAK, PEAK, 0.95, at_most=True),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A goal and what came of it; None where there was nothing to hold it against."""

    goal: Goal
    best: str | None
    ratio: float | None

    @property
    def met(self) -> bool | None:
        """Whether the goal is met."""
        if self.ratio is None:
            return None
        return self.ratio <= self.goal.bound if self.goal.at_most else self.ratio >= self.goal.bound

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        ratio = self.ratio and round(self.ratio, 4)
        return {"goal": self.goal.what, "best": self.best, "ratio": ratio, "bound": self.goal.bound, "met": self.met}


def verdicts(columns: Columns) -> list[Verdict]:
    """Every goal's. The best peer is chosen for each by itself."""
    found = []
    for goal in GOALS:
        others = [LOOP] if goal.loop else [name for name in columns if name not in (OURS, PLAIN, LOOP)]
        rivals = {name: columns[name][goal.against] for name in others if goal.against in columns.get(name, {})}
        ours = columns.get(goal.column, {}).get(goal.row)
        pick: Callable[..., Any] = min if goal.at_most else max
        best = pick(rivals, key=rivals.get, default=None)
        found.append(Verdict(goal, best, None if best is None or ours is None else ours / rivals[best]))
    return found


def text(columns: Columns, parts: Mapping[str, Mapping[str, float]]) -> str:
    """Both tables, for a person. `parts` says where the seconds of ours went, by row."""
    rows = [["", *columns]]
    for row in ROWS:
        if row == NEW:
            rows.append([FIRST, *("" for _ in columns)])
        indent = "  " if row in KINDS else ""
        rows.append([indent + row, *(_number(column.get(row)) for column in columns.values())])
        if parts.get(row):
            said = ", ".join(f"{name} {seconds:.3f}" for name, seconds in parts[row].items())
            rows.append([f"    of ours: {said}"])
    goals = [["goal", "best peer", "ratio", "wanted", ""]]
    for each in verdicts(columns):
        wanted = f"{'<=' if each.goal.at_most else '>='} {each.goal.bound:g}"
        said = {None: "-", True: "met", False: "missed"}[each.met]
        goals.append([each.goal.what, each.best or "-", _number(each.ratio), wanted, said])
    return f"{_aligned(rows)}\n\n{_aligned(goals)}"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 1000 else f"{value:.1f}" if value >= 100 else f"{value:.3f}"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    full = [row for row in rows if len(row) > 1]
    widths = [max(len(cell) for cell in column) for column in zip(*full, strict=True)]
    lines = []
    for row in rows:
        first, *rest = row
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=False))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
