"""`gguf-vl batch`, as a person or a script runs it, killed and interrupted in every way."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.tasks.batches import COLOURS, PROMPT, batch, begin, draw, lines, until_lines, whole_lines


def test_every_picture_of_a_folder_has_its_answer_in_a_line_of_its_own(tmp_path: Path) -> None:
    colours = draw(tmp_path / "in", 12)
    more = draw(tmp_path / "in" / "below", 3)
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    (tmp_path / "in" / ".hidden.png").write_text("no picture")
    out = tmp_path / "out.jsonl"
    code, said = batch(tmp_path / "in", "--prompt", PROMPT, "--out", out)
    assert code == 0, said
    found = {line["file"]: line["answer"] for line in lines(out)}
    assert found == {str(tmp_path / "in" / name): colour for name, colour in colours.items()} | {
        str(tmp_path / "in" / "below" / name): colour for name, colour in more.items()
    }
    first = lines(out)[0]
    assert set(first) == {"file", "answer", "fields", "boxes", "size", "usage", "timings", "error"}
    assert (first["error"], first["size"], first["usage"]["image_tokens"]) == (None, [96, 96], 16)
    assert "15 pictures" in said
    assert "0 failed" in said


def test_pictures_come_from_lists_standard_input_and_globs_each_once_and_bad_ones_are_counted(tmp_path: Path) -> None:
    draw(tmp_path, 4)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    (tmp_path / "list.txt").write_text("0.png\n1.png\nnowhere.png\n")
    out = tmp_path / "out.jsonl"
    words = ("@list.txt", "-", "[23].png", "broken.png", "--prompt", PROMPT, "--out", "out.jsonl")
    code, said = batch(*words, stdin=b"1.png\0" + b"2.png\0", cwd=tmp_path)
    assert code == 1
    found = {line["file"]: line for line in lines(out)}
    assert sorted(found) == ["0.png", "1.png", "2.png", "3.png", "broken.png", "nowhere.png"]
    assert "cannot be read" in found["broken.png"]["error"]
    assert "There is no file nowhere.png" in found["nowhere.png"]["error"]
    assert [found[f"{n}.png"]["answer"] for n in range(4)] == list(COLOURS[:4])
    assert "2 failed" in said
    assert "broken.png" in said


@pytest.mark.parametrize("seed", range(2))
def test_killed_again_and_again_and_gone_on_with_every_picture_has_one_line(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    colours = draw(tmp_path / "in", 24, size=64)
    out = tmp_path / "out.jsonl"
    words = (tmp_path / "in", "--prompt", PROMPT, "--out", out, "--resume")
    for _ in range(3):
        running = begin(*words)
        until_lines(running, out, whole_lines(out) + chance.randint(1, 5))
        workers = psutil.Process(running.pid).children(recursive=True) if running.poll() is None else []
        running.kill()
        running.communicate()
        psutil.wait_procs(workers, timeout=10)
        if chance.random() < 0.5:  # as a power cut may leave it
            with out.open("ab") as file:
                file.write(b'{"file": "torn')
    code, said = batch(*words)
    assert code == 0, said
    found = lines(out)
    assert len(found) == 24
    assert {Path(line["file"]).name: line["answer"] for line in found} == colours


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_batch_says_how_to_go_on_and_leaves_no_worker(
    tmp_path: Path, sent: signal.Signals, code: int
) -> None:
    draw(tmp_path / "in", 30)
    out = tmp_path / "out.jsonl"
    running = begin(tmp_path / "in", "--prompt", PROMPT, "--out", out)
    until_lines(running, out, 3)
    workers = psutil.Process(running.pid).children(recursive=True)
    running.send_signal(sent)
    _, said = running.communicate(timeout=30)
    assert running.returncode == code, said
    assert b"Traceback" not in said
    assert b"--resume" in said
    assert psutil.wait_procs(workers, timeout=10)[1] == []
    done = len(lines(out))
    assert 3 <= done < 30
    code, said_then = batch(tmp_path / "in", "--prompt", PROMPT, "--out", out, "--resume")
    assert code == 0, said_then
    assert len({line["file"] for line in lines(out)}) == len(lines(out)) == 30
    assert f"{30 - done} of them now" in said_then


def test_two_batches_do_not_write_one_file(tmp_path: Path) -> None:
    draw(tmp_path / "in", 3)
    out = tmp_path / "out.jsonl"
    (tmp_path / "other-name.jsonl").symlink_to(out)
    first = begin(tmp_path / "in", "--prompt", PROMPT, "--out", out, "--watch")
    until_lines(first, out, 3)
    for name in ("out.jsonl", "other-name.jsonl"):
        code, said = batch(tmp_path / "in", "--prompt", PROMPT, "--out", tmp_path / name, "--resume")
        assert (code, "Another gguf-vl is writing" in said) == (1, True)
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=30)
    assert len(lines(out)) == 3


def test_an_output_that_is_there_is_not_written_over_nor_mixed_with_another_job(tmp_path: Path) -> None:
    draw(tmp_path / "in", 2)
    out = tmp_path / "out.jsonl"
    assert batch(tmp_path / "in", "--prompt", PROMPT, "--out", out)[0] == 0
    before = out.read_bytes()
    code, said = batch(tmp_path / "in", "--prompt", PROMPT, "--out", out)
    assert code == 2
    assert "--resume" in said
    code, said = batch(tmp_path / "in", "--prompt", "How many shapes are there?", "--out", out, "--resume")
    assert code == 2
    assert "prompt was" in said
    code, said = batch(tmp_path / "in", "--prompt", PROMPT, "--temperature", "1", "--out", out, "--resume")
    assert code == 2
    assert "sampling was" in said
    code, said = batch(tmp_path / "in", "--prompt", PROMPT, "--out", out, "--resume")
    assert (code, "Nothing is left to do" in said) == (0, True)
    assert out.read_bytes() == before


def test_a_flat_schema_gives_a_table_and_its_last_row_is_healed(tmp_path: Path) -> None:
    draw(tmp_path / "in", 4)
    properties = {"colour": {"type": "string", "maxLength": 12}, "n": {"type": ["integer", "null"]}}
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps({"type": "object", "properties": properties, "required": ["colour", "n"]}))
    out = tmp_path / "out.csv"
    words = (tmp_path / "in", "--prompt", PROMPT, "--schema", schema, "--out", out)
    code, said = batch(*words)
    rows = table(out)
    assert list(rows[0]) == ["file", "colour", "n", "error"]
    assert len(rows) == 4
    assert code == (1 if any(row["error"] for row in rows) else 0), said
    whole = out.read_bytes()
    first_rows = whole.splitlines(keepends=True)
    out.write_bytes(b"".join(first_rows[:3]) + b'"torn, with a\nline')
    _, said = batch(*words, "--resume")
    assert "taken back: 18 bytes" in said
    assert sorted(row["file"] for row in table(out)) == sorted(row["file"] for row in rows)
    schema.write_text('{"type": "object", "properties": {"things": {"type": "array"}}}')
    code, said = batch(tmp_path / "in", "--prompt", PROMPT, "--schema", schema, "--out", tmp_path / "b.csv")
    assert (code, "'things'" in said) == (2, True)


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines(keepends=True)))


def test_a_full_disk_is_one_clear_line_and_the_file_stays_whole(tmp_path: Path) -> None:
    draw(tmp_path / "in", 20)
    out = tmp_path / "out.jsonl"
    words = (tmp_path / "in", "--prompt", PROMPT, "--out", out)
    command = [sys.executable, "-P", "-c", LIMITED, *map(str, words)]
    environment = os.environ | {"GGUF_VL_DISK_CACHE": "0", "GGUF_VL_PROOF": "false"}
    done = subprocess.run(command, capture_output=True, env=environment, timeout=120)
    assert done.returncode == 1
    assert re.search(rb"gguf-vl: .*out\.jsonl cannot be written: File too large", done.stderr), done.stderr
    assert b"Traceback" not in done.stderr
    assert 0 < len(lines(out)) < 20
    assert batch(*words, "--resume")[0] == 0
    assert len(lines(out)) == 20


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (2500, 2500))
sys.argv[1:1] = ["batch", "-m", "pocket"]
from gguf_vl.cli import main
main()
"""


