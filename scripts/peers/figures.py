"""What is measured of a peer: seconds to the first token, and tokens per second."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from .talk import Answer, Peer, Talk, Turn, assistant, at_once, noise, user

NEW = "a picture never seen"
NEXT = "the next question"
SAME = "the same picture, new chat"
BEHIND = "behind another system prompt"
PREPARED = "a picture prepared before"
KINDS = (NEW, NEXT, SAME, BEHIND, PREPARED)

SHORT = 24
"""Tokens of an answer about a picture."""
LONG = 128
"""Tokens of an answer whose rate is measured."""
CLIENTS = (1, 4, 8)


@dataclass(slots=True)
class Figures:
    """Of every round: seconds to the first token by kind, with their parts; rates by the number of clients, over all
    and while all of them were decoding; what was answered about the pictures never seen; the share of the
    processors that others took in each part of a round; the peak of the memory, bytes.
    """

    ttft: dict[str, list[float]] = field(default_factory=dict)
    parts: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    total: dict[int, list[float]] = field(default_factory=dict)
    steady: dict[int, list[float]] = field(default_factory=dict)
    answers: list[str] = field(default_factory=list)
    others: dict[str, list[float]] = field(default_factory=dict)
    peak: int | None = None

    def took(self, kind: str, answer: Answer) -> None:
        """Keep how long an answer's first token took."""
        self.ttft.setdefault(kind, []).append(answer.ttft)
        if answer.parts:
            self.parts.setdefault(kind, []).append(dict(answer.parts))

    def decoded(self, n_clients: int, answers: Sequence[Answer]) -> None:
        """Keep the rates of answers that were given at once."""
        self.total.setdefault(n_clients, []).append(total_rate(answers))
        if (rate := steady_rate(answers)) is not None:
            self.steady.setdefault(n_clients, []).append(rate)

    def disturbed(self, part: str, share: float) -> None:
        """Keep what others took of the processors during a part of a round."""
        self.others.setdefault(part, []).append(share)

    def middle_parts(self, kind: str) -> dict[str, float]:
        """Where the seconds to the first token went, the middle of each part; empty where the peer does not tell."""
        found = self.parts.get(kind, [])
        return {name: statistics.median(each[name] for each in found) for name in (found[0] if found else ())}


def warm_up(peer: Peer, size: tuple[int, int]) -> None:
    """Let a peer load and allocate what it leaves for its first request."""
    peer.ask((user(noise(999_999, size), "Hello."),), 4)
    peer.ask((user("Hello."),), 4)


def look(peer: Peer, figures: Figures, number: int, size: tuple[int, int]) -> None:
    """One round about pictures: each kind of question once."""
    picture = noise(2 * number, size)
    question = user(picture, "Describe the picture.")
    first = peer.ask((question,), SHORT)
    figures.took(NEW, first)
    figures.answers.append(first.text)
    chat = (question, assistant(first.text), user("Which colours are there?"))
    figures.took(NEXT, peer.ask(chat, SHORT))
    other = user(picture, "How many shapes are there?")
    figures.took(SAME, peer.ask((other,), SHORT))
    system = Turn("system", (f"Number {number}: you are a helpful assistant. Answer in one short sentence.",))
    figures.took(BEHIND, peer.ask((system, other), SHORT))
    if peer.prepares:
        attached = noise(2 * number + 1, size)
        peer.prepare((user(attached),))
        figures.took(PREPARED, peer.ask((user(attached, "Describe the picture."),), SHORT))


def prompt(number: int, client: int) -> Talk:
    """A question that no other round and no other client asks."""
    return (user(f"{number} {client}: tell a long story about {client + 3} friends and a red house."),)


def write(peer: Peer, number: int, n_clients: int) -> list[Answer]:
    """As many clients ask at once, each for a long answer."""
    talks = (prompt(10 * number + n_clients, client) for client in range(n_clients))
    return at_once([partial(peer.ask, talk, LONG) for talk in talks])


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
