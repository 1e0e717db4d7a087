"""What llama.cpp cannot take is refused before it sees it, with the reason; what is let through it takes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_cpp import llama_cpp as llama

from gguf_vl import paths
from gguf_vl.errors import UsageError
from gguf_vl.native import gbnf
from gguf_vl.native.model import Model

GOOD = [
    'root ::= "a"',
    'root::="a"|"b"\n\n# the end',
    'root ::= [^a-z\\]\\n\\x00-\\x1F] . "\\u00e9\\"" other-1?\nother-1 ::= ( "x" |\n  "y" ){2,3}  # said\n',
    'root ::= !<tool_call>* <tool_call> <[65]> "b"{2} "c"{0,}',
    'root ::= ("a"*)* | (("a"?)+ "b"?)*',
    'root ::= "" | []\r\nx ::= root',
    'root ::= "[" (root ("," root)*)? "]"',
    'root ::= "红色🟥" [红-龟]',
]

BAD = [
    ("", "no rule “root”"),
    ('x ::= "a"', "no rule “root”"),
    ('root ::= "a', "line 1: a new line is missing"),
    ('root ::= "a"\nroot ::= "b"', "line 2: the rule “root” is there twice"),
    ("root ::= [a", "new line"),
    ('root ::= ("a"', "“)” is missing"),
    ('root ::= "a")', "new line"),
    ('root = "a"', "“::=” is missing"),
    ("root ::= word", "the rule “word”, which “root” names"),
    ("root ::= a_b", "new line"),
    ('root ::= "\\q"', "new line"),
    ('root ::= "\\x4"', "new line"),
    ("root ::= *", "new line"),
    ("root ::= a | *\na ::= []", "new line"),
    ('root ::= ""*', "nothing to repeat"),
    ('root ::= "a"{5,2}', "ends before it begins"),
    ('root ::= "a"{2000}', "more than 1,999 times"),
    ('root ::= "a"{0,2000}', "more than 1,999 times"),
    ('root ::= "a"{99999999999999999999999}', "more than 1,999 times"),
    ('root ::= "' + "a" * 1000 + '"{0,1999}', "too large"),
    ("root ::= " + "(" * 200_000 + '"a"' + ")" * 200_000, "parentheses inside each other"),
    ('root ::= root "a" | "b"', "“root” begins with itself"),
    ('root ::= "x" | more\nmore ::= "" again\nagain ::= ("b"* (more | "c"))', "“more” begins with itself"),
    ('root ::= f root "b" | "a"\nf ::= e\ne ::= ""', "“root” begins with itself"),
    ("\n".join(f"r{i} ::= r{i + 1}?" for i in range(3000)) + '\nr3000 ::= "x"\nroot ::= r0', "begin with one another"),
    ('root ::= "\0"', "cannot be in a grammar"),
    ('root ::= "\ud800"', "cannot be in a grammar"),
    ("root ::= <[1>", "new line"),
    ("root ::= <tool_call", "new line"),
]


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    with Model(paths.pocket_dir() / "pocket-F16.gguf", n_gpu_layers=0, on_progress=lambda _: None) as model:
        yield model


def taken(model: Model, text: str) -> bool:
    """Whether llama.cpp takes it. It may end this process instead."""
    sampler = llama.llama_sampler_init_grammar(model.vocab, text.encode(), b"root")
    if sampler:
        llama.llama_sampler_free(sampler)
    return bool(sampler)


@pytest.mark.parametrize("text", GOOD)
def test_what_is_right_is_let_through_and_llama_cpp_takes_it(model: Model, text: str) -> None:
    gbnf.check(text)
    assert taken(model, text)


@pytest.mark.parametrize(("text", "reason"), BAD, ids=[f"{text[:30]!r}" for text, _ in BAD])
def test_what_llama_cpp_cannot_take_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        gbnf.check(text)
    assert reason in caught.value.what


MANY_WAYS = [
    'root ::= "x" root "y" | "x" root "z" | "w"',
    'root ::= "(" more ")"\nmore ::= "[" root "]" | "[" root "}" | ""',
    "root ::= many{1,999}\nmany ::= .{1,999}",
    'root ::= !<tool_call>* (<tool_call> "\\n" a)?\na ::= "[" a "]" | [^a-z] a "," a? "]" | "0"',
]

FEW_WAYS = [
    'root ::= "add(" root "," root ")" | "and(" root "," root ")" | [0-9]{1,9}',
    "root ::= " + " | ".join(f'"item-{i}"' for i in range(2000)),
    'root ::= word{1,20}\nword ::= [a-z]{1,10} " "?',
    'root ::= part{3} "."\npart ::= [0-9]{1,3} "."',
]


@pytest.mark.parametrize("text", MANY_WAYS)
def test_what_can_be_read_in_more_ways_with_each_character_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="too many ways"):
        gbnf.check(text)


@pytest.mark.parametrize("text", FEW_WAYS, ids=[text[:30] for text in FEW_WAYS])
def test_what_can_be_read_in_a_few_ways_is_not(text: str) -> None:
    gbnf.check(text)


def test_the_tokens_that_a_grammar_names_are_told() -> None:
    assert gbnf.check('root ::= !<tool_call>* (<[65]> | "<b>")') == {"<tool_call>", "<[65]>"}


pieces = st.sampled_from(
    [
        *'|()*+?"\\#<.é- \n',
        "root",
        "a",
        "b",
        " ::= ",
        "{2}",
        "{0,3}",
        "{3,1}",
        '"a"',
        "[a-z]",
        "[^",
        "]",
        "\\n",
        "!<think>",
    ]
)
sequences = st.lists(pieces, max_size=8).map("".join)


@given(sequences, sequences, sequences)
def test_whatever_is_let_through_llama_cpp_answers(model: Model, one: str, two: str, three: str) -> None:
    text = f"root ::= {one}\na ::= {two}\nb ::= {three}"
    try:
        gbnf.check(text)
    except UsageError:
        return
    taken(model, text)
