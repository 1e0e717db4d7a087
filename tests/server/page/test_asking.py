"""The web page, in Debian's Chromium: pictures and questions in, answers out; what is told while one waits."""

from __future__ import annotations

import io
import re
import urllib.error
import urllib.request

import pytest
from PIL import Image
from playwright.sync_api import Page, Route, expect

from tests.scenes import png, scene
from tests.server.conftest import Serve
from tests.server.page.browser import (
    RED,
    Script,
    answered,
    ask,
    drop,
    drop_and_ask,
    last_answer,
    needs_chromium,
    opened,
    paste,
)

BLUE = (0x00, 0x72, 0xB2)
"""The first box's colour."""


# What it is for


@needs_chromium
def test_a_dropped_picture_is_encoded_at_once_and_asked_about(page: Page) -> None:
    opened(page)
    drop(page, RED)
    chip = page.locator(".chip")
    expect(chip).to_have_attribute("data-state", "ready")
    expect(chip).to_contain_text("256 × 256 · 64 tokens")
    ask(page, "What shape is red?")
    assert last_answer(page) == "circle"
    expect(chip).to_have_count(0)
    expect(page.locator(".question img")).to_be_visible()
    expect(page.locator("#context-text")).to_have_text(re.compile(r"^\d+ of 8,192 tokens$"))
    expect(page.locator("#first")).to_have_text(re.compile(r"^first token \d"))


@needs_chromium
def test_a_question_right_behind_a_drop_goes_with_its_picture(page: Page) -> None:
    opened(page)
    drop_and_ask(page, RED, "What shape is red?")
    expect(page.locator(".question img")).to_be_visible()
    assert last_answer(page) == "circle"
    page.reload()
    expect(page.locator(".question img")).to_be_visible()


@needs_chromium
def test_pictures_are_pasted_and_chosen_too_and_all_are_shown_to_the_model(page: Page) -> None:
    opened(page)
    paste(page, png(scene("green triangle")))
    expect(page.locator(".chip")).to_have_count(1)
    page.set_input_files(
        "#file", {"name": "second.png", "mimeType": "image/png", "buffer": png(scene("purple circle"))}
    )
    expect(page.locator(".chip[data-state=ready]")).to_have_count(2)
    ask(page, "Which picture has the purple circle?")
    assert last_answer(page) == "second"


@needs_chromium
def test_a_pasted_file_is_a_picture_and_what_an_office_copies_is_text(page: Page) -> None:
    opened(page)
    paste(page, RED, {"text/plain": "/home/somebody/scene.png"})
    expect(page.locator(".chip")).to_have_count(1)
    paste(page, RED, {"text/plain": "a cell", "text/html": "<b>a cell</b>"})
    paste(page, RED, {"text/html": "<img src='scene.png'>"})  # as a browser copies a picture
    expect(page.locator(".chip")).to_have_count(2)


@needs_chromium
def test_an_answer_comes_piece_by_piece(page: Page, script: Script) -> None:
    opened(page)
    ask(page, "Count.")
    script.wait()
    written = ""
    for piece in ("one, ", "**two**", ", three"):
        script.say(piece)
        written += piece.strip("*")
        expect(page.locator(".answer .written")).to_have_text(written)
    expect(page.locator(".answer")).to_have_attribute("aria-busy", "true")
    expect(page.locator(".answer strong")).to_have_text("two")
    expect(page.locator("#rate")).to_contain_text("tokens/s")
    script.end()
    assert last_answer(page) == written


