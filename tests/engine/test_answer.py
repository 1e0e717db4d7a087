"""Tokens' bytes become whole characters, stop at stop strings, and reasoning is told from the answer."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gguf_vl.engine.answer import Answer
from gguf_vl.types import Text, Thinking


def read(pieces: list[bytes], **options: object) -> tuple[str, str, Answer]:
    """(answer, reasoning) of an answer that came in these pieces."""
    answer = Answer(**options)  # type: ignore[arg-type]
    events = [event for piece in pieces for event in answer.push(piece)] + answer.finish()
    text = "".join(event.text for event in events if isinstance(event, Text))
    thinking = "".join(event.text for event in events if isinstance(event, Thinking))
    return text, thinking, answer


def cut(raw: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(raw) + 1) for place in places), len(raw)]
    return [raw[a:b] for a, b in pairwise(edges)]


anywhere = st.lists(st.integers(0, 10_000), max_size=12)


@given(st.text(), anywhere)
def test_text_is_the_same_wherever_its_bytes_are_cut(text: str, places: list[int]) -> None:
    said, _, _ = read(cut(text.encode(), places), thinking=False, stop=["\x00never\x00"])
    assert said == text or text.lstrip().startswith("<think>")


@given(st.text(alphabet="红色🟥é", min_size=1), anywhere)
def test_no_event_ever_holds_a_replacement_character_of_a_split_one(text: str, places: list[int]) -> None:
    answer = Answer()
    for piece in cut(text.encode(), places):
        for event in answer.push(piece):
            assert "\ufffd" not in event.text


def test_a_character_that_the_token_limit_cuts_off_is_dropped() -> None:
    assert read([b"ok ", "红".encode()[:2]])[0] == "ok "


@given(anywhere)
def test_a_stop_string_ends_the_answer_wherever_tokens_split_it(places: list[int]) -> None:
    said, _, answer = read(cut(b"one two STOP three", places), stop=["STOP"])
    assert said == "one two "
    assert answer.stopped_by == "STOP"


def test_the_earliest_of_several_stop_strings_counts() -> None:
    assert read([b"a b c"], stop=["c", "b"])[0] == "a "


def test_text_that_only_began_like_a_stop_string_is_given_in_the_end() -> None:
    said, _, answer = read([b"one ST", b"ART"], stop=["STOP"])
    assert (said, answer.stopped_by) == ("one START", "")
    assert read([b"one ST"], stop=["STOP"])[0] == "one ST"


@given(anywhere)
def test_reasoning_opened_by_the_prompt_ends_at_its_tag(places: list[int]) -> None:
    said, thought, _ = read(cut(b"\nred or blue?\n</think>\n\nIt is red.", places), thinking=True)
    assert thought == "red or blue?\n"
    assert said == "It is red."


@given(anywhere)
def test_reasoning_opened_by_the_model_is_told_apart_too(places: list[int]) -> None:
    said, thought, _ = read(cut(b"<think>\nhm\n</think>\n\nred", places))
    assert (said, thought) == ("red", "hm\n")


def test_a_think_tag_in_the_midst_of_an_answer_is_text() -> None:
    said, thought, _ = read([b"The tag <think> opens", b" reasoning."])
    assert (said, thought) == ("The tag <think> opens reasoning.", "")


def test_stop_strings_do_not_end_reasoning() -> None:
    said, thought, answer = read([b"a STOP b</think>red STOP blue"], thinking=True, stop=["STOP"])
    assert (thought, said, answer.stopped_by) == ("a STOP b", "red ", "STOP")


@given(anywhere)
def test_what_goes_on_is_text_from_its_first_character(places: list[int]) -> None:
    raw = b"\n\n<think>red"
    assert read(cut(raw, places), begun=True)[:2] == (raw.decode(), "")
