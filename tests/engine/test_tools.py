"""Tool calls are found however the answer is cut in pieces, and a choice of tools forces them."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gguf_vl.engine.tools import OPEN, CallArguments, CallEnded, CallStarted, Tool, ToolCalls, grammar_of_tools
from gguf_vl.errors import UsageError
from gguf_vl.native.grammar import Grammar
from gguf_vl.types import Text
from tests.engine.grammar.grammars import as_said, fulfils, pocket

WEATHER = Tool(
    "get_weather",
    {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
        "required": ["city"],
    },
)
NOW = Tool("now")


def call(name: str, arguments: Any) -> str:
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments}, ensure_ascii=False)}\n</tool_call>"


def read(answer: str, places: list[int] | None = None) -> tuple[list[Any], ToolCalls]:
    """What an answer that came in these pieces says: texts, and calls as (name, arguments, complete)."""
    calls = ToolCalls()
    edges = [0, *sorted(place % (len(answer) + 1) for place in places or []), len(answer)]
    events = [event for a, b in pairwise(edges) for event in calls.push(answer[a:b])] + calls.finish()
    found: list[Any] = []
    for event in events:
        match event:
            case Text(text):
                found = [*found[:-1], found[-1] + text] if found and isinstance(found[-1], str) else [*found, text]
            case CallStarted(index, id, name):
                assert index == sum(isinstance(each, tuple) for each in found)
                assert id.startswith("call_")
                found.append((name, ""))
            case CallArguments(index, text):
                name, arguments = found[-1]
                found[-1] = (name, arguments + text)
            case CallEnded(index, complete):
                found[-1] = (*found[-1], complete)
    return found, calls


anywhere = st.lists(st.integers(0, 10_000), max_size=20)
TWO = "Let me see.\n" + call("get_weather", {"city": 'Paris {"}'}) + "\n" + call("now", {}) + "\n"


@given(anywhere)
def test_calls_are_found_wherever_the_answer_is_cut(places: list[int]) -> None:
    weather = ("get_weather", json.dumps({"city": 'Paris {"}'}), True)
    assert read(TWO, places)[0] == ["Let me see.", weather, ("now", "{}", True)]


def test_arguments_are_passed_on_as_they_come() -> None:
    calls = ToolCalls()
    calls.push('<tool_call>\n{"name": "look", "arguments": {"wh')
    assert calls.push("at") == [CallArguments(0, "at")]
    assert calls.push('": 1}') == [CallArguments(0, '": 1}'), CallEnded(0, True)]
    assert calls.push("}\n</tool_call>\n") == []
    assert calls.push("Done.") == [Text("Done.")]


def test_ids_are_new_for_each_call() -> None:
    ids = [event.id for event in ToolCalls().push(TWO) if isinstance(event, CallStarted)]
    assert len(set(ids)) == 2


@given(st.text(st.sampled_from('<tool_cal>/ \n"{}x'), max_size=60), anywhere)
def test_text_without_a_call_is_given_whole(text: str, places: list[int]) -> None:
    found, _ = read(text, places)
    assert "".join(found) == text


@given(st.text(st.sampled_from('<tool_cal>/ \n"{}:,x\\'), max_size=40), anywhere)
def test_whatever_stands_between_the_tags_it_is_read_the_same_in_pieces(text: str, places: list[int]) -> None:
    answer = f'<tool_call>{{"name": "x", "arguments": {{{text}</tool_call> {text}'
    assert read(answer, places)[0] == read(answer)[0]


@pytest.mark.parametrize(
    ("body", "name", "arguments"),
    [
        ('{"name":"a","arguments":{}}', "a", "{}"),
        ('\n\n { "name" : "a" , "arguments" : {"x": "}"} }', "a", '{"x": "}"}'),
        ('{"arguments": {"x": 1}, "name": "a"}', "a", '{"x": 1}'),
        ('{"name": "a"}', "a", "{}"),
        ('{"name": "\\u00e9\\"", "arguments": {}}', 'é"', "{}"),
        ('{"name": "a", "arguments": {}, "id": 5}', "a", "{}"),
    ],
)
def test_the_same_call_can_be_written_in_other_ways(body: str, name: str, arguments: str) -> None:
    assert read(f"<tool_call>{body}</tool_call>")[0][0] == (name, arguments, True)
    if "id" not in body:
        assert read(f"<tool_call>{body}")[0] == [(name, arguments, True)]  # the end of the answer ends it too


@pytest.mark.parametrize(
    "body",
    ["", "nothing", "[]", "{}", '{"name": "a', '{"name": 5, "arguments": {}}', '{"name": "\\q", "arguments": {}}']
    + [f'{{"name": "a", "arguments": {arguments}}}' for arguments in ("[1]", '"{}"', "null", "[" * 100_000)],
)
def test_what_is_no_call_is_text(body: str) -> None:
    answer = f"Look: <tool_call>{body}</tool_call> so."
    assert "".join(read(answer)[0]) == answer
    assert read(f"<tool_call>{body}")[0] == [f"<tool_call>{body}"]


@pytest.mark.parametrize("arguments", ['{"a": ', '{"a": "b}', '{"a" 1}', '{"a": "\n"}', "{1}"])
def test_a_call_that_breaks_off_is_incomplete_and_swallows_nothing(arguments: str) -> None:
    answer = f'<tool_call>{{"name": "a", "arguments": {arguments}</tool_call>\nSorry. ' + call("now", {})
    assert read(answer)[0] == [("a", arguments, False), "Sorry.", ("now", "{}", True)]


def test_a_forgotten_closing_tag_ends_nothing_but_its_call() -> None:
    answer = call("now", {}).removesuffix("\n</tool_call>")
    assert read(f"{answer} And then?")[0] == [("now", "{}", True), "And then?"]
    assert read(answer + "\n" + call("now", {"x": 1}))[0] == [("now", "{}", True), ("now", '{"x": 1}', True)]


ONE = call("get_weather", {"city": "Paris", "days": 3})
BOTH = ONE + "\n" + call("now", {})


@pytest.mark.parametrize(
    ("choice", "parallel", "accepted", "refused"),
    [
        ("auto", True, ["", "It is red. 🦄", ONE, f"See 🦄:\n{ONE}", BOTH], [ONE + " So.", "<tool_call>red", ONE[:-9]]),
        ("auto", False, ["It is red.", f"Let me see.\n{ONE}"], [BOTH]),
        ("required", True, [ONE, BOTH, call("now", {})], ["", "It is red.", f"See: {ONE}"]),
        ("required", False, [ONE, call("now", {})], [BOTH]),
        (NOW, True, [call("now", {})], [ONE, BOTH, call("now", {}) * 2, "", call("now", {"x": 1})]),
        (WEATHER, True, [ONE], [call("get_weather", {"days": 3}), call("get_weather", {"city": "x", "days": 10})]),
        (Tool("free", {}), True, [call("free", {}), call("free", {"a": [1]})], [call("free", 5)]),
    ],
)  # fmt: skip
def test_a_choice_forces_the_answer(choice: Any, parallel: bool, accepted: list[str], refused: list[str]) -> None:
    name = choice.name if isinstance(choice, Tool) else choice
    tools = [WEATHER, NOW, *([choice] if isinstance(choice, Tool) else [])]
    grammar = grammar_of_tools(tools, name, parallel=parallel)
    behind = OPEN if choice == "auto" else None
    assert [text for text in accepted if not fulfils(grammar, text, behind)] == []
    assert [text for text in refused if fulfils(grammar, text, behind)] == []


@pytest.mark.parametrize("choice", ["auto", "required"])
def test_an_answer_without_a_call_fulfils_the_schema_and_one_that_calls_need_not(choice: Any) -> None:
    schema = {"type": "object", "properties": {"red": {"type": "boolean"}}, "required": ["red"]}
    grammar = grammar_of_tools([WEATHER, NOW], choice, schema=schema)
    assert fulfils(grammar, ONE)
    assert fulfils(grammar, BOTH)
    assert fulfils(grammar, '{"red": true}') == (choice == "auto")
    assert not fulfils(grammar, "It is red.")
    assert not fulfils(grammar, '{"red": 1}')


@pytest.mark.parametrize("text", ["It is red. 🦄", f"See:\n{ONE}", ONE])
def test_a_call_that_is_the_models_to_decide_may_follow_open_reasoning(text: str) -> None:
    with Grammar(pocket(), grammar_of_tools([WEATHER], "auto"), thinking=True, behind=OPEN) as grammar:
        for token in as_said("Well, 🦄 now.\n"):
            grammar.accept(token)
        assert not grammar.allows(pocket().special_tokens["<|im_end|>"])
        for token in as_said("</think>\n\n" + text):
            grammar.accept(token)
        assert grammar.allows(pocket().special_tokens["<|im_end|>"])


def test_a_required_call_may_follow_open_reasoning() -> None:
    with Grammar(pocket(), grammar_of_tools([NOW], "required"), thinking=True) as grammar:
        for token in as_said("Well, now.\n</think>\n\n" + call("now", {})):
            grammar.accept(token)
        assert grammar.allows(pocket().special_tokens["<|im_end|>"])


def test_a_required_call_without_tools_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="no tools"):
        grammar_of_tools([], "required")
    assert grammar_of_tools([], "auto") == grammar_of_tools([NOW], "none") == ""


def test_a_tool_whose_schema_cannot_be_used_is_named() -> None:
    with pytest.raises(UsageError, match="at look#/properties/a/not"):
        grammar_of_tools([Tool("look", {"properties": {"a": {"not": {}}}})], "auto")
