"""Documents by their pages, and videos, as inputs of a batch."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from PIL import Image

from gguf_vl.tasks.batch.parts import parts, parts_of
from tests.media.clips import clip, steady
from tests.scenes import scene
from tests.tasks.batches import COLOURS, PROMPT, batch, begin, each, lines, until_lines


def circles(n: int, *, size: int = 128) -> list[Image.Image]:
    """Pictures of one circle each, of the colours in their order."""
    return [scene(f"{COLOURS[at]} circle", size=size, seed=at).picture for at in range(n)]


def document(path: Path, n: int) -> Path:
    """A document of `n` pages with a circle on each. Its kind is that of the path's name."""
    first, *others = circles(n)
    first.save(path, save_all=True, append_images=others, **({"resolution": 72} if path.suffix == ".pdf" else {}))
    return path


def answers(path: Path) -> dict[str, str]:
    return {Path(line["file"]).name: line["answer"] for line in lines(path)}


def test_pages_of_documents_have_lines_of_their_own_and_a_video_has_one(tmp_path: Path) -> None:
    (folder := tmp_path / "in").mkdir()
    document(folder / "report.pdf", 3)
    document(folder / "one.pdf", 1)
    document(folder / "scan.tif", 2)
    red, blue = circles(2)
    red.save(folder / "plain.tif")
    clip(folder / "clip.mp4", steady([red, blue], 1.0))
    out, page = tmp_path / "out.jsonl", tmp_path / "page.html"
    words = (folder, "--prompt", PROMPT, "--out", out)
    code, said = batch(*words, "--report", page)
    assert code == 0, said
    found = answers(out)
    assert found.pop("clip.mp4") in COLOURS
    expected = {"report.pdf#1": "red", "report.pdf#2": "blue", "report.pdf#3": "green"}
    assert found == expected | {"one.pdf": "red", "scan.tif#1": "red", "scan.tif#2": "blue", "plain.tif": "red"}
    assert next(line for line in lines(out) if "clip" in line["file"])["usage"]["image_tokens"] > 16
    assert page.read_text().count("data:image/jpeg;base64,") == 8
    assert "8 pictures" in said
    code, said = batch(*words, "--resume", "--frames", "1")
    assert (code, 'frames was {}, now {"number": 1}' in said) == (2, True), said

    kept = [line for line in lines(out) if not line["file"].endswith(("report.pdf#2", "scan.tif#1"))]
    out.write_text("".join(json.dumps(line) + "\n" for line in kept))
    code, said = batch(*words, "--resume")
    assert (code, "2 of them now" in said) == (0, True), said
    assert len(lines(out)) == 8
    assert answers(out).items() >= expected.items()


def test_pages_are_asked_for_by_name_each_once_and_a_video_of_a_task_about_one_picture_is_refused(
    tmp_path: Path,
) -> None:
    document(tmp_path / "report[1].pdf", 4)
    clip(tmp_path / "clip.mp4", steady(circles(2), 1.0))
    words = ("report[1].pdf#2-3", "report[1].pdf#3", "clip.mp4", "--task", "describe", "--out", "out.jsonl")
    code, said = batch(*words, cwd=tmp_path)
    assert code == 1
    found = {line["file"]: line for line in lines(tmp_path / "out.jsonl")}
    assert set(found) == {"report[1].pdf#2", "report[1].pdf#3", "clip.mp4"}
    assert "blue circle" in found["report[1].pdf#2"]["answer"]
    assert "clip.mp4 is a video" in found["clip.mp4"]["error"]
    assert "clip.mp4 is a video" in said
    (tmp_path / "report[1].pdf").rename(tmp_path / "report.pdf")
    words = (".", "--task", "describe", "--out", "of_folder.jsonl")
    assert batch(*words, cwd=tmp_path)[0] == 0  # a folder's videos are left to tasks that are about several pictures
    assert len(lines(tmp_path / "of_folder.jsonl")) == 4


def test_a_timeline_of_each_video_has_its_events_and_times(tmp_path: Path) -> None:
    (folder := tmp_path / "in").mkdir()
    for name, shown in (("a.mp4", circles(2)), ("b.mp4", circles(3)[1:])):
        clip(folder / name, steady(shown, 2.0))
    out = tmp_path / "out.jsonl"
    code, said = batch(folder, "--task", "timeline", "--out", out)
    assert code == 0, said
    assert "never learnt" not in said
    found = {Path(line["file"]).name: line["fields"] for line in lines(out)}
    for name, colours in (("a.mp4", ("red", "blue")), ("b.mp4", ("blue", "green"))):
        assert [event["start"] for event in found[name]] == [0.0, 2.0]
        assert all(colour in event["event"] for colour, event in zip(colours, found[name], strict=True))


def test_a_document_that_comes_into_a_watched_folder_is_read_page_by_page(tmp_path: Path) -> None:
    (folder := tmp_path / "in").mkdir()
    out = tmp_path / "out.jsonl"
    running = begin(folder, "--prompt", PROMPT, "--out", out, "--watch")
    document(folder / "report.pdf", 2)
    until_lines(running, out, 2)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=30)
    assert running.returncode == 130, said
    assert answers(out) == {"report.pdf#1": "red", "report.pdf#2": "blue"}


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("r.pdf", ["r.pdf#1", "r.pdf#2", "r.pdf#3"]),
        ("r.pdf#2", ["r.pdf#2"]),
        ("r.pdf#3,1-2", ["r.pdf#3", "r.pdf#1", "r.pdf#2"]),
        ("s.tif#2-", ["s.tif#2"]),
        ("r.pdf#3-1", ["r.pdf#3-1"]),
        ("r.pdf#9-12", ["r.pdf#9-12"]),
        ("broken.pdf", ["broken.pdf"]),
        ("picture.png#2-3", ["picture.png#2-3"]),
        ("nowhere.pdf", ["nowhere.pdf"]),
        (".", ["."]),
    ],
)
def test_what_is_no_document_or_has_no_such_pages_stays_whole_for_its_line_to_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str, found: list[str]
) -> None:
    document(tmp_path / "r.pdf", 3)
    document(tmp_path / "s.tif", 2)
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.4\n broken")
    circles(1)[0].save(tmp_path / "picture.png")
    monkeypatch.chdir(tmp_path)
    assert parts_of(word) == found


@pytest.mark.anyio
async def test_how_many_there_are_is_known_once_a_document_is_opened(tmp_path: Path) -> None:
    report = document(tmp_path / "r.pdf", 3)
    files = [report, f"{report}#2", tmp_path / "a.png"]
    total = len(files)

    def more(n: int) -> None:
        nonlocal total
        total += n

    found = [part async for part in parts(each(files), {f"{report}#1"}, more)]
    assert found == [f"{report}#2", f"{report}#3", str(tmp_path / "a.png")]
    assert total == len(found)
