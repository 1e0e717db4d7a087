"""GBNF rules for the texts of JSON: what a schema's rules are made of. Knows no schema.

White space is none, one space, or a new line with up to 32 spaces, and only where JSON printers put it: a model that
may write white space without end sooner or later does. A rule's text is GBNF
(https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

MOST_REPEATS = 1_000_000
"""The largest count that `Rules.repeated` takes."""
_REPEATS_AT_ONCE = 1000
"""llama.cpp takes counts in braces below 2,000."""
_DIGITS = 18
"""Digits of an integer at most, where no bound asks for more: every one fits into 64 bits."""
_USUAL = 10**_DIGITS - 1
LARGEST = 10**20 - 1
"""What bounds can ask for: all of 64 bits, with a sign or without."""

_MONTHS = (
    '("0" [13578] | "1" [02]) "-" ("0" [1-9] | [12] [0-9] | "3" [01])'
    ' | ("0" [469] | "11") "-" ("0" [1-9] | [12] [0-9] | "30")'
    ' | "02-" ("0" [1-9] | "1" [0-9] | "2" [0-8])'
)
_LEAP_YEAR = '[12] [0-9] ("0" [48] | [2468] [048] | [13579] [26]) | ("1" [26] | "2" [048]) "00"'

_STANDARD: dict[str, tuple[str, tuple[str, ...]]] = {
    "ws": (r'(" " | "\n" " "{0,32})?', ()),
    # An escape of half a surrogate pair would be no text, so they come in pairs.
    "escape": (
        r'["\\/bfnrt] | "u" ([0-9a-cefA-CEF] [0-9a-fA-F]{3} | [dD] [0-7] [0-9a-fA-F]{2}'
        r' | [dD] [89abAB] [0-9a-fA-F]{2} "\\u" [dD] [c-fC-F] [0-9a-fA-F]{2})',
        (),
    ),
    "char": (r'[^"\\\x00-\x1F] | "\\" escape', ("escape",)),
    "string": (r'"\"" char* "\""', ("char",)),
    "integer": (rf'"-"? ("0" | [1-9] [0-9]{{0,{_DIGITS - 1}}})', ()),
    "fraction": ('"." [0-9]{1,20}', ()),
    "number": ("integer fraction? ([eE] [-+]? [0-9]{1,2})?", ("integer", "fraction")),
    "boolean": ('"true" | "false"', ()),
    "null": ('"null"', ()),
    "value": (
        "object | array | string | number | boolean | null",
        ("object", "array", "string", "number", "boolean", "null"),
    ),
    "member": ('string ":" ws value', ("string", "ws", "value")),
    "object": ('"{" ws (member ("," ws member)* ws)? "}"', ("member", "ws")),
    "array": ('"[" ws (value ("," ws value)* ws)? "]"', ("value", "ws")),
    # RFC 3339, for the years 1000 to 2999, without leap seconds.
    "day": (f'[12] [0-9]{{3}} "-" ({_MONTHS}) | ({_LEAP_YEAR}) "-02-29"', ()),
    "clock": (
        '([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9] ("." [0-9]{1,6})?'
        ' ("Z" | [+-] ([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9])',
        (),
    ),
    "date": (r'"\"" day "\""', ("day",)),
    "time": (r'"\"" clock "\""', ("clock",)),
    "date-time": (r'"\"" day "T" clock "\""', ("day", "clock")),
    "uuid": (r'"\"" [0-9a-fA-F]{8} ("-" [0-9a-fA-F]{4}){3} "-" [0-9a-fA-F]{12} "\""', ()),
}


class Rules:
    """The rules of one grammar, growing."""

    def __init__(self) -> None:
        self._rules: dict[str, str] = {}
        self._n_reserved = 0

    def standard(self, name: str) -> str:
        """One of JSON's own rules: any `value`, a `string`, a `date` in its quotes, … Gives back its name."""
        if name not in self._rules:
            self._rules[name], needed = _STANDARD[name]
            for other in needed:
                self.standard(other)
        return name

    def add(self, kind: str, body: str) -> str:
        """A new rule; gives back its name."""
        name = self.reserve(kind)
        self.fill(name, body)
        return name

    def reserve(self, kind: str) -> str:
        """The name of a rule to be filled later, for rules that name themselves."""
        self._n_reserved += 1
        return f"{re.sub('[^a-zA-Z0-9]+', '-', kind)[:40]}-{self._n_reserved}"

    def fill(self, name: str, body: str) -> None:
        """Say what a reserved rule, or `root`, is."""
        self._rules[name] = body

    def repeated(self, rule: str, low: int, high: int | None) -> str:
        """The rule `low` to `high` times (None is any number), up to `MOST_REPEATS`, in one way only."""
        at_once = _REPEATS_AT_ONCE
        many = self.add("many", f"{rule}{{{at_once}}}") if max(low, high or 0) >= at_once else ""
        needed = f"{many} " * (low // at_once) + (f"{rule}{{{low % at_once}}} " if low % at_once else "")
        if high is None:
            return f"{needed}{rule}*"
        n_chunks, rest = divmod(high - low, at_once)
        optional = f"{rule}{{0,{rest}}}"
        if n_chunks:
            fewer = self.add("fewer", f"{rule}{{0,{at_once - 1}}}")
            for _ in range(n_chunks):
                optional = f"{many} {self.add('more', optional)} | {fewer}"
            optional = self.add("more", optional)
        return needed + optional

    def key_besides(self, names: Iterable[str]) -> str:
        """A rule for a JSON string, without escapes, that is none of these."""
        taken = {name for name in names if not re.search(r'["\\\x00-\x1f]', name)}
        following: dict[str, set[str]] = {}
        for name in taken:
            for end in range(len(name)):
                following.setdefault(name[:end], set()).add(name[end])
        rest = self.add("key", r'[^"\\\x00-\x1F]*')
        after: dict[str, str] = {}
        for begun in sorted({"", *following, *taken}, key=len, reverse=True):
            letters = sorted(following.get(begun, ()))
            ways = [f"{literal(letter)} {after[begun + letter]}" for letter in letters]
            ways.append(rf'[^{"".join(map(class_character, letters))}"\\\x00-\x1F] {rest}')
            after[begun] = self.add("key", " | ".join([*ways, '""'] if begun not in taken else ways))
        return self.add("key", rf'"\"" {after[""]} "\""')

    def text(self) -> str:
        """The grammar. Its rule `root` must have been filled."""
        return "".join(f"{name} ::= {body}\n" for name, body in self._rules.items())


def literal(text: str) -> str:
    """GBNF for exactly this text."""
    escapes = {'"': r"\"", "\\": r"\\", "\n": r"\n", "\r": r"\r", "\t": r"\t"}
    return '"' + "".join(escapes.get(c, c if c >= " " else f"\\x{ord(c):02X}") for c in text) + '"'


def class_character(character: str) -> str:
    """A character inside GBNF's square brackets."""
    return character if character.isascii() and character.isalnum() else f"\\U{ord(character):08X}"


def json_literal(value: Any) -> str:
    """GBNF for exactly this value, as compact JSON. Raises `ValueError` for what JSON has not."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    text.encode()  # half a surrogate pair is no text
    return literal(text)


def integers(low: int | None, high: int | None) -> str:
    """GBNF for the integers from `low` to `high`, None without bound. `low` ≤ `high`, and `LARGEST` is not beyond."""
    low, high = _within_reach(low, high)
    ways = []
    if low < 0:
        ways.append(f'"-" ({_digits(max(1, -high), -low)})')
    if high >= 0:
        ways.append(_digits(max(0, low), high))
    return " | ".join(ways)


def numbers(low: int | None, high: int | None) -> str:
    """The same for numbers, without exponent, with the rule `fraction`."""
    low, high = _within_reach(low, high)
    ways = []
    if low < 0:
        ways.append(f'"-" ({_magnitudes(max(0, -high), -low)})')
    if high >= 0:
        ways.append(_magnitudes(max(0, low), high))
    return " | ".join(ways)


def _within_reach(low: int | None, high: int | None) -> tuple[int, int]:
    """Both bounds, of `LARGEST` at most. A side without bound has 18 digits, unless the other needs more."""
    if low is None:
        low = -_USUAL if high is None or high >= -_USUAL else -LARGEST
    if high is None:
        high = _USUAL if low <= _USUAL else LARGEST
    return max(low, -LARGEST), min(high, LARGEST)


def _magnitudes(low: int, high: int) -> str:
    last = f'"{high}" ("." "0"{{1,20}})?'
    return f"({_digits(low, high - 1)}) fraction? | {last}" if low < high else last


def _digits(low: int, high: int) -> str:
    """The decimal numbers from `low` to `high`, both at least 0, without leading zeros."""
    ways = []
    for length in range(len(str(low)), len(str(high)) + 1):
        first = max(low, 10 ** (length - 1)) if length > 1 else low
        ways.append(_between(str(first), str(min(high, 10**length - 1))))
    return " | ".join(ways)


def _between(low: str, high: str) -> str:
    """Digit strings of one length, from `low` to `high` in the order of their digits."""
    n = len(low)
    if not n:
        return ""
    if low == "0" * n and high == "9" * n:
        return f"[0-9]{{{n}}}"
    if low[0] == high[0]:
        return f'"{low[0]}" ({_between(low[1:], high[1:])})' if n > 1 else f'"{low[0]}"'
    if n == 1:
        return f"[{low}-{high}]"
    first, last = int(low[0]), int(high[0])
    ways = []
    if low[1:] != "0" * (n - 1):
        ways.append(f'"{first}" ({_between(low[1:], "9" * (n - 1))})')
        first += 1
    if high[1:] != "9" * (n - 1):
        ways.append(f'"{last}" ({_between("0" * (n - 1), high[1:])})')
        last -= 1
    if first <= last:
        ways.append(f"[{first}-{last}] [0-9]{{{n - 1}}}")
    return " | ".join(ways)
