"""Plots a run: how many answers were right by step.

    python curve.py RUN/log.jsonl CURVE.png

Every point is the share of answers right since the one before, on drawings never seen before, both languages together.
Below, how surprised the model was at boxes and text, which are hardly ever right to the last character.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

SHOWN = ("colour", "shape", "count", "place", "absent", "which", "follow-up", "text", "describe", "else")


def read_log(path: Path) -> list[dict[str, Any]]:
    """The rows by step; where a run was taken up again from an earlier step, the later row counts."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    kept: dict[int, dict[str, Any]] = {}
    for row in rows:
        kept = {step: earlier for step, earlier in kept.items() if step < row["step"]}
        kept[row["step"]] = row
    return list(kept.values())


def plot(rows: list[dict[str, Any]]) -> plt.Figure:
    """The figure."""
    figure, (above, below) = plt.subplots(2, sharex=True, figsize=(9, 8), height_ratios=(3, 2), layout="constrained")
    for kind in SHOWN:
        above.plot(*_points(rows, "right", kind, 100), label=kind, linewidth=1.2)
    for kind in ("box", "text"):
        below.plot(*_points(rows, "answer_loss", kind, 1), label=kind, linewidth=1.2)
    above.set(ylabel="answers right, %", ylim=(0, 101))
    below.set(xlabel="step", ylabel="loss per token of the answer, nats", ylim=(0, None))
    for axes in (above, below):
        axes.grid(alpha=0.3)
        axes.legend(ncols=2, fontsize=8)
    return figure


def _points(rows: list[dict[str, Any]], what: str, kind: str, scale: float) -> tuple[list[int], list[float]]:
    """Steps, and the mean of both languages at each."""
    steps, values = [], []
    for row in rows:
        found = [row[what][key] for key in (f"{kind} en", f"{kind} zh") if key in row[what]]
        if found:
            steps.append(row["step"])
            values.append(scale * sum(found) / len(found))
    return steps, values


def main() -> None:
    parser = argparse.ArgumentParser(description="Plots a training run of pocket.")
    parser.add_argument("log", type=Path, help="log.jsonl of a run")
    parser.add_argument("picture", type=Path, help="PNG to write")
    args = parser.parse_args()
    plot(read_log(args.log)).savefig(args.picture, dpi=110)


if __name__ == "__main__":
    main()
