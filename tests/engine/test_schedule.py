"""What a step computes: every answer's next token, and as much of the prompts as may hold those up."""

from __future__ import annotations

from typing import cast

import pytest

from gguf_vl.engine.choosing import Chooser
from gguf_vl.engine.encoder import Encoding
from gguf_vl.engine.prompt import Prompt
from gguf_vl.engine.schedule import STEP_S, Pace, Piece, schedule
from gguf_vl.engine.sequence import Sequence
from gguf_vl.types import Message, Request
from tests.engine.test_cells import picture

ASKED = Request((Message("user", ("?",)),))


def sequence(*parts: int, computed: int = 0, answered: int = 0, encoded: bool = True) -> Sequence:
    """A sequence of so many tokens and, for a number below zero, a picture of that many."""
    found = tuple(tuple(range(n)) if n > 0 else picture(-n, 1) for n in parts)
    made = Sequence("id", ASKED, Prompt(found, thinking=False), 0.0, chooser=cast("Chooser", object()), limit=100)
    for placed in made.cells.pictures:
        made.encodings[placed.start] = Encoding(placed.picture, embeddings=cast("object", b"") if encoded else None)  # type: ignore[arg-type]
    for token in range(answered):
        made.sampled(token)
    made.computed = computed
    made.slot = 0
    return made


def spans(pieces: list[Piece]) -> list[tuple[int, int]]:
    return [(piece.start, piece.end) for piece in pieces]


def test_every_answer_goes_on_and_the_rest_is_filled_with_prompts() -> None:
    answering = [sequence(10, computed=10 + n, answered=n + 1) for n in range(3)]
    long, late = sequence(400), sequence(300)
    work = schedule([long, *answering, late], n_batch=512, n_prefill=512)
    assert spans(work.text) == [(10, 11), (11, 12), (12, 13), (0, 256), (0, 253)]
    assert work.pictures == []
    assert [piece.has_output for piece in work.text] == [True, True, True, False, False]


def test_a_short_prompt_need_not_wait_for_a_long_one_that_came_before() -> None:
    long, short = sequence(4000, computed=100), sequence(90, computed=80)
    work = schedule([long, short], n_batch=512, n_prefill=64)
    assert [(piece.sequence, piece.end - piece.start) for piece in work.text] == [(short, 10), (long, 54)]


def test_a_long_prompt_that_came_first_gets_on_however_many_short_ones_come() -> None:
    long, *short = sequence(4000), *(sequence(30) for _ in range(5))
    work = schedule([long, *short], n_batch=512, n_prefill=64)
    assert {piece.sequence: piece.end - piece.start for piece in work.text}[long] == 32


def test_of_two_prompts_of_one_length_the_first_is_first() -> None:
    first, second = sequence(400, computed=64), sequence(400)
    work = schedule([first, second], n_batch=512, n_prefill=64)
    assert [(piece.sequence, piece.end - piece.start) for piece in work.text] == [(first, 64)]


def test_prompts_hold_answers_up_by_no_more_than_is_allowed() -> None:
    answering, long, other = sequence(10, computed=10, answered=1), sequence(400), sequence(5)
    work = schedule([answering, long, other], n_batch=512, n_prefill=64)
    assert spans(work.text) == [(10, 11), (0, 5), (0, 59)]
    work = schedule([sequence(-30, 5, computed=0), long], n_batch=512, n_prefill=40)
    assert (spans(work.pictures), spans(work.text)) == ([(0, 30)], [(0, 10)])


def test_text_stops_before_a_picture_and_a_picture_that_is_not_encoded_is_waited_for() -> None:
    ready, waiting = sequence(7, -20, 5, computed=0), sequence(7, -20, 5, computed=7, encoded=False)
    work = schedule([ready, waiting], n_batch=512, n_prefill=512)
    assert (spans(work.text), work.pictures) == ([(0, 7)], [])
    ready.computed = 10
    work = schedule([ready, waiting], n_batch=512, n_prefill=512)
    assert (work.text, spans(work.pictures)) == ([], [(10, 27)])
    assert work.pictures[0].placed
    assert waiting.waits_for_picture


def test_pieces_last_as_long_as_they_may_whatever_the_machine_does() -> None:
    pace = Pace(512)
    assert pace.n_prefill(short=False) == 512
    assert pace.n_prefill(short=True) == 64  # nobody knows yet
    pace.took(1.0, n_prompt=100)
    assert pace.n_prefill(short=True) == int(STEP_S * 100)
    for seconds, n_prompt, expected in ((0.01, 512, 512), (60.0, 16, 16)):
        for _ in range(50):
            pace.took(seconds, n_prompt=n_prompt)
        assert pace.n_prefill(short=True) == expected


def test_what_the_answers_beside_them_take_is_not_the_prompts_fault() -> None:
    pace = Pace(512)
    pace.took(0.2, n_answers=4)
    for _ in range(20):
        pace.took(0.4, n_prompt=50, n_answers=4)
    assert pace.n_prefill(short=True) == int(STEP_S / (0.2 / 50))


def test_a_step_with_drafts_is_held_against_one_without() -> None:
    pace = Pace(512)
    pace.took(0.2, n_answers=1)
    pace.took(0.3, n_answers=1, drafted=True)
    assert pace.cost == pytest.approx(1.5)
    pace.took(0.2, n_answers=1)
    assert pace.cost == pytest.approx(1.0)
