"""The web page, in Debian's Chromium: what a person does with it, and what nobody must be able to do with it."""

from __future__ import annotations

import io
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from gguf_vl.server import page_files
from tests.scenes import png, scene
from tests.server.browser import CHROMIUM, Heard, News, Script, drop, paste
from tests.server.conftest import Serve, Start, eventually

needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="chromium is not here")

MOST_BYTES = 150_000
"""What the page and the description of the interfaces may weigh together."""
BLUE = (0x00, 0x72, 0xB2)
"""The first box's colour."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.getuid() == 0 else []  # Chromium has none for root
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def page(browser: Browser, server: Serve, heard: Heard) -> Iterator[Page]:
    """A page that is not opened yet, in a browser that has kept nothing. Nothing may come from elsewhere in any test,
    and the browser complain of nothing.
    """
    context = browser.new_context(base_url=server.url)
    page = context.new_page()
    heard.listen(page)
    yield page
    context.close()
    assert heard.elsewhere(server.url) == []
    assert heard.complaints == []


@pytest.fixture
def script(page: Page) -> Script:
    """Answers that the test tells."""
    return Script(page)


def opened(page: Page, path: str = "/") -> Page:
    """The page, with its models known."""
    page.goto(path)
    expect(page.locator("#model-name")).to_have_text("pocket")
    return page


def ask(page: Page, question: str) -> None:
    page.fill("#text", question)
    page.press("#text", "Enter")


def last_answer(page: Page) -> str:
    """The last answer, when it is whole."""
    answer = page.locator(".answer").last
    expect(answer).to_have_attribute("aria-busy", "false")
    return answer.locator(".written").inner_text()


RED = png(scene("red circle"))


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
    drop(page, b"%PDF-1.7", name="paper.pdf", type="application/pdf")
    expect(page.locator("#notice")).to_have_text("paper.pdf is no picture.")
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


# Nothing is lost


@needs_chromium
def test_a_chat_is_there_after_a_reload_with_its_pictures(page: Page) -> None:
    opened(page)
    drop(page, RED)
    ask(page, "What shape is red?")
    assert last_answer(page) == "circle"
    page.reload()
    assert last_answer(page) == "circle"
    expect(page.locator(".question .text")).to_have_text("What shape is red?")
    assert page.eval_on_selector(".question img", "(image) => image.decode().then(() => image.naturalWidth)") == 256
    expect(page.locator("#chats a[aria-current]")).to_contain_text("What shape is red?")
    ask(page, "What color is the circle?")
    assert last_answer(page) == "red"


@needs_chromium
def test_what_was_being_written_is_there_after_a_reload(page: Page) -> None:
    opened(page)
    drop(page, RED)
    expect(page.locator(".chip")).to_have_attribute("data-state", "ready")
    page.fill("#text", "What shape is")
    page.reload()
    expect(page.locator("#text")).to_have_value("What shape is")
    expect(page.locator(".chip")).to_contain_text("256 × 256")
    page.goto("/")
    expect(page.locator("#text")).to_have_value("What shape is")
    page.locator("#text").press_sequentially(" red?")
    page.press("#text", "Enter")
    assert last_answer(page) == "circle"


@needs_chromium
def test_a_question_that_was_left_for_a_new_chat_is_in_the_list(page: Page) -> None:
    opened(page)
    drop(page, RED)
    expect(page.locator(".chip")).to_have_attribute("data-state", "ready")
    page.fill("#text", "What shape is red?")
    page.click("#new-chat")
    expect(page.locator(".chip")).to_have_count(0)
    expect(page.locator("#text")).to_have_value("")
    page.fill("#text", "And a text alone")
    page.click("#new-chat")
    page.reload()
    expect(page.locator("#chats .name")).to_have_text(["And a text alone", "What shape is red?"])
    page.locator("#chats a").last.click()
    expect(page.locator(".chip")).to_contain_text("256 × 256")
    page.press("#text", "Enter")
    assert last_answer(page) == "circle"


@needs_chromium
def test_what_the_browser_cannot_keep_is_told(page: Page, script: Script, server: Serve) -> None:
    opened(page)
    devtools = page.context.new_cdp_session(page)
    devtools.send("Storage.overrideQuotaForOrigin", {"origin": server.url, "quotaSize": 20_000})
    ask(page, "word " * 20_000)
    expect(page.locator("#notice")).to_contain_text("can keep no more chats")
    expect(page.locator("#notice")).to_contain_text("QuotaExceededError")
    script.wait()
    script.end()


@needs_chromium
def test_an_answer_that_a_reload_cut_off_is_kept_and_can_be_asked_for_again(page: Page, script: Script) -> None:
    opened(page)
    ask(page, "Hello!")
    script.wait()
    script.say("Half an answer")
    expect(page.locator(".answer .written")).to_have_text("Half an answer")
    page.reload()
    expect(page.locator(".answer .written")).to_have_text("Half an answer")
    expect(page.locator(".failed")).to_contain_text("not finished")
    page.click(".failed button")
    script.wait()
    script.say("A whole answer")
    script.end()
    assert last_answer(page) == "A whole answer"
    page.click(".answer [aria-label='Earlier answer']")
    expect(page.locator(".answer .written")).to_have_text("Half an answer")


@needs_chromium
def test_a_question_is_edited_and_an_answer_had_again_and_the_old_ones_stay(page: Page, script: Script) -> None:
    opened(page)
    for number, question in enumerate(("first", "second"), 1):
        ask(page, question)
        script.wait(number)
        script.say(f"answer to {question}")
        script.end()
        assert last_answer(page) == f"answer to {question}"
    page.locator(".question").first.locator("[aria-label='Edit and ask again']").click()
    page.fill(".editing textarea", "first, but better")
    page.press(".editing textarea", "Enter")
    script.wait(3)
    assert [each["content"] for each in script.asked[2]["messages"]] == ["first, but better"]
    script.say("better answer")
    script.end()
    assert last_answer(page) == "better answer"
    page.click("[aria-label='Answer again']")
    script.wait(4)
    script.say("yet another")
    script.end()
    assert last_answer(page) == "yet another"
    expect(page.locator(".answer .turns")).to_contain_text("2/2")
    page.click("[aria-label='Earlier version of the question']")
    expect(page.locator(".message")).to_have_count(4)
    assert last_answer(page) == "answer to second"


@needs_chromium
def test_chats_are_found_renamed_and_deleted(page: Page, script: Script) -> None:
    opened(page)
    for number, question in enumerate(("about apples", "about pears"), 1):
        page.click("#new-chat")
        ask(page, question)
        script.wait(number)
        script.say(f"{number} of them")
        script.end()
        assert last_answer(page) == f"{number} of them"
    titles = page.locator("#chats .name")
    expect(titles).to_have_text(["about pears", "about apples"])
    page.fill("#search", "1 OF")
    expect(titles).to_have_text(["about apples"])
    page.fill("#search", "")
    page.press("#chats li:nth-child(2) a", "F2")
    page.fill("#chats input", "Fruit")
    page.press("#chats input", "Enter")
    expect(titles).to_have_text(["about pears", "Fruit"])
    page.locator("#chats a").nth(1).click()
    expect(page.locator("#title")).to_have_text("Fruit")
    expect(page.locator(".question .text")).to_have_text("about apples")
    page.locator("#chats li").nth(1).hover()
    page.click("[aria-label='Delete Fruit']")
    page.click("dialog .primary")
    expect(titles).to_have_text(["about pears"])
    expect(page.locator(".message")).to_have_count(0)
    page.reload()
    expect(titles).to_have_text(["about pears"])


@needs_chromium
def test_two_tabs_show_the_same_chats(page: Page, script: Script, other: Page) -> None:
    opened(page)
    opened(other)
    answered(page, script, "Hello!", "Hi")
    other.locator("#chats a").click()
    assert last_answer(other) == "Hi"
    ask(page, "Again!")
    script.wait(2)
    script.say("Hi again")
    script.end()
    expect(other.locator(".answer .written")).to_have_text(["Hi", "Hi again"])
    assert last_answer(page) == "Hi again"


@pytest.fixture
def other(page: Page, heard: Heard) -> Page:
    """A second tab of the same browser, that is not opened yet."""
    other = page.context.new_page()
    heard.listen(other)
    return other


def answered(page: Page, script: Script, question: str, answer: str, **delta: Any) -> None:
    """Ask, and wait for that answer."""
    ask(page, question)
    script.wait()
    script.say(answer)
    if delta:
        script.delta(**delta)
    script.end()
    last_answer(page)


@needs_chromium
@pytest.mark.parametrize(
    ("knows", "shown"), [(False, ["Hello!", "From that"]), (True, ["Hello!", "From this", "From that"])]
)
def test_two_tabs_that_are_answered_in_one_chat_lose_nothing(
    page: Page, script: Script, other: Page, knows: bool, shown: list[str]
) -> None:
    """Where the other tab knows of the question here, its own follows that one; else it stands beside it."""
    news, news_there, there = News(page), News(other), Script(other)
    opened(page)
    answered(page, script, "Hello!", "Hi")
    opened(other, page.url)
    expect(other.locator(".answer .written")).to_have_text("Hi")
    if not knows:
        news_there.hold()
    ask(page, "From this")
    script.wait(2)
    if knows:
        expect(other.locator(".question .text").last).to_have_text("From this")
    ask(other, "From that")
    there.wait()
    news_there.release()
    learns(page, "From that")
    learns(other, "From this")
    news.hold()
    news_there.hold()
    script.say("answer-to-this")
    there.say("answer-")
    script.end()
    assert last_answer(page) == "answer-to-this"
    eventually(lambda: "answer-to-this" in kept_messages(page))
    there.say("to-that")
    there.end()
    assert last_answer(other) == "answer-to-that"
    eventually(lambda: "answer-to-that" in kept_messages(other))
    news.release()
    news_there.release()
    learns(page, "answer-to-that")
    learns(other, "answer-to-this")
    for tab in (page, other):
        tab.reload()
        expect(tab.locator(".question .text")).to_have_text(shown)
        assert last_answer(tab) == "answer-to-that"
        assert kept_messages(tab) == {"Hello!", "Hi", "From this", "answer-to-this", "From that", "answer-to-that"}


def learns(page: Page, words: str) -> None:
    """Wait until a tab knows of a message with these words."""
    page.fill("#search", words)
    expect(page.locator("#chats a")).to_have_count(1)


def kept_messages(page: Page) -> set[str]:
    """The texts of all messages that the browser keeps."""
    return set(
        page.evaluate("""() => new Promise((resolve) => {
            indexedDB.open("gguf-vl", 1).onsuccess = ({target}) => {
                const all = target.result.transaction("chats").objectStore("chats").getAll();
                all.onsuccess = () => resolve(all.result.flatMap(({messages}) => messages.map(({text}) => text)));
            };
        })""")
    )


@needs_chromium
def test_a_chat_that_another_tab_deleted_is_left_for_a_new_one(page: Page, script: Script, other: Page) -> None:
    opened(page)
    answered(page, script, "Hello!", "Hi")
    there = Script(other)
    opened(other, page.url)
    expect(other.locator(".message")).to_have_count(2)
    page.locator("#chats li").hover()
    page.click("[aria-label='Delete Hello!']")
    page.click("dialog .primary")
    expect(other.locator(".message")).to_have_count(0)
    answered(other, there, "Still there?", "Yes")
    other.reload()
    assert last_answer(other) == "Yes"


@needs_chromium
def test_a_question_that_was_sent_is_gone_from_the_other_tab_with_its_picture(
    page: Page, script: Script, other: Page
) -> None:
    opened(page)
    drop(page, RED)
    expect(page.locator(".chip")).to_have_attribute("data-state", "ready")
    page.fill("#text", "What shape is red?")
    opened(other, page.url)
    expect(other.locator(".chip")).to_have_count(1)
    page.press("#text", "Enter")
    script.wait()
    expect(other.locator(".chip")).to_have_count(0)
    expect(other.locator("#text")).to_have_value("")
    drop(other, RED)
    expect(other.locator(".chip")).to_have_count(1)
    expect(page.locator(".chip")).to_have_count(1)
    script.end()


@needs_chromium
def test_what_is_folded_is_folded_once(page: Page, script: Script, other: Page) -> None:
    opened(page)
    drop(page, RED)
    boxes = [{"label": "one", "x1": 10, "y1": 10, "x2": 90, "y2": 90}]
    answered(page, script, "Locate it.", '[{"bbox_2d": [1, 2, 3, 4], "label": "one"}]', boxes=boxes)
    opened(other, page.url)
    expect(other.locator(".folded")).to_have_count(1)
    ask(page, "Again!")
    script.wait(2)
    script.say("No.")
    script.end()
    expect(other.locator(".answer .written").last).to_have_text("No.")
    expect(other.locator(".folded")).to_have_count(1)
    expect(other.locator(".stage")).to_have_count(1)


# What a model writes is text


HOSTILE = """# <img src=x onerror=alert(1)>