@needs_chromium
def test_a_located_answer_has_its_box_on_the_right_pixels(page: Page) -> None:
    drawn = scene("red circle", "blue square", size=(640, 448), seed=3)
    [circle] = [shape for shape in drawn.shapes if shape.kind == "circle"]
    opened(page)
    drop(page, png(drawn))
    ask(page, "Locate the red circle.")
    edge = page.locator(".stage .edge")
    expect(edge).to_have_count(1)
    x, y, width, height = (float(edge.get_attribute(name) or "") for name in ("x", "y", "width", "height"))
    assert overlap((x, y, x + width, y + height), circle.box) > 0.7

    page.mouse.move(0, 0)
    shown, stage = edge.bounding_box(), page.locator(".stage img").bounding_box()
    assert shown
    assert stage
    scale = stage["width"] / 640
    assert shown["x"] - stage["x"] == pytest.approx(x * scale, abs=4)
    assert shown["y"] - stage["y"] == pytest.approx(y * scale, abs=4)
    assert shown["width"] == pytest.approx(width * scale, abs=8)

    picture = Image.open(io.BytesIO(page.locator(".stage").screenshot())).convert("RGB")
    middle = (round((x + width / 2) * scale), round((y + height / 2) * scale))
    right_edge = (round((x + width) * scale), middle[1])
    red, green, blue = picture.getpixel(middle)
    assert red > 180
    assert green < 90
    assert blue < 90
    assert nearest(picture, right_edge, BLUE) < 40


