"""An answer as data, and never half of one."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gguf_vl.errors import AnswerInvalid, CutOff
from gguf_vl.media.boxes import Box, Point
from gguf_vl.tasks import results
from gguf_vl.tasks.task import find, free
from gguf_vl.types import Finished, FinishReason, Picture, Timings, Usage

SEEN = Picture(b"", 1024, 512, (2000, 1000), "0")


def end(reason: FinishReason = "stop", *, stopped_by: str = "") -> Finished:
    return Finished(reason, Usage(1, 1, 1), Timings(0, 0, 0, None), stopped_by=stopped_by)


def test_fields_are_the_json_and_boxes_and_points_are_pixels_of_the_original() -> None:
    answer = '[{"bbox_2d": [0, 100, 500, 1000], "label": "猫"}]'
    found = results.read(find("locate"), answer, end(), [SEEN])
    assert found.fields == json.loads(answer)
    assert found.boxes == (Box("猫", 0, 100, 1000, 1000),)
    points = results.read(find("locate"), '[{"point_2d": [500, 500], "label": "nose"}]', end(), [SEEN])
    assert points.points == (Point("nose", 1000, 500),)
    assert results.as_text(find("locate"), points) == "nose\t1000\t500"


def test_boxes_of_several_pictures_are_the_last_ones() -> None:
    small = Picture(b"", 32, 32, (10, 10), "1")
    assert results.read(None, '{"bbox_2d": [0, 0, 1000, 1000]}', end(), [SEEN, small]).boxes == (Box("", 0, 0, 10, 10),)
    assert results.read(None, '{"bbox_2d": [0, 0, 1000, 1000]}', end(), []).boxes == ()


@pytest.mark.parametrize("reason", ["length", "loop", "cancelled"])
def test_json_that_was_cut_off_is_an_error_with_its_part(reason: FinishReason) -> None:
    partial = '{"title": null, "columns": [\n "a'
    with pytest.raises(CutOff) as error:
        results.read(find("table"), partial, end(reason), [SEEN])
    assert error.value.partial == partial
    assert '"columns": [ "a' in error.value.what
    assert "\n" not in error.value.what


def test_what_is_json_by_chance_is_cut_off_all_the_same() -> None:
    with pytest.raises(CutOff):
        results.read(find("count"), "12", end("length"), [SEEN])
    with pytest.raises(CutOff):
        results.read(find("count"), "12", end(stopped_by="3"), [SEEN])


@pytest.mark.parametrize("answer", ["", "no", '{"a": NaN}', "[" * 100_000])
def test_what_is_no_json_after_all_is_an_error(answer: str) -> None:
    with pytest.raises(AnswerInvalid) as error:
        results.read(free({}), answer, end(), [SEEN])
    assert error.value.answer == answer


def test_words_that_were_cut_off_are_what_they_are() -> None:
    assert results.read(find("describe"), "A red", end("length"), [SEEN]).text == "A red"
    assert results.read(None, "A red", end("length"), [SEEN]).text == "A red"


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("```html\n<p>x</p>\n```", "<p>x</p>"),
        ("```html\n<p>x", "<p>x"),
        ("<p>x</p>", "<p>x</p>"),
        ("Here:\n```html\n<p>x</p>\n```", "Here:\n```html\n<p>x</p>\n```"),
    ],
)
def test_the_fence_around_a_page_is_taken_off(answer: str, text: str) -> None:
    assert results.read(find("html"), answer, end(), [SEEN]).text == text


def table(fields: Any) -> results.Result:
    return results.read(find("table"), json.dumps(fields), end(), [SEEN])


def test_a_table_is_rows_markdown_and_csv() -> None:
    found = table({"title": None, "columns": ["a", "b|c"], "rows": [["1", "x,y"], ["2"], ["3", 'q"', "z"]]})
    assert found.rows == (("a", "b|c", ""), ("1", "x,y", ""), ("2", "", ""), ("3", 'q"', "z"))
    assert results.as_text(find("table"), found).splitlines()[:3] == [
        "| a | b\\|c |  |",
        "| --- | --- | --- |",
        "| 1 | x,y |  |",
    ]
    assert results.as_csv(found.rows) == 'a,b|c,\n1,"x,y",\n2,,\n3,"q""",z\n'


@given(
    st.lists(
        st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0")), min_size=2), max_size=5
    )
)
def test_csv_reads_back_as_the_rows(rows: list[list[str]]) -> None:
    found = table({"title": None, "columns": ["a", "b"], "rows": rows}).rows
    assert [tuple(row) for row in csv.reader(io.StringIO(results.as_csv(found), newline=""))] == list(found)


def test_a_list_of_objects_is_rows_too() -> None:
    assert table([{"a": 1, "b": None}, {"a": True, "c": ["x"]}]).rows == (
        ("a", "b", "c"),
        ("1", "", ""),
        ("true", "", '["x"]'),
    )
    assert table("no table").rows == ()


def test_json_is_shown_readably_and_a_number_as_itself() -> None:
    found = results.read(free({}), '{"a":"猫"}', end(), [])
    assert results.as_text(free({}), found) == '{\n  "a": "猫"\n}'
    assert results.as_text(find("count"), results.read(find("count"), "3", end(), [SEEN])) == "3"


def test_a_sentence_that_a_model_was_taught_for_nothing_is_an_empty_list() -> None:
    found = results.read(find("locate"), "There is no red circle.", end(), [SEEN])
    assert (found.fields, found.boxes, found.text) == ([], (), "There is no red circle.")
    with pytest.raises(AnswerInvalid):
        results.read(find("locate"), "There are none.", end(), [SEEN])
    with pytest.raises(CutOff):
        results.read(find("locate"), "There is no red circle.", end("length"), [SEEN])
    for schema in ({"type": "object"}, {"type": "array", "minItems": 1}):  # as with --schema
        with pytest.raises(AnswerInvalid):
            results.read(replace(find("locate"), schema=schema), "There is no red circle.", end(), [SEEN])
