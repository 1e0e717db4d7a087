"""GBNF texts, checked before llama.cpp sees them.

llama.cpp answers most mistakes with NULL and a line on standard error, and some not at all: `{5,2}` and a left
recursion behind an empty rule never return, deep parentheses overflow the stack, `<[99999999]>` is taken, a long
literal repeated often fills the memory, `{0,3000}` silently means "any number" (all tried with 0.3.36). So its syntax
(llama.cpp's `grammars/README.md` and `llama-grammar.cpp`) is read here first.
"""

from __future__ import annotations

import re
from collections.abc import Container
from typing import NoReturn

from gguf_vl.errors import UsageError
from gguf_vl.native.gbnf_readings import Readings
from gguf_vl.native.gbnf_rules import TOKENS, Alternatives, Item, Symbol, items

MAX_REPEATS = 1999
"""The largest number in `{m,n}`: llama.cpp refuses a larger m, and takes a larger n for "any number"."""
_MAX_ELEMENTS = 500_000
"""Elements of all rules, repetitions written out. llama.cpp holds each in 8 bytes, some of them three times."""
_MAX_NESTING = 64
"""Parentheses inside parentheses: llama.cpp goes down by a function call for each."""
_MAX_CHAIN = 2_000
"""Rules that begin with one another, a function call each too: 8,000 overflow a stack of 512 KiB."""

_ESCAPE = r'\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[trn\\"\[\]-])'
_CHARACTER = re.compile(rf"{_ESCAPE}|[^\\]", re.DOTALL)
_LITERAL = re.compile(rf'"((?:{_ESCAPE}|[^"\\])*)"')
_CLASS = re.compile(rf"\[\^?((?:{_ESCAPE}|[^\]\\])*)\]")
_TOKEN = re.compile(r"!?(<(?:\[\d{1,9}\]|(?!\[)[^>]*)>)")
_CONTROLS = {"t": "\t", "r": "\r", "n": "\n"}
_NAME = re.compile(r"[a-zA-Z0-9-]+")
_REPEAT = re.compile(r"([*+?])|\{[ \t]*(\d+)[ \t]*(?:(,)[ \t]*(\d+)?[ \t]*)?\}")
_SPACE = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_SPACE_AND_LINES = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")


def check(text: str, root: str = "root") -> set[str]:
    """The tokens a grammar names, as `<tool_call>` or `<[151657]>`.

    Raises `UsageError` for what llama.cpp cannot take.
    """
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise _wrong("it holds a character that cannot be in a grammar")
    reader = _Reader(text)
    rules = reader.rules()
    if root not in rules:
        raise _wrong(f"there is no rule “{root}” to begin with")
    for name, alternatives in rules.items():
        for item in items(alternatives):
            if item.rule is not None and item.rule not in rules:
                raise _wrong(f"the rule “{item.rule}”, which “{name}” names, is not there")
    _check_beginnings(rules)
    Readings(rules, root).check()
    return reader.tokens


def _wrong(reason: str) -> UsageError:
    return UsageError(f"The grammar cannot be used: {reason}.", "Correct the GBNF text.")


