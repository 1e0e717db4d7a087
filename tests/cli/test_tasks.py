"""`gguf-vl tasks`, and `ask` with a task, a schema, boxes to draw, and the clipboard."""

from __future__ import annotations

import json
import os
from pathlib import Path

import jsonschema
import pytest
from PIL import Image

from tests.cli.command import SHAPES, TWO, gguf_vl

CIRCLE = [303, 213, 372, 282]
"""Where pocket finds the red circle of `shapes.png`."""


def lines(text: bytes) -> list[str]:
    return text.decode().splitlines()


def test_the_tasks_are_listed_with_what_they_are_for() -> None:
    done = gguf_vl("tasks", "list")
    assert (done.returncode, done.stderr) == (0, b"")
    assert [line.split()[0] for line in lines(done.stdout)][:4] == ["describe", "ocr", "ocr-layout", "receipt"]
    assert "把小票转成结构化数据" in done.stdout.decode()
    listed = json.loads(gguf_vl("tasks", "list", "--json").stdout)
    assert len(listed) == len(lines(done.stdout))
    assert next(each for each in listed if each["name"] == "locate")["parameters"][0]["default"] is None


def test_a_task_is_shown_with_its_words_and_what_pocket_cannot() -> None:
    shown = gguf_vl("tasks", "show", "locate").stdout.decode()
    assert "must be given" in shown
    assert "boxes, or points (bbox or point; else: bbox)" in shown
    assert "Locate the {thing}." in shown
    assert "never learnt" not in shown
    assert "pocket, the embedded model, has never learnt this" in gguf_vl("tasks", "show", "gui").stdout.decode()
    wrong = gguf_vl("tasks", "show", "locat")
    assert (wrong.returncode, wrong.stdout) == (2, b"")
    assert b"locate" in wrong.stderr


def test_a_task_is_tried_on_its_own_picture() -> None:
    done = gguf_vl("tasks", "test", "count", "-m", "pocket")
    first, *rest = lines(done.stdout)
    assert done.returncode == 0
    assert first.startswith("count: valid")
    assert rest[1].split() == ["came", "3"]


def test_a_task_that_pocket_does_frame_by_frame_is_tried_so() -> None:
    done = gguf_vl("tasks", "test", "timeline", "-m", "pocket", "--json")
    [report] = json.loads(done.stdout)
    assert (done.returncode, report["status"]) == (0, "valid")
    assert [event["start"] for event in report["fields"]] == [0.0, 1.0, 2.0]
    assert "of each frame of a video" in gguf_vl("tasks", "show", "timeline").stdout.decode()


def test_what_is_beyond_the_model_is_said_and_not_tried() -> None:
    done = gguf_vl("tasks", "test", "receipt", "-m", "pocket", "--json")
    [report] = json.loads(done.stdout)
    assert (report["task"], report["status"]) == ("receipt", "beyond")
    assert "never learnt" in report["error"]


def test_all_tasks_are_tried_and_an_invalid_one_is_a_failure() -> None:
    done = gguf_vl("tasks", "test", "-m", "pocket", "--json", "--max-tokens", "5")
    status = {report["task"]: report["status"] for report in json.loads(done.stdout)}
    assert (status["count"], status["locate"], status["gui"]) == ("valid", "invalid", "beyond")
    assert done.returncode == 1


def test_a_task_needs_no_question_and_takes_words_for_what_it_lacks() -> None:
    assert gguf_vl("ask", "--task", "count", SHAPES).stdout == b"3\n"
    assert gguf_vl("ask", "--task", "count", SHAPES, "-p", "things=circles").stdout == b"1\n"
    by_words = gguf_vl("ask", "--task", "spatial", "blue square", SHAPES)
    assert by_words.stdout == gguf_vl("ask", SHAPES, "Where is the blue square?").stdout
    assert gguf_vl("ask", "--task", "compare", SHAPES, TWO, "-p", "thing=red circle").stdout == b"first\n"