@needs_chromium
def test_boxes_of_no_picture_are_left_as_they_were_written(page: Page, script: Script) -> None:
    opened(page)
    boxes = [{"label": "one", "x1": 10, "y1": 10, "x2": 90, "y2": 90}]
    answered(page, script, "Where was it?", '[{"bbox_2d": [1, 2, 3, 4], "label": "one"}]', boxes=boxes, points=[])
    expect(page.locator(".answer .written")).to_contain_text("bbox_2d")
    expect(page.locator(".folded, .stage")).to_have_count(0)


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Intersection over union."""
    wide = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    high = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    both = wide * high
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def nearest(picture: Image.Image, at: tuple[int, int], colour: tuple[int, int, int]) -> int:
    """How far the best pixel within three of `at` is from a colour."""
    around = [(at[0] + x, at[1] + y) for x in range(-3, 4) for y in range(-3, 4)]
    inside = [place for place in around if 0 <= place[0] < picture.width and 0 <= place[1] < picture.height]
    return min(sum(abs(a - b) for a, b in zip(picture.getpixel(place), colour, strict=True)) for place in inside)


@needs_chromium
def test_the_end_stays_in_sight_when_boxes_come_and_when_the_question_grows(page: Page, script: Script) -> None:
    page.set_viewport_size({"width": 390, "height": 700})
    opened(page)
    drop(page, RED)
    ask(page, "Locate both.")
    script.wait()
    script.say("word " * 500)
    at_end(page)
    script.delta(boxes=[{"label": "one", "x1": 10, "y1": 10, "x2": 90, "y2": 90}])
    script.end()
    expect(page.locator(".stage")).to_be_visible()
    at_end(page)
    page.fill("#text", "a line\n" * 8)
    at_end(page)
    page.locator("#talk").hover()
    page.mouse.wheel(0, -300)
    expect(page.locator("#to-end")).to_be_visible()
    page.fill("#text", "")
    expect(page.locator("#to-end")).to_be_visible()
    page.click("#to-end")
    at_end(page)


def at_end(page: Page) -> None:
    """The end of the chat is in sight, and stays there."""
    page.wait_for_timeout(200)
    hidden = page.eval_on_selector("#talk", "(talk) => talk.scrollHeight - talk.scrollTop - talk.clientHeight")
    assert hidden < 2


@needs_chromium
def test_pointing_at_a_label_shows_its_box_and_the_other_way_round(page: Page, script: Script) -> None:
    opened(page)
    drop(page, RED)
    ask(page, "Locate both.")
    script.wait()
    boxes = [{"label": "one", "x1": 10, "y1": 10, "x2": 90, "y2": 90}]
    boxes += [{"label": "two", "x1": 120, "y1": 120, "x2": 240, "y2": 220}]
    script.say('[{"bbox_2d": [1, 2, 3, 4], "label": "one"}]')
    script.delta(boxes=boxes)
    script.end()
    labels, frames = page.locator(".label"), page.locator(".boxes .box")
    labels.nth(1).hover()
    expect(page.locator(".boxes .pointed")).to_have_attribute("aria-label", "Box 2: two")
    labels.nth(0).focus()
    page.mouse.move(0, 0)
    expect(page.locator(".boxes .pointed")).to_have_attribute("aria-label", "Box 1: one")
    frames.nth(0).hover()  # the larger one comes first
    expect(labels.nth(1)).to_have_class(re.compile("pointed"))


# Waiting, stopping, failing


@needs_chromium
def test_the_way_to_the_first_token_is_told(page: Page, script: Script) -> None:
    opened(page)
    ask(page, "Hello!")
    script.wait()
    stage = page.locator(".stage-of-work")
    for progress, told in (
        ({"stage": "queue", "done": 2, "total": 3}, "place 2 of 3"),
        ({"stage": "encode", "done": 64, "total": 256}, "64 of 256 image tokens"),
        ({"stage": "prefill", "done": 100, "total": 400}, "100 of 400 tokens"),
    ):
        script.chunk(progress=progress)
        expect(stage).to_contain_text(told)
    script.say("Hi")
    expect(stage).to_be_hidden()
    script.end()
    assert last_answer(page) == "Hi"
    expect(page.locator("#rate")).to_have_text("31.2 tokens/s")
    expect(page.locator(".answer .foot .meta")).to_contain_text("12 tokens · 31.2 tokens/s · first token after 0.41 s")
    assert script.asked[0]["stream_options"] == {"include_usage": True, "include_progress": True}


@needs_chromium
def test_what_a_model_thinks_first_is_folded_away(page: Page, script: Script) -> None:
    opened(page)
    ask(page, "Why?")
    script.wait()
    script.delta(reasoning_content="Let me *see*.")
    expect(page.locator(".thinking summary")).to_have_text("Thinking…")
    script.say("Because.")
    script.end()
    assert last_answer(page) == "Because."
    expect(page.locator(".thinking em")).to_be_hidden()
    page.click(".thinking summary")
    expect(page.locator(".thinking em")).to_have_text("see")
    ask(page, "Really?")
    script.wait(2)
    assert [each["content"] for each in script.asked[1]["messages"]] == ["Why?", "Because.", "Really?"]
    script.end()


@needs_chromium
@pytest.mark.parametrize("way", ["Escape", "the button"])
def test_an_answer_is_stopped_and_what_there_is_of_it_stays(page: Page, script: Script, way: str) -> None:
    opened(page)
    ask(page, "Tell me everything.")
    script.wait()
    script.say("Once upon")
    expect(page.locator(".answer .written")).to_have_text("Once upon")
    page.keyboard.press("Escape") if way == "Escape" else page.click("#stop")
    assert last_answer(page) == "Once upon"
    assert script.aborted == 1
    expect(page.locator(".answer .foot .meta")).to_contain_text("stopped")
    expect(page.locator("#send")).to_be_visible()


@needs_chromium
def test_a_failed_request_keeps_the_question_and_is_tried_again(page: Page, script: Script) -> None:
    opened(page)
    drop(page, RED)
    script.refuse(429, "The queue is full. Come again in 5 s.")
    ask(page, "What shape is red?")
    expect(page.locator(".failed")).to_contain_text("The queue is full")
    expect(page.locator("#said")).to_contain_text("No answer")
    script.vanish()
    page.click(".failed button")
    expect(page.locator(".failed")).to_contain_text("cannot be reached")
    script.off()
    page.click(".failed button")
    assert last_answer(page) == "circle"
    expect(page.locator(".message")).to_have_count(2)
    expect(page.locator(".turns:visible")).to_have_count(0)


@needs_chromium
def test_a_torn_answer_says_so_and_keeps_what_came(page: Page, script: Script) -> None:
    opened(page)
    ask(page, "Hello!")
    script.wait()
    script.say("Half an")
    script.tear()
    expect(page.locator(".failed")).to_contain_text("broke off")
    assert last_answer(page) == "Half an"


@needs_chromium
def test_a_file_that_is_no_picture_is_told_and_harms_nothing(page: Page) -> None:
    opened(page)
    drop(page, b"PK", name="paper.docx", type="application/msword")
    expect(page.locator("#notice")).to_have_text("paper.docx is no picture, PDF or video.")
    drop(page, b"nothing of a picture", name="broken.png")
    expect(page.locator(".chip")).to_have_attribute("data-state", "failed")
    expect(page.locator(".chip .state")).to_contain_text("not a picture")
    page.click(".chip [aria-label='Remove broken.png']")
    expect(page.locator(".chip")).to_have_count(0)


@needs_chromium
def test_a_question_is_not_sent_with_a_picture_that_failed(page: Page, script: Script) -> None:
    opened(page)
    drop(page, b"nothing of a picture", name="broken.png")
    expect(page.locator(".chip")).to_have_attribute("data-state", "failed")
    ask(page, "What is this?")
    expect(page.locator("#notice")).to_contain_text("broken.png could not be sent")
    expect(page.locator("#text")).to_have_value("What is this?")
    page.click(".chip [aria-label='Remove broken.png']")
    page.press("#text", "Enter")
    script.wait()
    script.end()


@needs_chromium
def test_a_chat_goes_on_without_a_picture_that_is_gone_or_cannot_be_read(page: Page, script: Script) -> None:
    opened(page)
    uploads: list[Route] = []
    page.route("**/v1/pictures", lambda route: uploads.append(route))
    drop(page, RED)
    expect(page.locator(".chip")).to_have_attribute("data-state", "sending")
    ask(page, "What shape is red?")
    uploads[0].fulfill(status=400, json={"error": {"message": "This is not a picture."}})
    expect(page.locator("#notice")).to_contain_text("cannot be read")
    script.wait()
    script.say("I see none.")
    script.end()
    assert last_answer(page) == "I see none."
    page.evaluate("""() => new Promise((resolve) => {
        indexedDB.open("gguf-vl", 1).onsuccess = ({target}) => {
            const transaction = target.result.transaction("pictures", "readwrite");
            transaction.objectStore("pictures").clear();
            transaction.oncomplete = () => resolve(target.result.close());
        };
    })""")
    page.reload()
    ask(page, "Are you sure?")
    script.wait()
    expect(page.locator("#notice")).to_contain_text("no longer kept")
    assert [each["content"] for each in script.asked[0]["messages"]] == [
        "What shape is red?",
        "I see none.",
        "Are you sure?",
    ]
    script.end()


@needs_chromium
def test_a_picture_that_is_removed_is_forgotten_by_the_server(page: Page, server: Serve) -> None:
    opened(page)
    with page.expect_response(lambda response: response.url.endswith("/v1/pictures")) as uploaded:
        drop(page, png(scene("brown star")))
    id = uploaded.value.json()["id"]
    expect(page.locator(".chip")).to_have_attribute("data-state", "ready")
    assert urllib.request.urlopen(f"{server.url}/v1/pictures/{id}").status == 200
    with page.expect_response(lambda response: response.request.method == "DELETE"):
        page.click(".chip [aria-label^=Remove]")
    with pytest.raises(urllib.error.HTTPError, match="404") as gone:
        urllib.request.urlopen(f"{server.url}/v1/pictures/{id}")
    gone.value.close()


@needs_chromium
def test_a_picture_that_the_server_has_forgotten_is_sent_again(page: Page, server: Serve) -> None:
    opened(page)
    with page.expect_response(lambda response: response.url.endswith("/v1/pictures")) as uploaded:
        drop(page, png(scene("pink square")))
    expect(page.locator(".chip")).to_have_attribute("data-state", "ready")
    forget = urllib.request.Request(f"{server.url}/v1/pictures/{uploaded.value.json()['id']}", method="DELETE")
    urllib.request.urlopen(forget).close()
    ask(page, "What shape is pink?")
    assert last_answer(page) == "square"
