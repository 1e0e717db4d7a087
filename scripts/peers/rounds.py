"""The rounds: what is asked in each part of one, and the turns that all take in it before the next part comes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Protocol

from .figures import BEHIND, CLIENTS, KINDS, NEW, NEXT, PREPARED, SAME, STEADY, Figures, steady_rate, total_rate
from .loop import Loop
from .process import QUIET, Others
from .talk import Answer, Peer, Talk, Turn, assistant, at_once, noise, user

PARTS = (*KINDS, *CLIENTS)
"""Of a round, by the row of the figure they are for."""
SHORT = 24
"""Tokens of an answer about a picture."""
LONG = 128
"""Tokens of an answer whose rate is measured."""


class Measured(Protocol):
    """Something that takes its turn in some parts of a round, in a process of its own."""

    joins: Collection[str]
    figures: Figures

    @property
    def pid(self) -> int:
        """The process that holds the model."""

    def take(self, part: str, number: int) -> float:
        """Do a part of a round and keep its figures. The one that tells most of it."""


class Asked:
    """A peer that is asked over pictures of a size, pixels."""

    def __init__(self, peer: Peer, size: tuple[int, int], joins: Collection[str] = PARTS) -> None:
        self._peer, self._size = peer, size
        self.joins: Collection[str] = [part for part in joins if part != PREPARED or peer.prepares]
        self.figures = Figures()

    @property
    def pid(self) -> int:
        """The peer's process."""
        return self._peer.pid

    def take(self, part: str, number: int) -> float:
        """Ask what belongs to a part of a round. Seconds to the first token, or tokens per second."""
        return self._write(part, number) if part in CLIENTS else self._look(part, number)

    def _look(self, kind: str, number: int) -> float:
        talk = about(kind, number, self._size, self.figures.answers[-1] if kind == NEXT else "")
        if kind == PREPARED:
            self._peer.prepare((user(talk[0].content[0]),))
        answer = self._peer.ask(talk, SHORT)
        self.figures.took(kind, answer)
        if kind == NEW:
            self.figures.answers.append(answer.text)
        return answer.ttft

    def _write(self, part: str, number: int) -> float:
        answers = write(self._peer, number, CLIENTS[part])
        rate = total_rate(answers)
        self.figures.keep(part, rate)
        if part in STEADY:
            self.figures.keep(STEADY[part], steady_rate(answers))
        return rate


class Bare:
    """The bare loop, behind so many cells of each sequence. It knows nothing but to decode steadily."""

    joins: Collection[str] = tuple(STEADY)

    def __init__(self, loop: Loop, depth: int) -> None:
        self._loop, self._depth = loop, depth
        self.figures = Figures()

    @property
    def pid(self) -> int:
        """The loop's process."""
        return self._loop.pid

    def take(self, part: str, number: int) -> float:
        """Decode with as many sequences as the part has clients. Tokens per second."""
        rate = self._loop.rate(CLIENTS[part], self._depth, LONG)
        self.figures.keep(STEADY[part], rate)
        return rate


def in_turns(
    measured: Mapping[str, Measured], n_rounds: int, patience: float, tell: Callable[[str], None]
) -> dict[str, list[float]]:
    """Measure all in turns, each round beginning with another. By part, the share of the processors that others took
    in every round. Each part waits so many seconds for a quiet machine.
    """
    others = Others(*(each.pid for each in measured.values()))
    shares: dict[str, list[float]] = {part: [] for part in PARTS}
    for number in range(n_rounds):
        first = number % len(measured)
        names = [*measured][first:] + [*measured][:first]
        for part in PARTS:
            others.wait(patience)
            taken = {name: measured[name].take(part, number) for name in names if part in measured[name].joins}
            shares[part].append(others.share())
            said = "; ".join(f"{name} {figure:.3f}" for name, figure in taken.items())
            tell(f"round {number + 1} of {n_rounds}, {part}: {said}")
            if shares[part][-1] > QUIET:
                tell(f"    others took {shares[part][-1]:.0%} of the processors meanwhile")
    return shares


def warm_up(peer: Peer, size: tuple[int, int]) -> None:
    """Let a peer load and allocate what it leaves for its first request."""
    peer.ask((user(noise(999_999, size), "Hello."),), 4)
    peer.ask((user("Hello."),), 4)


def about(kind: str, number: int, size: tuple[int, int], answered: str) -> Talk:
    """What a round asks about its picture, after what was `answered` where it asks on."""
    picture = noise(2 * number + (kind == PREPARED), size)
    first, other = user(picture, "Describe the picture."), user(picture, "How many shapes are there?")
    system = Turn("system", (f"Number {number}: you are a helpful assistant. Answer in one short sentence.",))
    return {
        NEW: (first,),
        NEXT: (first, assistant(answered), user("Which colours are there?")),
        SAME: (other,),
        BEHIND: (system, other),
        PREPARED: (first,),
    }[kind]


def prompt(number: int, client: int) -> Talk:
    """A question that no other round and no other client asks."""
    return (user(f"{number} {client}: tell a long story about {client + 3} friends and a red house."),)


def write(peer: Peer, number: int, n_clients: int) -> list[Answer]:
    """As many clients ask at once, each for a long answer."""
    talks = (prompt(10 * number + n_clients, client) for client in range(n_clients))
    return at_once([partial(peer.ask, talk, LONG) for talk in talks])
