from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gguf_vl.media.boxes import Box, find_boxes

CAT = '{"bbox_2d": [100, 200, 300, 400], "label": "cat"}'
DOG = '{"bbox_2d": [500, 0, 1000, 250], "label": "dog"}'
SIZE = (2000, 400)
CAT_BOX = Box("cat", 200, 80, 600, 160)
DOG_BOX = Box("dog", 1000, 0, 2000, 100)


@pytest.mark.parametrize(
    "answer",
    [
        f"[{CAT}, {DOG}]",
        f"```json\n[\n\t{CAT},\n\t{DOG}\n]\n```",
        f'Here they are (both 5" high):\n```json\n[{CAT}, {DOG}]\n```\nAnything {{else}}?',
        f"{CAT}\n{DOG}",
        f'{{"animals": [{CAT}, {DOG}]}}',
        f'[{CAT}, {DOG}, {{"bbox_2d": [1, 2, 3',
        f'{{"animals": [{CAT}, {DOG}, {{"bbox_2d": [1, 2, 3, 4], "lab',
    ],
    ids=["list", "fenced", "text around", "one after another", "nested", "cut off", "nested and cut off"],
)
def test_boxes_are_found_however_the_model_wraps_them(answer: str) -> None:
    assert find_boxes(answer, SIZE) == [CAT_BOX, DOG_BOX]


def test_a_single_object_is_one_box() -> None:
    assert find_boxes(CAT, SIZE) == [CAT_BOX]


def test_text_that_was_read_off_the_picture_labels_its_box() -> None:
    assert find_boxes('[{"bbox_2d": [0, 0, 1000, 1000], "text_content": "EXIT {2}"}]', SIZE) == [
        Box("EXIT {2}", 0, 0, 2000, 400)
    ]


def test_a_box_without_a_label_has_an_empty_one() -> None:
    assert find_boxes('{"bbox_2d": [0, 0, 500, 500]}', SIZE) == [Box("", 0, 0, 1000, 200)]


def test_corners_are_put_in_order_and_clamped_to_the_picture() -> None:
    assert find_boxes('{"bbox_2d": [1200, 900.5, -50, 100], "label": "x"}', SIZE) == [Box("x", 0, 40, 2000, 360)]


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "There is no cat here.",
        "{not json}",
        '{"label": "cat"}',
        '{"bbox_2d": [1, 2, 3], "label": "three numbers"}',
        '{"bbox_2d": "1, 2, 3, 4", "label": "a string"}',
        '{"bbox_2d": [1, 2, null, 4], "label": "null"}',
        '{"bbox_2d": [true, 2, 3, 4], "label": "bool"}',
        '{"bbox_2d": [NaN, 2, 3, 4], "label": "nan"}',
        '{"a":' * 5000,
        '{"bbox_2d": [1, 2, 3, ' + "9" * 5000 + "]}",
    ],
)
def test_what_is_not_a_box_is_left_out(answer: str) -> None:
    assert find_boxes(answer, SIZE) == []


def test_a_number_beyond_any_float_is_clamped_too() -> None:
    big = "9" * 400
    assert find_boxes(f'{{"bbox_2d": [0, 0, {big}, 1e999], "label": "x"}}', SIZE) == [Box("x", 0, 0, 2000, 400)]


@given(st.lists(st.integers(-100, 1100), min_size=4, max_size=4), st.integers(1, 9000), st.integers(1, 9000))
def test_every_box_lies_within_the_picture(corners: list[int], width: int, height: int) -> None:
    (box,) = find_boxes(json.dumps([{"bbox_2d": corners, "label": "x"}]), (width, height))
    assert 0 <= box.x1 <= box.x2 <= width
    assert 0 <= box.y1 <= box.y2 <= height


@given(st.integers(0, 399), st.integers(0, 399))
def test_a_pixel_edge_written_in_thousandths_maps_back_to_itself(x: int, y: int) -> None:
    corners = [round(x / 400 * 1000), round(y / 400 * 1000), 1000, 1000]
    assert find_boxes(json.dumps({"bbox_2d": corners}), (400, 400)) == [Box("", x, y, 400, 400)]


@given(st.integers(0, 400))
def test_any_cut_keeps_the_boxes_that_were_complete(cut: int) -> None:
    whole = f"```json\n[{CAT}, {DOG}]\n```"
    kept = find_boxes(whole[:cut], SIZE)
    assert kept == [CAT_BOX, DOG_BOX][: len(kept)]
    assert len(kept) == sum(whole[:cut].count(one) for one in (CAT, DOG))


@given(st.text(alphabet='{}[]",:\\ab1 bbox_2d'))
def test_no_answer_breaks_the_search(answer: str) -> None:
    find_boxes(answer, SIZE)
