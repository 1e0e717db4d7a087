"""A pattern's grammar matches what the pattern matches."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gguf_vl.engine.grammar.json_rules import Rules
from gguf_vl.engine.grammar.pattern import expression
from gguf_vl.errors import UsageError
from tests.engine.grammar.grammars import fulfils


def matches(pattern: str, text: str) -> bool:
    rules = Rules()
    rules.fill("root", expression(pattern, rules))
    return fulfils(rules.text(), json.dumps(text, ensure_ascii=False)[1:-1])


TEXTS = [
    "",
    "a",
    "b",
    "ab",
    "abc",
    "aab",
    "A1_",
    "12",
    "1-2",
    "-",
    "é",
    "红色",
    "🟥",
    '"',
    "\\",
    "\n",
    "a b",
    "]",
    "^$.*",
]


LIKE_PYTHON = r"""
^a$ ^$ ^a*b+c?$ ^(a|b)*$ ^(?:ab|)c?$ ^[a-c]{2,3}$ ^[^a]$ ^.$ ^\d+-?\d*$ ^\w+$ ^[\w-]+$ ^[^\W\d]+$ ^\S+$ ^\s$
^[\]\\^-]$ ^\^\$\.\*$ ^["\\\n]$ ^\x61b{0}$ ^\u7ea2.$ ^a{2}b{1,}$ ^(a(b(c)?)?)?$ ^(a|ab)(c|bc)?$ ^a+?b$ ^[ab]{0,2}c{0,1}$
""".split()


@pytest.mark.parametrize("pattern", LIKE_PYTHON)
def test_it_matches_what_the_pattern_does(pattern: str) -> None:
    for text in TEXTS:
        if text.isascii() or "\\w" not in pattern.lower():  # Python's \w has letters that ECMA-262's has not
            assert matches(pattern, text) == bool(re.fullmatch(pattern[1:-1], text)), text


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("a", "whole string"),
        ("^a", "whole string"),
        (r"^a\$", "whole string"),
        ("^a|b$", "need a group"),
        ("^(a$", "is missing"),
        ("^a)$", "no partner"),
        ("^[a$", "too early"),
        ("^*$", "not supported"),
        ("^a**$", "count follows a count"),
        ("^a{3,1}$", "ends before it begins"),
        ("^a{2000}$", "more than 1,999"),
        ("^a{$", "not supported"),
        (r"^\bx$", r"“\b” is not"),
        (r"^(a)\1$", r"“\1” is not"),
        (r"^\p{L}$", r"“\p” is not"),
        ("^(?!a)$", "“(?!” is not"),
        ("^(?<n>a)$", "“(?<” is not"),
        ("^a^b$", "“^” is not"),
        ("^[z-a]$", "range"),
        (r"^[\d-z]$", "range"),
        (r"^\x00$", "no character"),
        ("^" + "(" * 1000 + ")" * 1000 + "$", "inside each other"),
    ],
)
def test_what_a_grammar_cannot_say_is_named(pattern: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        expression(pattern, Rules())


@given(st.text(st.sampled_from(r"ab01^$.*+?(){}[]|\-dws,:!=<é"), max_size=14), st.sampled_from(TEXTS))
def test_any_text_as_a_pattern_is_understood_or_refused(inside: str, text: str) -> None:
    try:
        found = matches(f"^{inside}$", text)
    except (ValueError, UsageError):
        return
    try:
        expected = bool(re.fullmatch(inside, text, re.ASCII))
    except re.error:
        return  # Python's own patterns differ
    assert found == expected or "\\s" in inside.lower() or "[^]" in inside or "[]" in inside
