"""Small files of /proc and /sys, and short answers of other programs. What is not there is None."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ANSWER_S = 10.0
"""Seconds another program may take to answer before its driver counts as hung."""


def text(path: Path) -> str | None:
    """The file's text without white space around it; None where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def number(path: Path) -> int | None:
    """The whole number that the file holds; None where it holds something else."""
    content = text(path)
    return int(content) if content and re.fullmatch(r"-?\d+", content) else None


def table(path: Path) -> dict[str, int]:
    """The lines of a file like `memory.stat` or /proc/self/status that give a name a whole number."""
    found = re.findall(r"^(\S+)\s+(\d+)(?:\s|$)", text(path) or "", re.MULTILINE)
    return {name: int(value) for name, value in found}


def cpu_list(content: str | None) -> set[int]:
    """The processors that a list like "0-3,8" names."""
    found: set[int] = set()
    for part in (content or "").split(","):
        ends = part.strip().split("-")
        if all(end.isdigit() for end in ends) and len(ends) <= 2:
            found |= set(range(int(ends[0]), int(ends[-1]) + 1))
    return found


def answer(command: list[str]) -> str:
    """What a program prints, whatever its exit code.

    Raises OSError where it cannot be run, is silent, or takes longer than `ANSWER_S`; its text is the reason.
    """
    name = Path(command[0]).name
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=ANSWER_S, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"{name} took more than {ANSWER_S:.0f} s") from None
    if not done.stdout.strip():
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise OSError(f"{name} says: {said}")
    return done.stdout
