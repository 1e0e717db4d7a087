"""The presets, and that the web page offers the same."""

from __future__ import annotations

import re
from pathlib import Path

from gguf_vl.chat.presets import preset, presets
from gguf_vl.types import Sampling

TASKS = Path(__file__).parents[2] / "gguf_vl" / "server" / "page" / "tasks.js"


def test_they_are_those_of_the_web_page() -> None:
    page = re.sub(r'["\'] \+\n +["\']', "", TASKS.read_text(encoding="utf-8"))
    for each in presets():
        assert f'name: "{each.name}"' in page
        assert f'hint: "{each.hint}"' in page
        assert each.prompt in page
        assert not each.select or f'select: "{each.select}"' in page
    assert page.count("name: ") == len(presets())


def test_each_has_a_key_of_its_own_and_settings_that_there_are() -> None:
    assert len({each.key for each in presets()}) == len({each.name for each in presets()}) == len(presets())
    for each in presets():
        assert re.fullmatch("[a-z]", each.key)
        assert each.title
        assert each.detail in (None, "low", "auto", "high")
        Sampling(**each.sampling)  # type: ignore[arg-type]


def test_what_will_be_changed_is_in_the_question() -> None:
    boxes = preset("Find with boxes")
    assert boxes
    start, end = boxes.selected
    assert boxes.prompt[start:end] == "every object"
    describe = preset("Describe")
    assert describe
    assert describe.selected == (len(describe.prompt), len(describe.prompt))
    assert preset("no such") is None


def test_reading_invents_nothing() -> None:
    for name in ("Read the text", "Find with boxes", "Receipt to JSON", "Table"):
        each = preset(name)
        assert each
        assert each.sampling["temperature"] <= 0.1