def test_boxes_are_printed_in_pixels_and_drawn_on_the_picture_in_its_own_size(tmp_path: Path) -> None:
    drawn = tmp_path / "out.png"
    done = gguf_vl("ask", "--task", "locate", SHAPES, "red circle", "--boxes", str(drawn))
    label, *corners = lines(done.stdout)[0].split("\t")
    assert (label, [int(each) for each in corners]) == ("red circle", CIRCLE)
    with Image.open(drawn) as picture, Image.open(SHAPES) as before:
        assert picture.size == before.size
        left = (CIRCLE[0] + 1, (CIRCLE[1] + CIRCLE[3]) // 2)
        assert picture.getpixel(left) != before.convert("RGB").getpixel(left)
        assert picture.getpixel((5, 5)) == before.convert("RGB").getpixel((5, 5))


def test_json_has_the_fields_and_the_boxes() -> None:
    report = json.loads(gguf_vl("ask", "--json", "--task", "locate", SHAPES, "-p", "thing=red circle").stdout)
    assert report["fields"] == [{"bbox_2d": [790, 740, 970, 980], "label": "red circle"}]
    assert report["boxes"] == [dict(zip(("label", "x1", "y1", "x2", "y2"), ("red circle", *CIRCLE), strict=True))]
    assert (report["task"], report["finish_reason"]) == ("locate", "stop")


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_json_that_is_cut_off_is_a_failure_with_its_part_and_nothing_on_stdout(flags: list[str]) -> None:
    done = gguf_vl("ask", *flags, "-m", "pocket", "--task", "locate", SHAPES, "red circle", "--max-tokens", "12")
    assert (done.returncode, done.stdout) == (1, b"")
    what, fix = lines(done.stderr)
    assert "cut off" in what
    assert "bbox_2d" in what
    assert "--max-tokens" in fix


def test_a_schema_from_a_file_holds_the_answer(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"shape": {"enum": ["circle", "square"]}}, "required": ["shape"]}
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(schema))
    done = gguf_vl("ask", "--schema", str(file), "--json", SHAPES, "What shape is blue?")
    jsonschema.validate(json.loads(done.stdout)["fields"], schema)
    file.write_text('{"type": "string", "pattern": "("}')
    wrong = gguf_vl("ask", "--schema", str(file), SHAPES, "What?")
    assert (wrong.returncode, wrong.stdout) == (2, b"")
    file.write_text("{")
    assert b"not JSON" in gguf_vl("ask", "--schema", str(file), SHAPES, "What?").stderr


def test_a_model_that_never_learnt_a_task_says_so() -> None:
    done = gguf_vl("ask", "-m", "pocket", "--task", "handwriting", SHAPES)
    assert done.returncode == 0
    assert b"pocket has never learnt the task handwriting" in done.stderr


def test_a_task_of_ones_own_works_at_once(home: Path) -> None:
    (home / "tasks.toml").write_text('[colour]\nprompt = "What colour is the {kind}?"\nparameters.kind = {}\n')
    assert gguf_vl("ask", "--task", "colour", SHAPES, "circle").stdout == b"red\n"
    (home / "tasks.toml").write_text("[colour]\npromt = 'x'\n")
    broken = gguf_vl("tasks", "list")
    assert (broken.returncode, broken.stdout) == (2, b"")
    assert b"colour.promt" in broken.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--task", "nothing", SHAPES], "no task 'nothing'"),
        (["--task", "locate", SHAPES], "needs thing"),
        (["--task", "receipt"], "about one picture"),
        (["--task", "compare", SHAPES], "about 2 pictures"),
        (["--task", "count", SHAPES, "-p", "thing=x"], "no parameter 'thing'"),
        (["--task", "count", SHAPES, "-p", "things"], "no parameter"),
        (["--csv", "--task", "receipt", SHAPES], "--csv"),
        (["--boxes", "out.txt", SHAPES, "Find it."], "Nothing can be drawn"),
        (["--boxes", "nowhere/out.png", SHAPES, "Find it."], "Nothing can be drawn"),
        (["--boxes", "out.png", "Find it."], "none is given"),
        (["--schema", "nowhere.json", SHAPES, "What?"], "cannot be read"),
    ],
)
def test_wrong_usage_is_said_before_a_model_loads(words: list[str], says: str) -> None:
    done = gguf_vl("ask", *words)
    what, fix = lines(done.stderr)
    assert (done.returncode, done.stdout) == (2, b"")
    assert says in what
    assert fix.startswith("  ")


def test_a_picture_that_was_meant_and_is_not_there_is_missed() -> None:
    done = gguf_vl("ask", "--task", "count", "gone.png")
    assert (done.returncode, done.stdout) == (3, b"")
    assert b"gone.png" in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="a shell script stands for the clipboard")
def test_the_clipboards_picture_is_asked_about(tmp_path: Path) -> None:
    xclip = tmp_path / "xclip"
    xclip.write_text(f'#!/bin/sh\ncase "$*" in *TARGETS*) echo image/png;; *) cat "{SHAPES}";; esac\n')
    xclip.chmod(0o755)
    seen = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "DISPLAY": ":9", "WAYLAND_DISPLAY": "", "SSH_CONNECTION": ""}
    done = gguf_vl("ask", "--clipboard", "What colour is the circle?", environment=seen)
    assert done.stdout == b"red\n"
    assert gguf_vl("ask", "--clipboard", "--task", "count", environment=seen).stdout == b"3\n"
    nothing = gguf_vl("ask", "--clipboard", "What?", environment=seen | {"DISPLAY": ""})
    assert nothing.returncode == 3