def test_a_watched_folder_goes_on_with_new_files_until_it_is_interrupted(tmp_path: Path) -> None:
    draw(tmp_path / "in", 2)
    out, page = tmp_path / "out.jsonl", tmp_path / "report.html"
    running = begin(tmp_path / "in", "--prompt", PROMPT, "--out", out, "--watch", "--report", page)
    until_lines(running, out, 2)
    draw(tmp_path / "in" / "later", 2)
    until_lines(running, out, 4)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=30)
    assert running.returncode == 130, said
    assert sorted(line["answer"] for line in lines(out)) == ["blue", "blue", "red", "red"]
    assert page.read_text().count("<article") == 4


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["in", "--out", "a.jsonl"], 2, "--task NAME or --prompt"),
        (["in", "--out", "a.jsonl", "--prompt", "x", "--task", "describe"], 2, "--task NAME or --prompt"),
        (["in", "--prompt", "x"], 2, "--out"),
        (["in", "--out", "a.txt", "--prompt", "x"], 2, ".jsonl or .csv"),
        (["nowhere", "--out", "a.jsonl", "--prompt", "x"], 3, "nowhere"),
        (["empty", "--out", "a.jsonl", "--prompt", "x"], 3, "No picture"),
        (["in/0.png", "--watch", "--out", "a.jsonl", "--prompt", "x"], 2, "nothing to watch"),
        (["in", "--out", "a.jsonl", "--task", "descripe"], 2, "describe"),
        (["in", "--out", "a.jsonl", "--task", "compare"], 2, "pictures"),
        (["@no-list", "--out", "a.jsonl", "--prompt", "x"], 3, "no-list"),
        (["in", "--out", "there.jsonl", "--prompt", "x", "--resume"], 3, "there.jsonl.job"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_written(
    tmp_path: Path, words: list[str], code: int, says: str
) -> None:
    draw(tmp_path / "in", 1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "there.jsonl").touch()
    done, said = batch(*words, cwd=tmp_path)
    assert (done, says in said) == (code, True), said
    assert not (tmp_path / "a.jsonl").exists()
