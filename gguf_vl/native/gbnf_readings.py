"""In how many ways a text can be read by a grammar.

llama.cpp goes on with all of them at once, and where they double with each character nothing ends that. So a text is
looked for that can be read in more and more ways.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache

from gguf_vl.errors import UsageError
from gguf_vl.native.gbnf_rules import Alternatives, Symbol

_MOST_WAYS = 500
"""Ways to read one text, beside one for each alternative. llama.cpp compares each with each at every character."""
_LONGEST_LOOK = 1000
"""Characters of the text that is looked for, and …"""
_LONGEST_WORK = 20_000
"""… steps of that: a tenth of a second."""


def too_many_ways() -> UsageError:
    """The error of a grammar that is too slow."""
    return UsageError(
        "The grammar can be read in too many ways: one text fits it in more and more of them the longer it gets.",
        "Let alternatives differ where they begin, above all in rules that name themselves, and let counts not stand "
        "in counts.",
    )


_Place = tuple[int, int, int, int]
"""In an alternative, by its number: at an item, which was there so often, and so many symbols of it again."""
_END = 0


class Readings:
    """All ways to read a text at once, as llama.cpp goes on with them: each a stack of places, known by its number.

    `check` looks for a text with many: always the symbol that most ways go on with, of several the one met least.
    """

    def __init__(self, rules: dict[str, Alternatives], root: str) -> None:
        self._sequences = [sequence for alternatives in rules.values() for sequence in alternatives]
        numbers = iter(range(len(self._sequences)))
        self._alternatives = {name: [next(numbers) for _ in alternatives] for name, alternatives in rules.items()}
        self._stacks: list[tuple[_Place, int]] = [((0, 0, 0, 0), _END)]
        self._numbers: dict[tuple[_Place, int], int] = {}
        self._start = {self._stack(number, 0, 0, 0, _END) for number in self._alternatives[root]}
        self._work = 0

    def check(self) -> None:
        """Raises `UsageError` where one text can be read in too many ways, as far as can be seen in short time."""
        met: Counter[tuple[int, int]] = Counter()
        ways = self._start
        for _ in range(_LONGEST_LOOK):
            ends: dict[Symbol, list[int]] = {}
            for stack in self._expanded(ways):
                ends.setdefault(self._symbol(stack), []).append(stack)
            if self._work > _LONGEST_WORK:
                return
            seldom = {symbol: min(met[self._item(stack)] for stack in stacks) for symbol, stacks in ends.items()}
            tried = []
            for point in {_point(symbol) for symbol in ends}:
                taken = [symbol for symbol in ends if _holds(symbol, point)]
                if taken:
                    tried.append((sum(len(ends[each]) for each in taken), -min(seldom[each] for each in taken), point))
            if not tried:
                ways = self._start
                continue
            point = max(tried)[2]
            stacks = [stack for symbol, stacks in ends.items() if _holds(symbol, point) for stack in stacks]
            met.update(map(self._item, stacks))
            ways = {self._behind(stack) for stack in stacks}
            if len(ways) > _MOST_WAYS + len(self._sequences):
                raise too_many_ways()

    def _expanded(self, stacks: Iterable[int]) -> Iterator[int]:
        """The stacks with a symbol on top that these become."""
        todo = list(stacks)
        seen = set(todo)
        while todo:
            self._work += 1
            number = todo.pop()
            if number == _END:
                continue
            (sequence, at, n_done, n_symbols), below = self._stacks[number]
            item = self._sequences[sequence][at]
            found = []
            if n_done >= item.fewest and not n_symbols:
                found.append(self._stack(sequence, at + 1, 0, 0, below))
            if item.rule is not None:
                again = self._stack(sequence, at, n_done + 1, 0, below)
                found += [self._stack(other, 0, 0, 0, again) for other in self._alternatives[item.rule]]
            else:
                yield number
            new = set(found) - seen
            seen |= new
            todo += new

    def _stack(self, sequence: int, at: int, n_done: int, n_symbols: int, below: int) -> int:
        """The number of a stack with one place more: of what is below, where that place is an end."""
        items = self._sequences[sequence]
        while at < len(items) and (n_done == items[at].most or not (items[at].rule or items[at].symbols)):
            at, n_done = at + 1, 0
        if at == len(items):
            return below
        item = items[at]
        place = sequence, at, min(n_done, item.fewest) if item.most is None else n_done, n_symbols
        number = self._numbers.setdefault((place, below), len(self._stacks))
        if number == len(self._stacks):
            self._stacks.append((place, below))
        return number

    def _behind(self, stack: int) -> int:
        (sequence, at, n_done, n_symbols), below = self._stacks[stack]
        if n_symbols + 1 < len(self._sequences[sequence][at].symbols):
            return self._stack(sequence, at, n_done, n_symbols + 1, below)
        return self._stack(sequence, at, n_done + 1, 0, below)

    def _item(self, stack: int) -> tuple[int, int]:
        sequence, at, *_ = self._stacks[stack][0]
        return sequence, at

    def _symbol(self, stack: int) -> Symbol:
        (sequence, at, _, n_symbols), _ = self._stacks[stack]
        return self._sequences[sequence][at].symbols[n_symbols]


@lru_cache(_LONGEST_WORK)
def _holds(symbol: Symbol, point: int) -> bool:
    negated, ranges = symbol
    return any(first <= point <= last for first, last in ranges) != negated


@lru_cache(_LONGEST_WORK)
def _point(symbol: Symbol) -> int:
    """A code point or token that the symbol holds, if it holds any."""
    negated, ranges = symbol
    if not negated:
        return ranges[0][0] if ranges else 0
    return next((code for code in (ord("a"), *(last + 1 for _, last in ranges)) if _holds(symbol, code)), 0)
