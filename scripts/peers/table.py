"""Figures side by side, and the goals they are held against."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .figures import (
    ALONE,
    BEHIND,
    EIGHT,
    FOUR,
    KINDS,
    NEW,
    NEXT,
    PEAK,
    PREPARED,
    SAME,
    STEADY_ALONE,
    STEADY_FOUR,
    Figures,
)

OURS, PLAIN, LOOP = "gguf_vl", "gguf_vl, no guesses", "bare loop"
ROWS = (*KINDS, ALONE, FOUR, EIGHT, STEADY_ALONE, STEADY_FOUR, PEAK)
FIRST = "seconds to the first token:"


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
    """A goal and what came of it: the ratio in every round, none where there was nothing to hold it against."""

    goal: Goal
    best: str | None
    ratios: tuple[float, ...]

    @property
    def ratio(self) -> float | None:
        """The middle of the rounds."""
        return statistics.median(self.ratios) if self.ratios else None

    @property
    def met(self) -> bool | None:
        """Whether the goal is met."""
        if self.ratio is None:
            return None
        return self.ratio <= self.goal.bound if self.goal.at_most else self.ratio >= self.goal.bound

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        found = {"goal": self.goal.what, "best": self.best, "ratio": self.ratio, "ratios": self.ratios}
        return found | {"bound": self.goal.bound, "met": self.met}


def verdicts(figures: Mapping[str, Figures]) -> list[Verdict]:
    """Every goal's. The best peer is chosen for each by itself, by its middle figure."""
    found = []
    for goal in GOALS:
        others = [name for name in figures if (name == LOOP) == goal.loop and name not in (OURS, PLAIN)]
        rivals = {name: middle for name in others if (middle := figures[name].middle(goal.against)) is not None}
        pick: Callable[..., Any] = min if goal.at_most else max
        best = pick(rivals, key=rivals.get, default=None)
        found.append(Verdict(goal, best, _ratios(goal, figures, best) if best else ()))
    return found


def _ratios(goal: Goal, figures: Mapping[str, Figures], best: str) -> tuple[float, ...]:
    """Of the same rounds."""
    ours = figures[goal.column].rounds.get(goal.row, []) if goal.column in figures else []
    rounds = zip(ours, figures[best].rounds[goal.against], strict=False)
    return tuple(mine / its for mine, its in rounds if mine is not None and its is not None)


def text(figures: Mapping[str, Figures]) -> str:
    """Both tables, for a person."""
    rows = [["", *figures]]
    for row in ROWS:
        if row == NEW:
            rows.append([FIRST, *("" for _ in figures)])
        indent = "  " if row in KINDS else ""
        rows.append([indent + row, *(_number(each.middle(row)) for each in figures.values())])
        if parts := figures[OURS].middle_parts(row):
            said = ", ".join(f"{name} {seconds:.3f}" for name, seconds in parts.items())
            rows.append([f"    of ours: {said}"])
    goals = [["goal", "best peer", "ratio", "of the rounds", "wanted", ""]]
    for each in verdicts(figures):
        spread = f"{min(each.ratios):.3f} to {max(each.ratios):.3f}" if len(each.ratios) > 1 else "-"
        wanted = f"{'<=' if each.goal.at_most else '>='} {each.goal.bound:g}"
        said = {None: "-", True: "met", False: "missed"}[each.met]
        goals.append([each.goal.what, each.best or "-", _number(each.ratio), spread, wanted, said])
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
