"""`gguf-vl ask` about videos and documents: `pocket` sees the frames and pages, in their order and at their times."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from gguf_vl import paths
from gguf_vl.engine.blocking import BlockingEngine
from gguf_vl.engine.client import Engine
from gguf_vl.media.video import Frames, load_clip
from gguf_vl.types import EngineSettings, Message, Request, Sampling, Text
from tests.cli.command import SHAPES, gguf_vl
from tests.media.clips import MOVING, clip, moving, steady
from tests.scenes import POCKET_LIMITS, scene

RED, BLUE, GREEN = (scene(thing).picture for thing in ("red circle", "blue star", "green square"))


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """A red circle for a second, then a blue star."""
    return clip(tmp_path / "clip.mp4", steady([RED, BLUE], 1.0))


@pytest.fixture
def report(tmp_path: Path) -> str:
    """Two pages: a red circle, a blue star."""
    RED.copy().save(tmp_path / "report.pdf", "PDF", save_all=True, append_images=[BLUE.copy()])
    return str(tmp_path / "report.pdf")


def asked(*words: str) -> str:
    done = gguf_vl("ask", "-m", "pocket", *words)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode().strip()


def test_a_clip_is_asked_like_a_picture(film: Path) -> None:
    assert asked(str(film), "Which picture has the blue star?") == "second"
    assert asked(str(film), "Which picture has the red circle?") == "first"
    assert asked("--scenes", str(film), "Which picture has the blue star?") == "second"
    assert asked("--frames", "1", str(film), "What colour is the circle?") == "red"


def test_a_video_comes_from_standard_input(film: Path) -> None:
    done = gguf_vl("ask", "-m", "pocket", "-", "Which picture has the blue star?", stdin=film.read_bytes())
    assert (done.returncode, done.stdout) == (0, b"second\n")


def test_pages_are_asked_in_the_order_in_which_they_are_named(report: str) -> None:
    assert asked(report, "Which picture has the blue star?") == "second"
    assert asked(f"{report}#2,1", "Which picture has the blue star?") == "first"
    assert asked(f"{report}#2", "What colour is the star?") == "blue"


def test_two_frames_cost_the_tokens_of_one(film: Path) -> None:
    done = gguf_vl("ask", "--json", "-m", "pocket", str(film), "How many shapes are there?")
    assert json.loads(done.stdout)["usage"]["image_tokens"] == 2 * 64  # four frames


def test_what_is_left_out_is_one_line_on_stderr(film: Path, report: str) -> None:
    done = gguf_vl("ask", "-m", "pocket", "-c", "512", "--every", "0.1", str(film), "Is there a blue star?")
    assert done.returncode == 0
    assert done.stderr.decode().splitlines() == ["clip.mp4: 6 of 20 frames fit the context, one every 0.33 seconds."]
    done = gguf_vl("ask", "-m", "pocket", "-c", "1024", report, "Is there a red circle?")
    assert done.stdout == b"yes\n"
    assert "report.pdf: page 1 of 2 fits the context, 2 is left out." in done.stderr.decode()


@pytest.mark.parametrize("flags", [["--every", "1", "--scenes"], ["--every", "0"], ["--frames", "0"]])
def test_frames_that_make_no_sense_are_wrong_usage(film: Path, flags: list[str]) -> None:
    assert gguf_vl("ask", "-m", "pocket", *flags, str(film), "What?").returncode == 2


def test_frames_of_a_picture_are_wrong_usage() -> None:
    done = gguf_vl("ask", "-m", "pocket", "--every", "1", SHAPES, "What?")
    assert done.returncode == 2
    assert b"no video" in done.stderr


def test_a_broken_video_is_two_lines_and_exit_3(film: Path) -> None:
    film.write_bytes(film.read_bytes()[:500])
    done = gguf_vl("ask", "-m", "pocket", str(film), "What?")
    assert (done.returncode, done.stdout) == (3, b"")
    assert len(done.stderr.decode().splitlines()) == 2


def test_pocket_tells_frame_by_frame_what_appears_and_where_it_moves(tmp_path: Path) -> None:
    """A circle alone, then a star beside it, then the star alone: each frame at its time, asked by itself."""
    both = scene("red circle", "blue star").picture
    film = load_clip(clip(tmp_path / "a.mp4", steady([RED, both, BLUE, GREEN], 1.0)), POCKET_LIMITS, 4000)
    folder = paths.pocket_dir()
    settings = EngineSettings(
        folder / "pocket-F16.gguf", folder / "mmproj-pocket-F16.gguf", POCKET_LIMITS, n_ctx=2048, n_gpu_layers=0
    )
    with BlockingEngine(Engine(settings)) as engine:

        def there(thing: str) -> list[float]:
            """The times of the steps in which pocket sees a thing."""
            return [step.time for step in film.steps if says(step.picture, f"Is there a {thing}?") == "yes"]

        def says(*content: object) -> str:
            request = Request((Message("user", content),), Sampling(temperature=0))  # type: ignore[arg-type]
            return "".join(event.text for event in engine.generate(request) if isinstance(event, Text))

        assert [step.picture.frames for step in film.steps] == [2] * 4
        assert there("red circle") == [0.25, 1.25]
        assert there("blue star") == [1.25, 2.25]
        assert there("green square") == [3.25]
        one = load_clip(tmp_path / "a.mp4", POCKET_LIMITS, 4000, Frames(scenes=True))
        starts = [step.time for step in one.steps if says(step.picture, "Is there a blue star?") == "yes"]
        assert starts == [1.0, 2.0]


# --- the timeline


@pytest.fixture(scope="module")
def moves(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(clip(tmp_path_factory.mktemp("moves") / "moves.mp4", moving()))


def timeline(*words: str) -> list[tuple[float, float, str]]:
    """What `ask --task timeline` says happens from when to when."""
    return [(each["start"], each["end"], each["event"]) for each in json.loads(asked("--task", "timeline", *words))]


def test_a_timeline_says_what_appears_moves_and_goes_and_when(moves: str) -> None:
    """A change that falls between two frames is told of the later one."""
    for every in (0.5, 0.1):
        found = timeline(moves, "--every", str(every))
        assert [event for _, _, event in found] == [event for _, event in MOVING]
        for (start, _, _), (truth, _) in zip(found, MOVING, strict=True):
            # pocket's places are right to a patch of 32 pixels or better: the circle goes 16 in a tenth of a second
            assert truth - 0.1 <= start <= truth + every, (start, truth)
        assert [end for _, end, _ in found] == [*(start for start, _, _ in found[1:]), 6.0]
    for flags in (["--every", "1"], ["--scenes"]):
        assert [start for start, _, _ in timeline(moves, *flags)] == [0.0, 1.0, 3.0, 5.0]


def test_a_timeline_looks_for_what_is_asked_for(moves: str) -> None:
    assert timeline(moves, "-p", "events=blue square") == [
        (0.0, 3.0, "There is no blue square."),
        (3.0, 5.0, "bottom center"),
        (5.0, 6.0, "There is no blue square."),
    ]


def test_a_timeline_is_one_object_as_any_task_is(moves: str) -> None:
    done = gguf_vl("ask", "--json", "--task", "timeline", "-m", "pocket", moves)
    told = json.loads(done.stdout)
    assert (told["task"], told["finish_reason"]) == ("timeline", "stop")
    assert [each["end"] for each in told["fields"]][-1] == 6.0
    # 12 frames, of which those from 0.5 s, and from 1.5 and 2 s, look as the one before
    assert 0 < told["usage"]["image_tokens"] <= 12 * 64


def test_what_came_of_a_timeline_that_was_cut_off_is_told_and_is_no_timeline(moves: str) -> None:
    done = gguf_vl("ask", "--task", "timeline", "--max-tokens", "3", "-m", "pocket", moves)
    assert (done.returncode, done.stdout) == (1, b"")
    assert "cut off" in done.stderr.decode()


def test_a_timeline_is_of_one_video(moves: str) -> None:
    for given in ((moves, moves), (SHAPES,)):
        done = gguf_vl("ask", "--task", "timeline", "-m", "pocket", *given)
        assert (done.returncode, done.stdout) == (2, b"")
        assert "one video" in done.stderr.decode()


# --- boxes, and tasks about several pictures


def test_boxes_are_drawn_on_the_last_page_or_frame(film: Path, report: str, tmp_path: Path) -> None:
    for given, colour in ((report, (0, 0, 255)), (str(film), (0, 0, 255))):
        drawn = tmp_path / "drawn.png"
        answer = json.loads(asked("--json", given, "Locate the blue star.", "--boxes", str(drawn)))
        [box] = answer["boxes"]
        with Image.open(drawn) as picture:
            middle = ((box["x1"] + box["x2"]) // 2, (box["y1"] + box["y2"]) // 2)
            assert sum(abs(a - b) for a, b in zip(picture.getpixel(middle), colour, strict=True)) < 250
            assert max(picture.size) > max(middle)


def test_the_pages_of_a_document_are_the_pictures_that_a_task_needs(report: str) -> None:
    assert asked("--task", "compare", report, "-p", "thing=blue star") == "second"
    done = gguf_vl("ask", "-m", "pocket", "--task", "describe", report)
    assert (done.returncode, done.stdout) == (2, b"")
    assert "about one picture, and 2 are given" in done.stderr.decode()
