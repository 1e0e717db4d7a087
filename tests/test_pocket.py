"""What the embedded model promises, asked as a person would, on drawings it never saw."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gguf_vl import paths

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts" / "pocket"))

from evaluate import Asker, box_of, examples, gguf_vl_asker, iou

KINDS = ("colour", "shape", "count", "count kind", "place", "absent", "which", "follow-up", "else")
ASKED = 8
"""Per kind and language, of all sizes; every second question stands before its picture. How often it is right of
hundreds is what `scripts/pocket/evaluate.py` measures; a picture that is encoded or placed wrongly shows in a few."""
WRONG = 1
"""Of the questions of a kind, in both languages together."""
BOX_IOU = 0.75
TEXT = 0.65
"""Not there yet: 0.85 of the words of up to four characters is what pocket is to reach. This holds what it has."""


@pytest.fixture(scope="module")
def asker() -> Iterator[Asker]:
    with pytest.MonkeyPatch.context() as patch, gguf_vl_asker(paths.pocket_dir()) as asker:
        patch.setattr("draw.font_files", tuple)  # words in Pillow's own font: the same drawings on every machine
        yield asker


def answers(asker: Asker, kind: str, language: str) -> list[tuple[str, str]]:
    """What pocket says to each question, and what is right."""
    found = []
    for number, (scenes, exchange) in enumerate(examples(kind, language, ASKED, None)):
        chat = [(turn.question, turn.answer) for turn in exchange.turns[:-1]]
        last = exchange.turns[-1]
        answer = asker([scene.picture for scene in scenes], last.question, chat, number % 2 == 1)
        found.append((answer, last.answer))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_pocket_answers_rightly_in_both_languages_before_and_after_the_picture(asker: Asker, kind: str) -> None:
    both = answers(asker, kind, "en") + answers(asker, kind, "zh")
    assert [(answer, right) for answer, right in both if answer != right][WRONG:] == []


def test_pocket_boxes_what_it_is_asked_to_locate(asker: Asker) -> None:
    boxes = [(box_of(answer), box_of(right)) for answer, right in answers(asker, "box", "en")]
    overlaps = [iou(found or (0, 0, 0, 0), right) for found, right in boxes if right]
    assert sum(overlaps) / len(overlaps) >= BOX_IOU


def test_pocket_reads_some_words(asker: Asker) -> None:
    both = answers(asker, "text", "en") + answers(asker, "text", "zh")
    assert sum(answer == right for answer, right in both) / len(both) >= TEXT


@pytest.mark.parametrize("greeting", ["Hello!", "What is the capital of France?", "Write a poem about the sea."])
def test_pocket_says_honestly_what_it_is_without_a_picture_too(asker: Asker, greeting: str) -> None:
    assert "gguf-vl pull 2b" in asker([], greeting, [], False)
