"""The files of a batch: what goes in, the lines, and the page to look through."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gguf_vl.errors import GgufVlError, MissingOrInvalid, UsageError
from gguf_vl.media.boxes import Box
from gguf_vl.tasks.batch.formats import Csv, JsonLines, columns_of, format_of
from gguf_vl.tasks.batch.inputs import Inputs, natural, read_list
from gguf_vl.tasks.batch.line import Line
from gguf_vl.tasks.batch.output import Output
from gguf_vl.tasks.batch.report import write_report
from tests.tasks.batches import draw

JOB = {"model": "pocket", "task": "", "prompt": "What <b>is</b> it?"}
STRANGE = os.fsdecode(b'caf\xe9, \xe7a\n"quoted".png')


def output(path: Path, *, resume: bool = False, job: dict[str, str] = JOB) -> Output:
    return Output(path, job, format_of(path.name, None), resume=resume)


def test_pictures_come_in_the_order_in_which_people_count(tmp_path: Path) -> None:
    for name in ("b10.jpg", "b9.JPG", "a/2.png", "a/10.png", "a/1.webp", "a/list.txt", ".x/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    found = [os.path.relpath(file, tmp_path) for file in Inputs([str(tmp_path), str(tmp_path / "a" / "2.png")]).files()]
    assert found == ["b9.JPG", "b10.jpg", "a/1.webp", "a/2.png", "a/10.png"]
    deep = Inputs([str(tmp_path / "**" / "*.png")]).files()
    assert [os.path.relpath(file, tmp_path) for file in deep] == ["a/2.png", "a/10.png"]


def test_a_word_that_names_nothing_is_said_and_one_with_brackets_may_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "a[1].png").touch()
    assert Inputs([str(tmp_path / "a[1].png")]).files() == [str(tmp_path / "a[1].png")]
    with pytest.raises(MissingOrInvalid, match="nowhere"):
        Inputs(["nowhere"]).check()
    Inputs([], ["nowhere"]).check()


def test_a_list_has_a_name_on_each_line_or_zeros_between() -> None:
    assert read_list(b"\xef\xbb\xbfa.png\r\n\nb c.png\n") == ["a.png", "b c.png"]
    assert read_list(b"a\nb.png\0caf\xe9.png\0") == ["a\nb.png", os.fsdecode(b"caf\xe9.png")]


@given(st.lists(st.text(max_size=8)))
def test_any_names_can_be_put_in_order(names: list[str]) -> None:
    sorted(names, key=natural)


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv"])
def test_a_file_cut_anywhere_goes_on_with_what_is_whole(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    lines = [Line(STRANGE, 'two\nlines, "and" quotes'), Line("b.png", error="No. Do."), Line("ü.png", "Größe 图")]
    with output(path) as first:
        for line in lines:
            first.append(line)
    whole = path.read_bytes()
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        with output(path, resume=True) as again:
            n = len(again.done)
            assert again.done == {os.path.abspath(line.file) for line in lines[:n]}
            assert again.n_failed == (n > 1)
            for line in lines[n:]:
                again.append(line)
        assert path.read_bytes() == whole


def test_zeros_that_a_power_cut_left_are_taken_back_and_a_broken_line_in_the_middle_is_not(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with output(path) as first:
        first.append(Line("a.png", "one"))
    whole = path.read_bytes()
    path.write_bytes(whole + b"\0" * 100 + b"\n")
    with output(path, resume=True) as again:
        assert again.healed == 101
    assert path.read_bytes() == whole
    path.write_bytes(b"scribbled\n" + whole)
    with pytest.raises(MissingOrInvalid, match="Line 1"):
        output(path, resume=True)
    assert path.read_bytes() == b"scribbled\n" + whole


def test_names_mean_the_folder_in_which_the_batch_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path)
    with output(Path("out.jsonl")) as first:
        first.append(Line("below/a.png", "one"))
    monkeypatch.chdir(tmp_path / "below")
    with output(Path("../out.jsonl"), resume=True) as again:
        assert os.path.abspath("a.png") in again.done
        again.append(Line("b.png", "two"))
    names = [json.loads(line)["file"] for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert names == ["below/a.png", "below/b.png"]


def test_who_goes_on_with_another_job_or_a_damaged_one_is_told(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    output(path).close()
    with pytest.raises(UsageError, match='model was "pocket", now "2b"'):
        output(path, resume=True, job=JOB | {"model": "2b"})
    with output(path, resume=True), pytest.raises(GgufVlError, match="Another gguf-vl is writing"):
        output(path, resume=True)
    (tmp_path / "out.jsonl.job").write_text("[]")
    with pytest.raises(MissingOrInvalid, match="missing or damaged"):
        output(path, resume=True)


@pytest.mark.parametrize(
    ("schema", "columns"),
    [
        (None, None),
        ({"type": "integer", "minimum": 0}, None),
        ({"enum": ["red", "blue"]}, None),
        ({"type": "object", "properties": {"a": {"type": "string"}, "b": {"enum": [1, None]}}}, ("a", "b")),
        ({"properties": {"a": {"anyOf": [{"type": "string"}, {"type": "null"}]}}}, ("a",)),
        ({"properties": {"a": {"type": ["array", "null"]}}}, UsageError),
        ({"properties": {"a": {}}}, UsageError),
        ({"type": "array"}, UsageError),
        (True, UsageError),
    ],
)
def test_a_table_has_a_column_for_each_flat_property(schema: object, columns: object) -> None:
    if columns is UsageError:
        with pytest.raises(UsageError, match="table"):
            columns_of(schema)
    else:
        assert columns_of(schema) == columns


def test_a_plain_value_is_the_answer_in_its_row() -> None:
    assert Csv(None).write(Line("a.png", "3", fields=3)) == b"a.png,3,\n"
    assert Csv(None).write(Line("a.png", '"red"', fields="red")) == b"a.png,red,\n"


def test_columns_of_our_own_names_are_kept_apart() -> None:
    table = Csv(("file", "price"))
    assert table.head == b"file,fields.file,price,error\n"
    record = table.write(Line("a.png", fields={"file": "x", "price": 2.5}))
    assert record == b"a.png,x,2.5,\n"
    assert table.read(record)["fields"] == {"file": "x", "price": "2.5"}


def test_a_line_in_json_has_its_boxes_and_reads_as_it_was_written() -> None:
    line = Line("a.png", "x", boxes=(Box("cat", 1, 2, 3, 4),), size=(5, 6))
    read = JsonLines().read(JsonLines().write(line))
    assert read["boxes"] == [{"label": "cat", "x1": 1, "y1": 2, "x2": 3, "y2": 4}]


def test_the_report_shows_every_picture_the_failed_first_and_runs_nothing(tmp_path: Path) -> None:
    draw(tmp_path / "in", 3, size=640)
    with output(tmp_path / "out.jsonl") as lines:
        for n in (2, 0, 1):
            boxes = (Box("<i>circle", 10, 10, 300, 300),)
            answer = "<script>alert(1)</script>"
            lines.append(Line(str(tmp_path / "in" / f"{n}.png"), answer, boxes=boxes, size=(640, 640)))
        lines.append(Line("z<gone>.png", error="There is no file. Check."))
        write_report(tmp_path / "report.html", lines, JOB)
    page = (tmp_path / "report.html").read_text()
    assert re.findall(r"<figcaption>.*?(\w+(?:&gt;)?)\.png<", page) == ["gone&gt;", "0", "1", "2"]
    assert page.count("data:image/jpeg;base64,") == 3
    assert "<script" not in page
    assert "<b>is" not in page
    assert "prefers-color-scheme: dark" in page
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    assert len(page) < 3 * 30_000 + 5_000
    assert [each.name for each in tmp_path.glob(".report*")] == []


def test_a_report_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with output(tmp_path / "out.jsonl") as lines, pytest.raises(GgufVlError, match="report"):
        write_report(tmp_path / "nowhere" / "report.html", lines, JOB)
