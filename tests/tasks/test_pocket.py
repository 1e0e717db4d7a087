"""What pocket was taught, asked as tasks: its answers are right, and its boxes where the things are."""

from __future__ import annotations

import io
from collections.abc import Iterator

import jsonschema
import pytest
from PIL import Image

from gguf_vl.errors import CutOff
from gguf_vl.media.drawing import original
from gguf_vl.tasks.task import Task, find, free, load
from gguf_vl.types import PATCH, PictureLimits
from tests.scenes import png, scene
from tests.tasks.asked import Pocket, loaded_pocket

ORIENTATION = 0x0112


@pytest.fixture(scope="module")
def pocket() -> Iterator[Pocket]:
    with loaded_pocket() as pocket:
        yield pocket


@pytest.fixture(scope="module")
def scene_of_three() -> bytes:
    return png(scene("red circle", "blue square", "yellow star", size=(384, 288), seed=1))


def test_counting_counts_what_is_asked_for(pocket: Pocket, scene_of_three: bytes) -> None:
    assert pocket.do("count", scene_of_three).fields == 3
    assert pocket.do("count", scene_of_three, things="circles").fields == 1
    assert pocket.do("count", scene_of_three, things="triangles").fields == 0


def test_describing_names_all_there_is(pocket: Pocket, scene_of_three: bytes) -> None:
    found = pocket.do("describe", scene_of_three)
    assert (
        found.text == "A yellow star in the middle left, a blue square in the center, a red circle in the bottom left."
    )
    assert (found.fields, found.boxes) == (None, ())


def test_places_are_told(pocket: Pocket, scene_of_three: bytes) -> None:
    assert pocket.do("spatial", scene_of_three, thing="blue square").text == "center"
    assert pocket.do("spatial", scene_of_three, extra="red circle").text == "bottom left"


def test_two_pictures_are_told_apart(pocket: Pocket, scene_of_three: bytes) -> None:
    other = png(scene("green triangle", "purple circle", seed=2))
    assert pocket.do("compare", scene_of_three, other, thing="red circle").text == "first"
    assert pocket.do("compare", scene_of_three, other, thing="green triangle").text == "second"
    assert pocket.do("compare", other, scene_of_three, thing="green triangle").text == "first"


def test_a_word_is_read(pocket: Pocket) -> None:
    assert pocket.do_sample(find("ocr")).text == "CAT"


SIZES = [(256, 256), (384, 288), (640, 480), (1500, 1100)]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("seed", range(1, 4))
def test_boxes_lie_within_one_patch_of_the_truth(pocket: Pocket, size: tuple[int, int], seed: int) -> None:
    drawn = scene("red circle", "blue square", size=size, seed=seed)
    for shape in drawn.shapes:
        [box] = pocket.do("locate", png(drawn), thing=f"{shape.colour} {shape.kind}").boxes
        seen = pocket.picture("locate", png(drawn))
        patch = (PATCH * size[0] / seen.width, PATCH * size[1] / seen.height)
        for at, edge in enumerate((box.x1, box.y1, box.x2, box.y2)):
            assert abs(edge - shape.box[at]) <= patch[at % 2], (shape, box)
        assert box.label == f"{shape.colour} {shape.kind}"


def test_what_is_not_there_is_found_nowhere(pocket: Pocket, scene_of_three: bytes) -> None:
    for thing in ("green circle", "the red square", "purple triangle", "a blue star", "star", "yellow circle"):
        found = pocket.do("locate", scene_of_three, thing=thing)
        assert (found.fields == []) == (thing != "star"), thing
        assert len(found.boxes) == (thing == "star"), thing


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_boxes_are_pixels_of_the_picture_as_it_stands_upright(pocket: Pocket, orientation: int) -> None:
    drawn = scene("red circle", "blue square", size=(640, 480), seed=3)
    turned = drawn.picture.transpose(
        {
            3: Image.Transpose.ROTATE_180,
            6: Image.Transpose.ROTATE_90,
            8: Image.Transpose.ROTATE_270,
        }[orientation]
    )
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    buffer = io.BytesIO()
    turned.save(buffer, "JPEG", exif=exif, quality=95)
    [box] = pocket.do("locate", buffer.getvalue(), thing="red circle").boxes
    upright = original(buffer.getvalue(), PictureLimits(1, 1))
    assert upright.size == (640, 480)
    middle = upright.getpixel(((box.x1 + box.x2) // 2, (box.y1 + box.y2) // 2))
    assert isinstance(middle, tuple)
    assert middle[0] > 150 > 100 > max(middle[1:])
    [circle] = [shape for shape in drawn.shapes if shape.kind == "circle"]
    truth = circle.box
    assert all(abs(edge - truth[at]) <= PATCH for at, edge in enumerate((box.x1, box.y1, box.x2, box.y2)))


def test_json_that_had_no_room_is_an_error_with_its_part(pocket: Pocket, scene_of_three: bytes) -> None:
    with pytest.raises(CutOff) as cut:
        pocket.do("locate", scene_of_three, thing="red circle", max_tokens=12)
    assert cut.value.partial.startswith('[{"bbox_2d"')
    assert cut.value.exit_code == 1


def test_a_number_that_had_no_room_is_not_taken_for_a_smaller_one(pocket: Pocket, scene_of_three: bytes) -> None:
    with pytest.raises(CutOff):
        pocket.do("count", scene_of_three, max_tokens=1)


def test_a_schema_of_ones_own_holds_an_answer(pocket: Pocket, scene_of_three: bytes) -> None:
    schema = {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {
                "shape": {"enum": ["circle", "square", "star"]},
                "color": {"type": "string"},
                "place": {"type": "string"},
            },
            "required": ["shape", "color", "place"],
        },
    }
    found = pocket.do(free(schema), scene_of_three, extra="List the shapes as JSON.").fields
    jsonschema.validate(found, schema)
    assert {(each["color"], each["shape"]) for each in found} == {
        ("red", "circle"),
        ("blue", "square"),
        ("yellow", "star"),
    }


KNOWN = [task for task in load().values() if not task.is_beyond("pocket")]


@pytest.mark.parametrize("task", KNOWN, ids=[task.name for task in KNOWN])
def test_every_task_that_pocket_knows_is_valid_on_its_own_sample(pocket: Pocket, task: Task) -> None:
    found = pocket.do_sample(task)
    assert found.text
    if task.schema is not None:
        jsonschema.validate(found.fields, task.schema)


def test_a_timeline_of_its_sample_says_what_comes_and_when(pocket: Pocket) -> None:
    found = pocket.do_sample(find("timeline")).fields
    assert [(each["start"], each["end"]) for each in found] == [(0.0, 1.0), (1.0, 2.0), (2.0, 3.0)]
    assert [("red circle" in each["event"], "blue square" in each["event"]) for each in found] == [
        (False, False),
        (True, False),
        (True, True),
    ]


def test_what_is_beyond_pocket_is_said_and_nothing_else() -> None:
    assert [task.name for task in KNOWN] == ["describe", "ocr", "locate", "count", "compare", "spatial", "timeline"]
    assert find("receipt").is_beyond("pocket")
    assert not find("receipt").is_beyond("2b")