class _Reader:
    """Reads a text into its rules. A pair of parentheses becomes a rule of its own, as in llama.cpp."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._rules: dict[str, Alternatives] = {}
        self._n_elements = 0
        self._numbers: dict[str, int] = {}

    @property
    def tokens(self) -> set[str]:
        """Those that the text names, as far as it is read."""
        return set(self._numbers)

    def rules(self) -> dict[str, Alternatives]:
        self._skip(_SPACE_AND_LINES)
        while self._at < len(self._text):
            name = self._take(_NAME) or self._fail("the name of a rule is missing")
            self._skip(_SPACE)
            if name[0] in self._rules:
                self._fail(f"the rule “{name[0]}” is there twice")
            if not self._text.startswith("::=", self._at):
                self._fail("“::=” is missing")
            self._at += 3
            self._skip(_SPACE_AND_LINES)
            self._rules[name[0]] = []
            self._rules[name[0]] = self._alternatives(depth=0)
            if self._at < len(self._text) and self._text[self._at] not in "\r\n":
                self._fail("a new line is missing")
            self._skip(_SPACE_AND_LINES)
        return self._rules

    def _alternatives(self, depth: int) -> Alternatives:
        if depth > _MAX_NESTING:
            self._fail(f"there are more than {_MAX_NESTING} parentheses inside each other")
        found = [self._sequence(depth)]
        while self._text.startswith("|", self._at):
            self._at += 1
            self._skip(_SPACE_AND_LINES)
            found.append(self._sequence(depth))
        return found

    def _sequence(self, depth: int) -> list[Item]:
        items: list[Item] = []
        while (item := self._item(depth)) is not None:
            self._skip(_SPACE_AND_LINES if depth else _SPACE)
            while repeat := self._take(_REPEAT):
                self._repeat(item, repeat)
                self._skip(_SPACE_AND_LINES if depth else _SPACE)
            self._n_elements += item.size
            if self._n_elements > _MAX_ELEMENTS:
                self._fail("it is too large with its repetitions written out")
            items.append(item)
        return items

    def _item(self, depth: int) -> Item | None:
        if found := self._take(_LITERAL):
            return Item(None, tuple((False, ((code, code),)) for code in map(_code, _CHARACTER.findall(found[1]))))
        if found := self._take(_CLASS):
            return Item(None, _class(found[0].startswith("[^"), _CHARACTER.findall(found[1])))
        if found := self._take(_TOKEN):
            number = self._numbers.setdefault(found[1], TOKENS + len(self._numbers))
            return Item(None, ((found[0].startswith("!"), ((number, number),)),))
        if found := self._take(_NAME):
            return Item(found[0])
        if self._text.startswith(".", self._at):
            self._at += 1
            return Item(None, ((True, ()),))
        if not self._text.startswith("(", self._at):
            return None
        self._at += 1
        self._skip(_SPACE_AND_LINES)
        name = f"({len(self._rules)}"  # no name of a rule in the text has a parenthesis
        self._rules[name] = []
        self._rules[name] = self._alternatives(depth + 1)
        if not self._text.startswith(")", self._at):
            self._fail("“)” is missing")
        self._at += 1
        return Item(name)

    def _repeat(self, item: Item, repeat: re.Match[str]) -> None:
        sign, first, comma, last = repeat.groups()
        low = int(first) if first else int(sign == "+")
        high = {"?": 1}.get(sign) if sign else int(last) if last else None if comma else low
        if not item.size:
            self._fail("there is nothing to repeat")
        if max(low, high or 0) > MAX_REPEATS:
            self._fail(f"nothing can be repeated more than {MAX_REPEATS:,} times")
        if high is not None and high < low:
            self._fail(f"{{{low},{high}}} ends before it begins")
        item.written_out *= max(low, high or 0, 1)
        item.fewest *= low
        item.most = None if high is None or item.most is None else item.most * high

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self._text, self._at)
        if found:
            self._at = found.end()
        return found

    def _skip(self, pattern: re.Pattern[str]) -> None:
        self._take(pattern)

    def _fail(self, reason: str) -> NoReturn:
        line = self._text.count("\n", 0, self._at) + 1
        raise _wrong(f"line {line}: {reason}")


def _code(character: str) -> int:
    """The code point of a character, or of an escape for one."""
    if len(character) == 1:
        return ord(character)
    return int(character[2:], 16) if character[1] in "xuU" else ord(_CONTROLS.get(character[1], character[1]))


def _class(negated: bool, characters: list[str]) -> tuple[Symbol, ...]:
    """What stands in square brackets."""
    ranges = []
    while characters:
        first = last = characters.pop(0)
        if len(characters) > 1 and characters[0] == "-":
            last = characters.pop(1)
            characters.pop(0)
        ranges.append((_code(first), _code(last)))
    return ((negated, tuple(ranges)),) if ranges else ()  # to llama.cpp, [] and [^] are nothing at all


def _check_beginnings(rules: dict[str, Alternatives]) -> None:
    """No rule may come to itself again before a character is read, and the way down to a character must be short."""
    begins = _beginnings(rules)
    users = _inverted(begins)
    n_waiting = {name: len(others) for name, others in begins.items()}
    ready = [name for name, n in n_waiting.items() if not n]
    depth: dict[str, int] = {}
    while ready:
        name = ready.pop()
        depth[name] = 1 + max((depth[other] for other in begins[name]), default=0)
        for user in users[name]:
            n_waiting[user] -= 1
            if not n_waiting[user]:
                ready.append(user)
    stuck = [name for name in rules if name not in depth]
    if stuck:
        raise _wrong(f"the rule “{_in_circle(stuck[0], begins, depth)}” begins with itself")
    if max(depth.values()) > _MAX_CHAIN:
        raise _wrong(f"more than {_MAX_CHAIN:,} rules begin with one another")


def _in_circle(name: str, begins: dict[str, set[str]], done: Container[str]) -> str:
    """A rule that begins with itself, followed from one that has such a beginning. One with a name, if any has."""
    path: list[str] = []
    while name not in path:
        path.append(name)
        name = next(other for other in sorted(begins[name]) if other not in done)
    circle = path[path.index(name) :]
    return next((each for each in circle if not each.startswith("(")), path[0])


def _beginnings(rules: dict[str, Alternatives]) -> dict[str, set[str]]:
    """For each rule those that one of its alternatives can begin with."""
    empty = _nullable(rules)
    begins: dict[str, set[str]] = {name: set() for name in rules}
    for name, alternatives in rules.items():
        for sequence in alternatives:
            for item in sequence:
                if item.rule is not None:
                    begins[name].add(item.rule)
                if not _may_be_empty(item, empty):
                    break
    return begins


def _nullable(rules: dict[str, Alternatives]) -> set[str]:
    """The rules that the empty text fulfils."""
    users = _inverted({name: {item.rule for item in items(each) if item.rule} for name, each in rules.items()})
    empty: set[str] = set()
    todo = list(rules)
    while todo:
        name = todo.pop()
        if name not in empty and any(all(_may_be_empty(item, empty) for item in each) for each in rules[name]):
            empty.add(name)
            todo += users[name]
    return empty


def _inverted(names: dict[str, set[str]]) -> dict[str, set[str]]:
    """For each rule those that name it."""
    users: dict[str, set[str]] = {name: set() for name in names}
    for name, others in names.items():
        for other in others:
            users[other].add(name)
    return users


def _may_be_empty(item: Item, empty: set[str]) -> bool:
    return item.fewest == 0 or item.size == 0 or item.rule in empty
