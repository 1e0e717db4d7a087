"""The web page, in Debian's Chromium: keys, settings and the log; and everybody can use it."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.server.page.browser import RED, Script, ask, drop, last_answer, needs_chromium, opened
from tests.server.page.test_markdown import MARKDOWN

# Keys


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


# Settings, log


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
