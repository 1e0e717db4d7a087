"""What the embedded model promises, asked as a person would, on drawings it never saw."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gguf_vl import paths

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts" / "pocket"))

from evaluate import Asker, examples, gguf_vl_asker

FLOOR = 0.95
ASKED = 100


@pytest.fixture(scope="module")
def asker() -> Iterator[Asker]:
    with pytest.MonkeyPatch.context() as patch, gguf_vl_asker(paths.pocket_dir()) as asker:
        patch.setattr("draw.font_files", tuple)  # words in Pillow's own font: the same drawings on every machine
        yield asker


@pytest.mark.parametrize("kind", ["colour", "shape", "count", "else"])
def test_pocket_answers_rightly_about_one_to_three_shapes(asker: Asker, kind: str) -> None:
    right = sum(
        asker([scene.picture for scene in scenes], exchange.turns[-1].question, [], False) == exchange.turns[-1].answer
        for scenes, exchange in examples(kind, "en", ASKED, (1, 3))
    )
    assert right / ASKED >= FLOOR


@pytest.mark.parametrize("greeting", ["Hello!", "What is the capital of France?", "Write a poem about the sea."])
def test_pocket_says_honestly_what_it_is_without_a_picture_too(asker: Asker, greeting: str) -> None:
    assert "gguf-vl pull 2b" in asker([], greeting, [], False)
