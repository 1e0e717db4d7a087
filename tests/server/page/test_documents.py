"""The web page with documents and videos, in Debian's Chromium: shown as what they are, and asked about."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from tests.media.clips import clip, moving, steady
from tests.scenes import scene
from tests.server.conftest import PATIENCE_S
from tests.server.page.browser import Script, answered, ask, drop, last_answer, needs_chromium, opened
from tests.server.page.test_tasks import fill, pick

CIRCLE, STAR = (scene(thing).picture for thing in ("red circle", "blue star"))
SECOND = "Which picture has the blue star?"


def document(*pages: Image.Image, kind: str = "PDF") -> bytes:
    """A page for each picture."""
    file = io.BytesIO()
    first, *others = (each.copy() for each in pages)  # saving one leaves traces in it
    first.save(file, kind, save_all=True, append_images=others)
    return file.getvalue()


def ready(page: Page) -> Locator:
    """The chip, once all is known of it."""
    chip = page.locator(".chip")
    expect(chip).to_have_attribute("data-state", "ready", timeout=PATIENCE_S * 1000)
    return chip


def width(image: Locator) -> int:
    """The pixels that are really shown, across."""
    found: int = image.evaluate("(image) => image.decode().then(() => image.naturalWidth)")
    return found


@needs_chromium
def test_a_dropped_pdf_is_shown_by_its_first_page_and_asked_about(page: Page) -> None:
    opened(page)
    drop(page, document(CIRCLE, STAR), name="report.pdf", type="application/pdf")
    chip = ready(page)
    expect(chip).to_contain_text(re.compile(r"report\.pdf2 pages · [\d,]+ tokens"))
    assert width(chip.locator("img")) > 46
    ask(page, SECOND)
    assert last_answer(page) == "second"
    expect(page.locator(".shown-picture")).to_contain_text("report.pdf · 2 pages")
    page.click(".question .shown-picture")
    expect(page.locator("dialog.enlarged")).to_contain_text("report.pdf · 2 pages")
    assert width(page.locator("dialog.enlarged img")) > 46


@needs_chromium
def test_some_pages_of_a_document_are_chosen(page: Page) -> None:
    opened(page)
    page.set_input_files(
        "#file", {"name": "scan.tif", "mimeType": "image/tiff", "buffer": document(CIRCLE, STAR, kind="TIFF")}
    )
    field = page.get_by_label("Pages of scan.tif")
    expect(field).to_have_value("1-2")
    field.fill("3")
    field.press("Enter")
    expect(page.locator(".chip")).to_contain_text("no page 3", timeout=PATIENCE_S * 1000)
    page.fill("#text", "What colour is the star?")
    page.click("#send")
    expect(page.locator("#notice")).to_contain_text("could not be sent")
    field.fill("2")
    field.press("Enter")
    expect(page.locator("#text")).to_be_focused()
    expect(page.locator(".chip")).to_contain_text("page 2 of 2", timeout=PATIENCE_S * 1000)
    page.press("#text", "Enter")
    assert last_answer(page) == "blue"
    page.reload()
    ask(page, "What shape is blue?")
    expect(page.locator(".answer")).to_have_count(2)
    assert last_answer(page) == "star"


@needs_chromium
def test_what_does_not_fit_of_a_document_is_told(page: Page) -> None:
    opened(page)
    drop(page, document(*[CIRCLE] * 70), name="long.pdf", type="application/pdf")
    chip = ready(page)
    expect(chip).to_contain_text(re.compile(r"pages 1-\d+ of 70"))
    ask(page, "How many pictures are there?")
    last_answer(page)
    expect(page.locator(".failed:visible")).to_have_count(0)


@needs_chromium
def test_what_is_located_on_the_last_page_is_shown_on_it(page: Page) -> None:
    opened(page)
    drop(page, document(CIRCLE, scene("blue star", "red circle", seed=3).picture), name="a.pdf", type="application/pdf")
    page.get_by_label("Pages of a.pdf").fill("2")
    page.get_by_label("Pages of a.pdf").press("Enter")
    expect(page.locator(".chip")).to_contain_text("page 2 of 2", timeout=PATIENCE_S * 1000)
    pick(page, "locate")
    fill(page, "thing", "red circle")
    page.press("#text", "Enter")
    expect(page.locator(".stage .edge")).to_have_count(1)
    edge, stage = page.locator(".stage .edge").bounding_box(), page.locator(".stage img").bounding_box()
    assert edge
    assert stage
    picture = Image.open(io.BytesIO(page.locator(".stage").screenshot())).convert("RGB")
    middle = (edge["x"] - stage["x"] + edge["width"] / 2, edge["y"] - stage["y"] + edge["height"] / 2)
    red, green, blue = picture.getpixel((round(middle[0]), round(middle[1])))
    assert red > 180
    assert max(green, blue) < 90


@needs_chromium
def test_a_video_is_asked_about_and_told_by_its_times(page: Page, tmp_path: Path) -> None:
    opened(page)
    data = clip(tmp_path / "moves.mp4", moving()).read_bytes()
    drop(page, data, name="moves.mp4", type="video/mp4")
    chip = ready(page)
    expect(chip).to_contain_text(re.compile(r"moves\.mp46\.0 s · \d+ frames · [\d,]+ tokens"))
    assert width(chip.locator("img")) > 46
    pick(page, "timeline")
    page.press("#text", "Enter")
    answer = last_answer(page)
    assert "A red circle in the middle left." in answer
    assert "The picture is empty." in answer


@needs_chromium
def test_the_frames_of_a_video_are_chosen_and_stay_with_the_question(
    page: Page, script: Script, tmp_path: Path
) -> None:
    opened(page)
    drop(page, clip(tmp_path / "film.mp4", steady([CIRCLE, STAR], 1.0)).read_bytes(), name="film.mp4", type="video/mp4")
    chip, field = page.locator(".chip"), page.get_by_label("Seconds between frames of film.mp4")
    expect(chip).to_contain_text("4 frames", timeout=PATIENCE_S * 1000)
    field.fill("0")
    field.press("Enter")
    expect(chip).to_contain_text("Give the seconds from one frame to the next")
    page.press("#text", "Enter")
    expect(page.locator("#notice")).to_contain_text("could not be sent")
    field.fill("1")
    field.press("Enter")
    expect(page.locator("#text")).to_be_focused()
    expect(chip).to_contain_text("2 frames", timeout=PATIENCE_S * 1000)
    answered(page, script, "", "A star.")
    [film] = script.asked[0]["messages"][0]["content"]
    assert film["video_url"]["fps"] == 1
    page.reload()
    answered(page, script, "And before?", "A circle.")
    assert script.asked[0]["messages"][0]["content"][0]["video_url"]["fps"] == 1


@needs_chromium
def test_a_chat_without_words_is_called_as_what_it_shows(page: Page, script: Script) -> None:
    opened(page)
    drop(page, document(CIRCLE, STAR), name="report.pdf", type="application/pdf")
    ready(page)
    answered(page, script, "", "A circle and a star.")
    expect(page.locator("#title")).to_have_text("report.pdf")
    page.click("#new-chat")
    page.reload()
    expect(page.locator("#chats .name")).to_have_text("report.pdf")
    expect(page.locator("#title")).to_have_text("New chat")


@needs_chromium
def test_a_video_without_a_known_type_is_taken_by_its_name(page: Page, tmp_path: Path) -> None:
    opened(page)
    data = clip(tmp_path / "film.mkv", steady([CIRCLE, STAR], 1.0)).read_bytes()
    drop(page, data, name="film.mkv", type="")
    expect(ready(page)).to_contain_text("4 frames")
    ask(page, SECOND)
    assert last_answer(page) == "second"


@needs_chromium
def test_documents_and_videos_are_sent_as_what_they_are(page: Page, script: Script, tmp_path: Path) -> None:
    opened(page)
    drop(page, document(CIRCLE, STAR), name="a.pdf", type="application/pdf")
    drop(page, clip(tmp_path / "b.mp4", steady([STAR], 1.0)).read_bytes(), name="b.mp4", type="video/mp4")
    ask(page, "What is this?")  # while they are being sent
    script.wait()
    [paper, film, words] = script.asked[0]["messages"][0]["content"]
    assert (paper["type"], paper["file"]["filename"], paper["file"]["pages"]) == ("file", "a.pdf", "1-2")
    assert paper["file"]["file_id"].startswith("pic_")
    assert film["video_url"]["url"].startswith("pic_")
    assert words == {"type": "text", "text": "What is this?"}
    script.end()


@needs_chromium
def test_a_document_that_cannot_be_read_says_why(page: Page) -> None:
    opened(page)
    drop(page, document(CIRCLE)[:200], name="torn.pdf", type="application/pdf")
    chip = page.locator(".chip")
    expect(chip).to_have_attribute("data-state", "failed")
    expect(chip).to_contain_text("cut off or damaged")


@pytest.mark.parametrize("n", [1, 2])
@needs_chromium
def test_a_task_counts_the_pages_of_a_document_as_pictures(page: Page, script: Script, n: int) -> None:
    opened(page)
    drop(page, document(*[CIRCLE, STAR][:n]), name="a.pdf", type="application/pdf")
    ready(page)
    pick(page, "compare")
    page.press("#text", "Enter")
    if n == 1:
        expect(page.locator("#notice")).to_have_text("compare is about 2 pictures. Add more first.")
        return
    script.wait()
    script.end()