<script>alert(1)</script> and <b>bold</b> **<iframe src="https://evil.example/">**

[click](javascript:alert(1)) [click](JaVaScRiPt:alert(1)) [click](data:text/html,<script>alert(1)</script>)
[click]( javascript:alert(1)) <javascript:alert(1)> [click](vbscript:x) [good](https://good.example/ "title")
![picture](https://evil.example/spy.png) https://bare.example/a(b)c. [x](https://evil.example/" onclick="alert(1))

| <script>alert(1)</script> | `<b>` |
|---|---|
| [a](javascript:alert(1)) | <img src=https://evil.example/x.png> |

```html" onload="alert(1)
<script>alert(1)</script>
```"""


@needs_chromium
def test_hostile_markdown_stays_text(page: Page, script: Script) -> None:
    page.on("dialog", lambda dialog: pytest.fail("a script ran"))
    opened(page)
    ask(page, "Go on.")
    script.wait()
    for start in range(0, len(HOSTILE), 5):
        script.say(HOSTILE[start : start + 5])
    script.end()
    last_answer(page)
    found = page.eval_on_selector_all(".answer .written *", "(all) => [...new Set(all.map((each) => each.localName))]")
    assert not {"script", "img", "iframe", "b", "object", "style"} & set(found)
    text = page.locator(".answer .written").inner_text()
    for part in ("<img src=x onerror=alert(1)>", "<script>alert(1)</script>", "[click](javascript:alert(1))"):
        assert part in text
    links = page.eval_on_selector_all(".answer .written a", "(all) => all.map(({href, rel}) => [href, rel])")
    assert {rel for _, rel in links} == {"noopener noreferrer"}
    assert all(re.match(r"https://(good|evil|bare)\.example/", href) for href, _ in links)
    assert ["https://bare.example/a(b)c", "noopener noreferrer"] in links
    attributes = page.eval_on_selector_all(
        ".answer .written *", "(all) => all.flatMap((each) => each.getAttributeNames())"
    )
    assert not [name for name in attributes if name.startswith("on") or name == "style"]


MARKDOWN = """Some *words*, **bold with `code`** and ***both***,
a second line, snake_case_names, 2 * 3 * 4, and ~~struck~~.

## A heading ##
1. one
2. two
   - inner **a**
   - inner b

     a paragraph
3. three

* * *
- [x] done
- [ ] to do

> quoted
> - list

| a | b \\| c |
|:--|--:|
| 1 | `x|y` |
| 2 |

text
***not a rule***

```python
def f():
    return "```"
```
after <https://example.org> and &amp; \\*escaped\\*
- [link **bold**](https://example.org/a_b_c)

[{"bare": "*data*"},
 {}]

[brackets] alone
"""
_AS_WHOLE_AND_IN_PIECES = """async ([text, size]) => {
    const {Markdown} = await import("/page/markdown.js");
    const inPieces = document.createElement("div");
    const growing = new Markdown(inPieces);
    for (let end = size; end < text.length + size; end += size) growing.show(text.slice(0, end));
    const whole = document.createElement("div");
    new Markdown(whole).show(text);
    return [whole.innerHTML, inPieces.innerHTML];
}"""


@needs_chromium
@pytest.mark.parametrize("size", [1, 3, 17])
def test_markdown_that_grows_ends_as_markdown_that_comes_whole(page: Page, size: int) -> None:
    opened(page)
    for text in (MARKDOWN, HOSTILE):
        whole, in_pieces = page.evaluate(_AS_WHOLE_AND_IN_PIECES, [text, size])
        assert in_pieces == whole


@needs_chromium
def test_markdown_is_what_it_says(page: Page) -> None:
    opened(page)
    page.evaluate(
        """async (text) => {
            const {Markdown} = await import("/page/markdown.js");
            const element = document.createElement("div");
            element.id = "shown";
            document.body.append(element);
            new Markdown(element).show(text);
        }""",
        MARKDOWN,
    )
    shown = page.locator("#shown")
    expect(shown.locator("> p").first).to_have_text(
        "Some words, bold with code and both,a second line, snake_case_names, 2 * 3 * 4, and struck.",
        use_inner_text=False,
    )
    expect(shown.locator("strong > code")).to_have_text("code")
    expect(shown.locator("strong > em").first).to_have_text("both")
    expect(shown.locator("> h4")).to_have_text("A heading")
    expect(shown.locator("> ol > li")).to_have_count(3)
    expect(shown.locator("> ol > li:nth-child(2) > ul > li")).to_have_count(2)
    expect(shown.locator("> ol > li:nth-child(2) p")).to_have_text("a paragraph")
    expect(shown.locator("> hr")).to_have_count(1)
    expect(shown.locator(".task input:checked")).to_have_count(1)
    expect(shown.locator("blockquote li")).to_have_text("list")
    expect(shown.locator("th")).to_have_text(["a", "b | c"])
    expect(shown.locator("td")).to_have_text(["1", "x|y", "2", ""])
    expect(shown.locator("td").nth(1)).to_have_class("to-right")
    expect(shown.locator("pre code")).to_have_text(['def f():\n    return "```"', '[{"bare": "*data*"},\n {}]'])
    expect(shown.locator("figcaption span")).to_have_text(["python", "json"])
    expect(shown.get_by_text("after")).to_have_text("after https://example.org and & *escaped*")
    expect(shown.locator("li a strong")).to_have_text("bold")


@needs_chromium
def test_blocks_that_are_whole_are_not_built_again(page: Page) -> None:
    opened(page)
    same = page.evaluate("""async () => {
        const {Markdown} = await import("/page/markdown.js");
        const element = document.createElement("div");
        const shown = new Markdown(element);
        shown.show("first\\n\\n```\\ncode");
        const [first, code] = element.children;
        shown.show("first\\n\\n```\\ncode that grows\\n```\\n\\nlast");
        return [element.children.length, element.children[0] === first, element.children[1] === code];
    }""")
    assert same == [3, True, True]


@needs_chromium
def test_no_text_keeps_the_page_from_answering(page: Page) -> None:
    opened(page)
    pieces = """*a |**|[|[a](|`|``a`|<|&|_a|~~|http://|> |- |  - a\n|#|* * |\\|![|(((|```\n|***a** """.split("|")
    took = page.evaluate(
        """async (pieces) => {
            const {Markdown} = await import("/page/markdown.js");
            return pieces.map((piece) => {
                const began = performance.now();
                new Markdown(document.createElement("div")).show(piece.repeat(30000 / piece.length) + "x");
                return [piece, performance.now() - began];
            });
        }""",
        [*pieces, "|", "|-"],
    )
    assert [piece for piece, milliseconds in took if milliseconds > 2000] == []


# Keys


@pytest.fixture(scope="module")
def locked(serve: Start) -> Serve:
    """A server that wants a key."""
    return serve(GGUF_VL_API_KEY="open-sesame")


@pytest.fixture
def locked_page(browser: Browser, locked: Serve, heard: Heard) -> Iterator[Page]:
    """The page of such a server."""
    context = browser.new_context(base_url=locked.url)
    page = context.new_page()
    heard.listen(page)
    page.goto("/")
    yield page
    context.close()
    assert heard.complaints == []


def give_key(page: Page, key: str) -> None:
    page.fill("dialog input", key)
    page.press("dialog input", "Enter")


@needs_chromium
def test_a_key_is_asked_for_where_one_is_wanted_and_kept_for_the_tab(locked_page: Page) -> None:
    page, dialog = locked_page, locked_page.locator("dialog")
    expect(dialog).to_contain_text("asks for a key")
    give_key(page, "wrong-key-1")
    expect(dialog).to_contain_text("does not know the key")
    give_key(page, "open-sesame")
    expect(page.locator("#model-name")).to_have_text("pocket")
    drop(page, RED)
    ask(page, "What shape is red?")
    assert last_answer(page) == "circle"
    page.reload()
    expect(page.locator("#model-name")).to_have_text("pocket")
    expect(dialog).to_have_count(0)
    assert "open-sesame" not in str(page.evaluate("Object.values(localStorage)"))
    page.goto("/docs")
    expect(page.locator(".operation").first).to_be_visible()


@needs_chromium
def test_a_key_that_no_header_can_hold_does_not_lock_the_tab(locked_page: Page) -> None:
    page, dialog = locked_page, locked_page.locator("dialog")
    give_key(page, "schlüssel–☃")
    expect(dialog).to_contain_text("does not know the key")
    give_key(page, " open-sesame\u200b")  # as it comes from some mails
    expect(page.locator("#model-name")).to_have_text("pocket")


@needs_chromium
def test_a_question_waits_where_no_key_is_given(locked_page: Page) -> None:
    page = locked_page
    page.press("dialog input", "Escape")
    ask(page, "Hello!")
    page.press("dialog input", "Escape")
    expect(page.locator(".failed")).to_contain_text("wants a key")
    page.click(".failed button")
    give_key(page, "open-sesame")
    assert "gguf-vl pull 2b" in last_answer(page)


# Settings, tasks, log


@needs_chromium
def test_settings_are_sent_where_they_are_set_and_only_there(page: Page, script: Script) -> None:
    opened(page)
    ask(page, "one")
    script.wait(1)
    script.end()
    assert set(script.asked[0]) == {"model", "messages", "boxes", "stream", "stream_options"}
    page.click("#open-settings")
    page.fill("#set-temperature", "0.3")
    page.fill("#set-top_p", "7")
    page.fill("#set-max_tokens", "64")
    page.fill("#set-system", "Be brief.")
    page.select_option("#set-detail", "high")
    expect(page.locator("#set-top_p")).to_have_attribute("aria-invalid", "true")
    page.reload()
    drop(page, RED)
    ask(page, "two")
    script.wait(1)
    asked = script.asked[0]
    assert (asked["temperature"], asked["max_tokens"], asked.get("top_p")) == (0.3, 64, None)
    assert asked["messages"][0] == {"role": "system", "content": "Be brief."}
    assert asked["messages"][-1]["content"][0]["image_url"]["detail"] == "high"
    script.end()
    page.click("#settings-reset")
    expect(page.locator("#set-temperature")).to_have_value("")
    ask(page, "three")
    script.wait(2)
    assert "temperature" not in script.asked[1]
    script.end()


@needs_chromium
def test_a_task_is_a_question_to_begin_with(page: Page) -> None:
    opened(page)
    page.click("#tasks")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator("#text")).to_have_value(re.compile("^Locate every object"))
    assert page.evaluate("getSelection().toString()") == "every object"
    page.click("#tasks")
    page.keyboard.press("Escape")
    expect(page.locator("#tasks")).to_be_focused()


@needs_chromium
def test_the_log_tells_requests_timings_and_errors(page: Page) -> None:
    opened(page)
    drop(page, RED)
    ask(page, "What shape is red?")
    last_answer(page)
    drop(page, b"nothing", name="broken.png")
    expect(page.locator(".chip")).to_have_attribute("data-state", "failed")
    page.click("#open-log")
    log = page.locator("#log")
    expect(log).to_contain_text(re.compile(r"POST /v1/chat/completions 200 \d+ ms"))
    expect(log.locator(".log-timing")).to_contain_text(re.compile(r"first token .* prompt \d+ tokens"))
    expect(log.locator(".log-error")).to_contain_text("POST /v1/pictures 400")


# Everybody can use it


@needs_chromium
@pytest.mark.parametrize("path", ["/", "/docs"])
def test_everything_that_can_be_used_has_a_name(page: Page, path: str) -> None:
    page.goto(path)
    page.wait_for_selector("#model-name:not(:empty), .operation", state="attached")
    nameless = page.evaluate("""() => [...document.querySelectorAll("button, a, input, select, textarea, [role=meter]")]
        .filter((each) => each.type !== "file")
        .filter((each) => !(each.ariaLabel || each.textContent.trim() || each.labels?.length))
        .map((each) => each.outerHTML)""")
    assert nameless == []


@needs_chromium
def test_it_is_used_with_the_keyboard_alone_and_tells_who_listens(page: Page) -> None:
    opened(page)
    page.focus("#skip")
    expect(page.locator("#skip")).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("#text")).to_be_focused()
    page.keyboard.type("What is")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("this?")
    expect(page.locator("#text")).to_have_value("What is\nthis?")
    page.keyboard.press("Enter")
    last_answer(page)
    expect(page.locator("#said")).to_contain_text("Answer: ")
    assert page.locator("#messages").get_attribute("aria-live") == "off"
    page.focus("#open-settings")
    page.keyboard.press("Enter")
    expect(page.locator("#tab-settings")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#panel-log")).to_be_visible()


@needs_chromium
def test_the_focus_goes_to_the_question_when_what_had_it_goes_away(page: Page, script: Script) -> None:
    opened(page)
    page.fill("#text", "Hello!")
    page.click("#send")
    expect(page.locator("#text")).to_be_focused()
    script.wait()
    script.say("Hi")
    page.click("#stop")
    expect(page.locator("#text")).to_be_focused()
    page.click("[aria-label='Answer again']")
    script.wait(2)
    expect(page.locator("#text")).to_be_focused()
    script.end()
    last_answer(page)
    page.click("[aria-label='Edit and ask again']")
    page.click(".editing .primary")
    script.wait(3)
    expect(page.locator("#text")).to_be_focused()
    script.end()
    last_answer(page)
    page.locator("#chats li").hover()
    page.click("#chats [aria-label^=Delete]")
    page.click("dialog .primary")
    expect(page.locator(".message")).to_have_count(0)
    expect(page.locator("#text")).to_be_focused()


@needs_chromium
@pytest.mark.parametrize("width", [360, 800, 1280])
def test_it_fits_every_width(page: Page, script: Script, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 740})
    opened(page)
    too_wide = "() => document.documentElement.scrollWidth > innerWidth || document.body.scrollWidth > innerWidth"
    assert not page.evaluate(too_wide)
    drop(page, RED, name="a-very-long-name-of-a-picture-that-came-from-some-telephone-or-other.png")
    ask(page, "Go on. " * 20 + "w" * 300)
    script.wait()
    script.say(MARKDOWN + "\n\n| " + " | ".join("column" * 3 for _ in range(8)) + " |\n" + "|---" * 8 + "|\n")
    script.delta(boxes=[{"label": "a label " * 10, "x1": 1, "y1": 1, "x2": 200, "y2": 250}])
    script.end()
    expect(page.locator(".stage")).to_be_visible()
    assert not page.evaluate(too_wide)
    page.click("#open-settings")
    assert not page.evaluate(too_wide)
    page.keyboard.press("Escape")
    if width < 860:
        page.click("#menu")
        expect(page.locator("#search")).to_be_focused()
        page.keyboard.press("Escape")
        expect(page.locator("#menu")).to_be_focused()
        expect(page.locator("#search")).to_be_hidden()


