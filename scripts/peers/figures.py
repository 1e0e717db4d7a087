"""What is measured of a peer: seconds to the first token, tokens per second, and memory."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from .talk import Answer

NEW = "a picture never seen"
NEXT = "the next question"
SAME = "the same picture, new chat"
BEHIND = "behind another system prompt"
PREPARED = "a picture prepared before"
KINDS = (NEW, NEXT, SAME, BEHIND, PREPARED)

ALONE, FOUR, EIGHT = "tokens/s, one client", "tokens/s, 4 clients", "tokens/s, 8 clients"
STEADY_ALONE, STEADY_FOUR = "tokens/s, one, steadily", "tokens/s, 4, steadily"
CLIENTS = {ALONE: 1, FOUR: 4, EIGHT: 8}
STEADY = {ALONE: STEADY_ALONE, FOUR: STEADY_FOUR}
"""The second figure of the same answers."""

PEAK = "peak memory, MiB"


@dataclass(slots=True)
class Figures:
    """Of one peer: by row its figure in every round, None where it had none that time; where the seconds to the first
    token went, by row; what was answered about the pictures never seen. The peak of the memory is taken once.
    """

    rounds: dict[str, list[float | None]] = field(default_factory=dict)
    parts: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    answers: list[str] = field(default_factory=list)

    def keep(self, row: str, figure: float | None) -> None:
        """Keep a figure of the round that is on."""
        self.rounds.setdefault(row, []).append(figure)

    def took(self, kind: str, answer: Answer) -> None:
        """Keep how long an answer's first token took."""
        self.keep(kind, answer.ttft)
        if answer.parts:
            self.parts.setdefault(kind, []).append(dict(answer.parts))

    def middle(self, row: str) -> float | None:
        """The middle of the rounds; None where no round had one."""
        found = [figure for figure in self.rounds.get(row, ()) if figure is not None]
        return statistics.median(found) if found else None

    def middle_parts(self, kind: str) -> dict[str, float]:
        """Where the seconds to the first token went, the middle of each part; empty where the peer does not tell."""
        found = self.parts.get(kind, [])
        return {name: statistics.median(each[name] for each in found) for name in (found[0] if found else ())}


def total_rate(answers: Sequence[Answer]) -> float:
    """Tokens per second from the first token of the first answer to the end of the last."""
    seconds = max(each.ended for each in answers) - min(each.stamps[0] for each in answers)
    return (sum(each.n_tokens for each in answers) - 1) / seconds


def steady_rate(answers: Sequence[Answer]) -> float | None:
    """Tokens per second from the first token of the last answer to begin, to the end of the first to end: while all
    were decoding, and no prompt was. None where they never were. A piece of text stands for as many tokens as others.
    """
    begin, end = max(each.stamps[0] for each in answers), min(each.stamps[-1] for each in answers)
    if end <= begin:
        return None
    inside = sum(
        each.n_tokens / len(each.stamps) * sum(begin < stamp <= end for stamp in each.stamps) for each in answers
    )
    return inside / (end - begin)
