"""Regular expressions of a JSON schema's `pattern`, as GBNF.

Taken are those that describe the whole string, `^…$`, made of characters, `.`, classes (`[a-z_]`, `[^,]`, `\\d`, `\\w`,
`\\s` and their opposites), groups, alternatives and counts: what a grammar can say as well. Everything else (looking
around, back references, `\\b`, `\\p`, flags) raises `ValueError`. Meanings are ECMA-262's, as JSON schema wants.
"""

from __future__ import annotations

import json
import re
from typing import NoReturn

from gguf_vl.engine.grammar.json_rules import Rules, class_character, literal

_Ranges = list[tuple[int, int]]
"""Characters as code points from first to last, both included."""

_LAST = 0x10FFFF
_MOST_REPEATS = 1999
_MOST_GROUPS_DEEP = 40
_DIGITS: _Ranges = [(48, 57)]
_WORD: _Ranges = [(48, 57), (65, 90), (95, 95), (97, 122)]
_SPACE: _Ranges = [
    *[(9, 13), (32, 32), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029), (0x202F, 0x202F)],
    *[(0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF)],
]
_LINE_ENDS: _Ranges = [(10, 10), (13, 13), (0x2028, 0x2029)]
_CLASSES = {"d": _DIGITS, "w": _WORD, "s": _SPACE}
_CONTROLS = {"t": 9, "n": 10, "v": 11, "f": 12, "r": 13}
_UNWRITTEN: _Ranges = [(0, 0x1F), (ord('"'), ord('"')), (ord("\\"), ord("\\")), (0xD800, 0xDFFF)]
"""Code points that stand in a JSON string only as an escape, or not at all."""
_ESCAPED = ['"', "\\", "\b", "\t", "\n", "\f", "\r"]
_COUNT = re.compile(r"([*+?])|\{(\d+)(?:(,)(\d+)?)?\}")


def expression(pattern: str, rules: Rules) -> str:
    """GBNF for the inside of a JSON string that the pattern matches. Raises `ValueError` with what it cannot say."""
    if not re.fullmatch(r"\^.*(?<!\\)(\\\\)*\$", pattern, re.DOTALL):
        raise ValueError("it must describe the whole string: ^…$")
    reader = _Reader(pattern[1:-1], rules)
    found = reader.alternatives(depth=0)
    if reader.rest:
        raise ValueError(f"“{reader.rest[0]}” has no partner")
    if len(found) > 1:
        raise ValueError("alternatives need a group: ^(…|…)$")
    return found[0]


class _Reader:
    def __init__(self, text: str, rules: Rules) -> None:
        self.rest = text
        self._rules = rules

    def alternatives(self, depth: int) -> list[str]:
        if depth > _MOST_GROUPS_DEEP:
            raise ValueError(f"more than {_MOST_GROUPS_DEEP} groups are inside each other")
        found = [self._sequence(depth)]
        while self._take("|"):
            found.append(self._sequence(depth))
        return found

    def _sequence(self, depth: int) -> str:
        items = []
        while self.rest and self.rest[0] not in "|)":
            items.append(self._counted(self._atom(depth)))
        return " ".join(items) or '""'

    def _atom(self, depth: int) -> str:
        if self._take("("):
            if not self._take("?:") and self.rest.startswith("?"):
                self._refuse("(" + self.rest[:2])
            group = self._rules.add("group", " | ".join(self.alternatives(depth + 1)))
            if not self._take(")"):
                raise ValueError("“)” is missing")
            return group
        if self._take("["):
            return self._characters(self._class())
        if self._take("."):
            return self._characters(_without(_LINE_ENDS))
        if self.rest[0] in "^$*+?{}]":
            self._refuse(self.rest[0])
        return self._characters(self._character())

    def _counted(self, atom: str) -> str:
        count = _COUNT.match(self.rest)
        if not count:
            return atom
        self.rest = self.rest[count.end() :].removeprefix("?")  # how greedy it is makes no difference to the whole
        sign, low, comma, high = count.groups()
        if low and max(int(low), int(high or 0)) > _MOST_REPEATS:
            raise ValueError(f"nothing can be repeated more than {_MOST_REPEATS:,} times")
        if high and int(high) < int(low):
            raise ValueError(f"{count[0]} ends before it begins")
        if _COUNT.match(self.rest):
            raise ValueError("a count follows a count")
        if atom.startswith("("):  # llama.cpp multiplies counts with those in the parentheses, not with a rule's
            atom = self._rules.add("counted", atom)
        return atom + (sign or f"{{{low}{comma or ''}{high or ''}}}")

    def _class(self) -> _Ranges:
        negated = self._take("^")
        found: _Ranges = []
        while not self._take("]"):
            first = self._character()
            if self.rest.startswith("-") and not self.rest.startswith("-]"):
                self.rest = self.rest[1:]
                last = self._character()
                if len(first) + len(last) > 2 or first[0][0] != first[0][1] or first[0][0] > last[0][1]:
                    raise ValueError("a range of characters is wrong")
                first = [(first[0][0], last[0][1])]
            found += first
        return _without(found) if negated else found

    def _character(self) -> _Ranges:
        """One character, or an escape for some."""
        if not self.rest:
            raise ValueError("it ends too early")
        character, self.rest = self.rest[0], self.rest[1:]
        if character != "\\":
            return [(ord(character), ord(character))]
        if code := re.match(r"x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})", self.rest):
            self.rest = self.rest[code.end() :]
            return [(int(code[1] or code[2], 16),) * 2]
        escape, self.rest = self.rest[:1], self.rest[1:]
        if escape.lower() in _CLASSES and escape:
            ranges = _CLASSES[escape.lower()]
            return ranges if escape.islower() else _without(ranges)
        if escape in _CONTROLS:
            return [(_CONTROLS[escape],) * 2]
        if not escape or escape.isalnum():
            self._refuse("\\" + escape)
        return [(ord(escape),) * 2]

    def _characters(self, ranges: _Ranges) -> str:
        """GBNF for one of these characters, as it stands in a JSON string."""
        plain = _without(_without(ranges) + _UNWRITTEN)
        ways = [
            literal(json.dumps(character)[1:-1])
            for character in _ESCAPED
            if any(first <= ord(character) <= last for first, last in ranges)
        ]
        if plain:
            ways.append("[" + "".join(f"{_class_code(first)}-{_class_code(last)}" for first, last in plain) + "]")
        if not ways:
            raise ValueError("a class holds no character that JSON can write")
        return ways[0] if len(ways) == 1 else f"({' | '.join(ways)})"

    def _take(self, text: str) -> bool:
        taken = self.rest.startswith(text)
        self.rest = self.rest.removeprefix(text)
        return taken

    def _refuse(self, what: str) -> NoReturn:
        raise ValueError(f"“{what}” is not supported there")


def _without(ranges: _Ranges) -> _Ranges:
    """All characters but these."""
    found: _Ranges = []
    begin = 0
    for first, last in sorted(ranges):
        if first > begin:
            found.append((begin, first - 1))
        begin = max(begin, last + 1)
    return [*found, (begin, _LAST)] if begin <= _LAST else found


def _class_code(code: int) -> str:
    """A code point inside GBNF's square brackets."""
    return class_character(chr(code))