@needs_chromium
def test_the_colours_follow_the_system_and_the_switch_is_kept(page: Page) -> None:
    page.emulate_media(color_scheme="dark")
    opened(page)
    ground = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(ground) == "rgb(22, 22, 21)"
    page.click("#theme")
    assert page.evaluate(ground) == "rgb(247, 246, 243)"
    page.reload()
    assert page.evaluate(ground) == "rgb(247, 246, 243)"


# The files


def fetched(address: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers)) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


@pytest.mark.parametrize("path", ["/", "/docs", "/page/main.js", "/page/style.css", "/page/icon.svg", "/favicon.ico"])
def test_every_file_comes_with_the_policy_and_is_asked_for_anew(server: Serve, path: str) -> None:
    status, headers, body = fetched(server.url + path)
    assert (status, bool(body)) == (200, True)
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-cache"
    assert fetched(server.url + path, **{"If-None-Match": headers["etag"]})[0] == 304


@pytest.mark.parametrize("path", ["/page/", "/page/nothing.js", "/page/%2e%2e/app.py", "/page/..%2fapp.py"])
def test_nothing_but_the_page_is_served(server: Serve, path: str) -> None:
    assert fetched(server.url + path)[0] == 404


def test_the_page_needs_no_key_and_everything_else_does(locked: Serve) -> None:
    paths = ("/", "/docs", "/page/main.js", "/v1/models", "/openapi.json")
    assert [fetched(locked.url + path)[0] for path in paths] == [200, 200, 200, 401, 401]


def test_all_files_together_are_small_and_nothing_in_them_is_inline_or_from_elsewhere() -> None:
    files = [path for path in page_files.FOLDER.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) < MOST_BYTES
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text)
        if path.suffix == ".html":
            assert not re.search(r"\son\w+=|\sstyle=|<style|<script(?![^>]*\ssrc=)", text)
        outside = set(re.findall(r"https?://[\w.]+", text)) - {"http://www.w3.org"}
        assert not outside, path.name


@needs_chromium
def test_the_interfaces_are_described_from_our_own_files(page: Page) -> None:
    page.goto("/docs#post-v1-chat-completions")
    operation = page.locator("#post-v1-chat-completions")
    expect(operation).to_have_attribute("open", "")
    expect(operation.locator("td code").get_by_text("temperature", exact=True)).to_be_visible()
    expect(operation.locator("tr", has_text="messages").first).to_contain_text("list of Message")
    expect(operation.locator("pre")).to_contain_text('"messages"')
    for tag in ("OpenAI", "Anthropic", "Ollama", "Plain", "gguf-vl"):
        expect(page.locator("#contents h2").get_by_text(tag, exact=True)).to_be_visible()
