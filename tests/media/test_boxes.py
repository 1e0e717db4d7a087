from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gguf_vl.media.boxes import Box, Point, find_boxes, find_points

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


@pytest.mark.parametrize(
    "answer",
    [
        '{"bbox_2d": [100, 200, 300, 400], "label": "猫",}',
        "[{'bbox_2d': [100, 200, 300, 400], 'label': '猫'}]",
        '{"bbox_2d": [100, 200, 300, 400], "label": "猫}',
        "{“bbox_2d”：[100，200，300，400]，“label”：“猫”}",
        '{"bbox_2d": (100, 200, 300, 400), "label": "猫"}',
        '{"标签": "猫", "bbox_2d": [100, 200, 300, 400]}',
        '{"name": "猫", "bbox_2d": [[100, 200, 300, 400]]}',
    ],
    ids=[
        "a comma too many",
        "single quotes",
        "a quote too few",
        "Chinese marks",
        "round",
        "Chinese key",
        "a list of one",
    ],
)
def test_what_is_not_quite_json_is_understood(answer: str) -> None:
    assert find_boxes(answer, SIZE) == [Box("猫", 200, 80, 600, 160)]


def test_several_places_of_one_label_are_several_boxes() -> None:
    answer = '{"bbox_2d": [[100, 200, 300, 400], [500, 0, 1000, 250]], "label": "cat"}'
    assert find_boxes(answer, SIZE) == [CAT_BOX, Box("cat", 1000, 0, 2000, 100)]


def test_a_document_in_html_has_its_boxes_in_its_elements() -> None:
    answer = """```html
<html><body>
<h2 data-bbox="100 200 300 400">A title</h2>
<div class="image" data-bbox="500,0,1000,250"><img data-bbox="500 0 1000"/></div>
</body></html>"""
    assert find_boxes(answer, SIZE) == [Box("h2", 200, 80, 600, 160), Box("image", 1000, 0, 2000, 100)]


NOSE = '{"point_2d": [250, 500], "label": "nose", "role": "player"}'


@pytest.mark.parametrize(
    "answer",
    [
        NOSE,
        f"```json\n[{NOSE}]\n```",
        f'[{NOSE}, {{"point_2d": [1, ',
        f'{{"face": {{"parts": [{NOSE}]}}}}',
        '{"point_2d": [[250, 500]], "label": "nose"}',
        "{'point_2d': [250, 500], 'label': 'nose'}",
    ],
)
def test_points_are_found_however_the_model_wraps_them(answer: str) -> None:
    assert find_points(answer, SIZE) == [Point("nose", 500, 200)]
    assert find_boxes(answer, SIZE) == []


def test_boxes_and_points_of_one_answer_are_told_apart() -> None:
    answer = f"[{CAT}, {NOSE}]"
    assert (find_boxes(answer, SIZE), find_points(answer, SIZE)) == ([CAT_BOX], [Point("nose", 500, 200)])


@given(st.lists(st.integers(-100, 1100), min_size=2, max_size=2), st.integers(1, 9000), st.integers(1, 9000))
def test_every_point_lies_within_the_picture(place: list[int], width: int, height: int) -> None:
    (point,) = find_points(json.dumps([{"point_2d": place, "label": "x"}]), (width, height))
    assert 0 <= point.x <= width
    assert 0 <= point.y <= height


_LABELS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_PLACES = st.lists(st.integers(0, 1000), min_size=4, max_size=4)


@given(
    st.lists(st.tuples(_PLACES, _LABELS), max_size=4), st.booleans(), st.sampled_from([None, 1, "\t"]), st.booleans()
)
def test_what_is_written_in_any_style_reads_back(
    written: list[tuple[list[int], str]], is_fenced: bool, indent: int | str | None, is_ascii: bool
) -> None:
    things = [{"bbox_2d": place, "label": label} for place, label in written]
    answer = json.dumps(things, indent=indent, ensure_ascii=is_ascii)
    found = find_boxes(f"```json\n{answer}\n```" if is_fenced else answer, (1000, 1000))
    assert [box.label for box in found] == [label for _, label in written]
    for box, (place, _) in zip(found, written, strict=True):
        assert (box.x1, box.x2) == tuple(sorted(place[0::2]))
        assert (box.y1, box.y2) == tuple(sorted(place[1::2]))


@given(st.text(alphabet="{}[]()\"'“”,，:：\\ab1 <>=-_point2dbxlabel标签\n"))
def test_no_answer_breaks_the_search_for_points(answer: str) -> None:
    find_points(answer, SIZE)
    find_boxes(answer, SIZE)


@pytest.mark.parametrize(
    "piece", ['{"bbox_2d": [', "{'bbox_2d': [1, 2, ", '<p data-bbox="1 2 ', '"label": "', "<p ", "{"]
)
def test_long_broken_answers_take_no_long_time(piece: str) -> None:
    assert find_boxes(piece * 5000, SIZE) == []
