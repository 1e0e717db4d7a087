"""The web page's tasks, in Debian's Chromium: picked, given what they need, and shown as they want it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.scenes import png, scene
from tests.server.page.browser import RED, Script, ask, drop, last_answer, needs_chromium, opened

TWO = png(scene("red circle", "blue square", size=(384, 288), seed=3))
TABLE = [["City", "People"], ["Leeds", "8|12"], ['The "Hague", NL', ""]]


def pick(page: Page, name: str) -> Locator:
    """Choose a task in the menu; the place where its parameters are."""
    page.click("#tasks")
    page.locator("#tasks-menu button").filter(has=page.get_by_text(name, exact=True)).click()
    return page.locator("#task")


def fill(page: Page, name: str, value: str) -> None:
    page.locator("#task label").filter(has_text=name).locator("input").fill(value)


@needs_chromium
def test_the_menu_has_the_servers_tasks_and_says_what_the_model_has_not_learnt(page: Page) -> None:
    opened(page)
    names = page.locator("#examples .name")
    expect(names).to_have_text(["describe", "ocr", "locate", "count", "compare", "spatial"])
    page.click("#tasks")
    items = page.locator("#tasks-menu button")
    expect(items).to_have_count(20)
    expect(items.first).to_be_focused()
    page.keyboard.press("End")
    expect(items.last).to_be_focused()
    expect(items.filter(has_text="receipt").first).to_contain_text("Not learnt by this model")
    page.keyboard.press("Escape")
    expect(page.locator("#tasks")).to_be_focused()


@needs_chromium
def test_what_is_located_is_shown_on_the_picture_and_a_chat_goes_on_behind_it(page: Page) -> None:
    opened(page)
    drop(page, TWO)
    pick(page, "locate")
    expect(page.locator("#task input").first).to_be_focused()
    expect(page.locator("#task select option")).to_have_text(["bbox", "point"])
    expect(page.locator("#task select")).to_have_value("bbox")
    page.keyboard.type("the red circle")
    page.keyboard.press("Enter")
    expect(page.locator(".stage .edge")).to_have_count(1)
    expect(page.locator(".label .name")).to_have_text("red circle")
    expect(page.locator(".question .task-of")).to_have_text("locatethingthe red circle")
    expect(page.locator("#task")).to_be_hidden()
    expect(page.locator("#title")).to_have_text("locate: the red circle")
    ask(page, "What colour is the square?")
    assert last_answer(page) == "blue"
    pick(page, "count")
    page.press("#text", "Enter")  # about the picture that was shown, with nothing else to say
    expect(page.locator(".answer")).to_have_count(3)
    assert last_answer(page) == "2"


@needs_chromium
def test_what_a_task_was_given_can_be_edited(page: Page) -> None:
    opened(page)
    drop(page, TWO)
    pick(page, "locate")
    fill(page, "thing", "green star")
    page.press("#text", "Enter")
    assert last_answer(page) == "Nothing was found."
    page.click("[aria-label='Edit and ask again']")
    page.fill(".editing input", "blue square")
    page.press(".editing textarea", "Enter")
    expect(page.locator(".label .name")).to_have_text("blue square")
    expect(page.locator(".question .given")).to_have_text("thingblue square")
    expect(page.locator(".question .turns")).to_contain_text("2/2")


@needs_chromium
def test_what_is_not_there_is_told_so(page: Page) -> None:
    opened(page)
    drop(page, TWO)
    pick(page, "locate")
    page.fill("#text", "green star")  # the one thing that is needed, as words
    page.press("#text", "Enter")
    assert last_answer(page) == "Nothing was found."
    expect(page.locator(".stage")).to_have_count(0)


@needs_chromium
def test_a_task_is_not_sent_without_what_it_needs(page: Page, script: Script) -> None:
    opened(page)
    pick(page, "locate")
    page.click("#send")
    expect(page.locator("#notice")).to_have_text("locate is about a picture. Add one first.")
    drop(page, RED)
    page.click("#send")
    expect(page.locator("#notice")).to_contain_text("Say thing first")
    expect(page.locator("#task input").first).to_be_focused()
    pick(page, "compare")
    page.click("#send")
    expect(page.locator("#notice")).to_have_text("compare is about 2 pictures. Add more first.")
    page.click("#task [aria-label^='Leave out']")
    expect(page.locator("#task")).to_be_hidden()
    assert script.asked == []


@needs_chromium
def test_a_task_goes_before_the_settings_and_is_kept_until_it_is_sent(page: Page, script: Script) -> None:
    opened(page)
    page.click("#open-settings")
    page.fill("#set-temperature", "0.9")
    page.fill("#set-max_tokens", "64")
    page.fill("#set-system", "Be brief.")
    page.click("#close-panel")
    drop(page, RED)
    pick(page, "support")
    fill(page, "product", "Writer")
    page.fill("#text", "Help!")
    expect(page.locator(".chip")).to_have_attribute("data-state", "ready")
    page.wait_for_timeout(1000)  # drafts are written a moment later
    page.reload()
    expect(page.locator("#task label").filter(has_text="product").locator("input")).to_have_value("Writer")
    page.press("#text", "Enter")
    script.wait()
    [message] = script.asked[0]["messages"]
    assert (message["task"], message["parameters"]) == ("support", {"product": "Writer"})
    assert [part["type"] for part in message["content"]] == ["image_url", "text"]
    assert (script.asked[0].get("temperature"), script.asked[0]["max_tokens"]) == (None, 64)
    script.say("Restart it.")
    script.end()
    assert last_answer(page) == "Restart it."
    ask(page, "Thanks")
    script.wait(2)
    assert script.asked[1]["messages"][0] == {"role": "system", "content": "Be brief."}
    assert script.asked[1]["messages"][1]["task"] == "support"
    assert script.asked[1]["temperature"] == 0.9
    script.end()


def scripted(page: Page, script: Script, task: str, text: str, **data: Any) -> None:
    """A task's answer, as a model that has learnt it would give it."""
    opened(page)
    drop(page, RED)
    pick(page, task)
    page.press("#text", "Enter")
    script.wait()
    script.say(text)
    script.end(**data)
    expect(page.locator(".answer")).to_have_attribute("aria-busy", "false")


@needs_chromium
def test_a_table_is_shown_as_one_and_copied_for_a_spreadsheet(page: Page, script: Script) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    fields = {"title": None, "columns": TABLE[0], "rows": TABLE[1:]}
    scripted(page, script, "table", json.dumps(fields), fields=fields, rows=TABLE)
    expect(page.locator(".answer th")).to_have_text(TABLE[0])
    expect(page.locator(".answer td")).to_have_text(["Leeds", "8|12", 'The "Hague", NL', ""])
    page.click("[aria-label='Copy as CSV']")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == 'City,People\nLeeds,8|12\n"The ""Hague"", NL",\n'


@needs_chromium
def test_json_is_shown_in_lines(page: Page, script: Script) -> None:
    scripted(page, script, "receipt", '{"merchant":"A","items":[]}', fields={"merchant": "A", "items": []})
    expect(page.locator(".answer pre")).to_have_text(re.compile(r'\{\s+"merchant": "A",\s+"items": \[\]\s+\}'))


@needs_chromium
def test_a_page_of_html_is_shown_as_text(page: Page, script: Script) -> None:
    scripted(page, script, "html", "```html\n<h1>Cafe</h1>\n```")
    expect(page.locator(".answer pre")).to_have_text("<h1>Cafe</h1>")
    expect(page.locator(".answer figcaption")).to_contain_text("html")


@needs_chromium
def test_points_are_shown_where_they_are(page: Page, script: Script) -> None:
    opened(page)
    drop(page, RED)
    pick(page, "locate")
    fill(page, "thing", "the nose")
    page.press("#text", "Enter")
    script.wait()
    script.say('[{"point_2d": [500, 250], "label": "nose"}]')
    script.delta(boxes=[], points=[{"label": "nose", "x": 128, "y": 64}])
    script.end()
    dot = page.locator(".stage .dot")
    expect(dot).to_have_count(1)
    stage, seen = page.locator(".stage").bounding_box(), dot.bounding_box()
    assert stage
    assert seen
    middle = (seen["x"] + seen["width"] / 2 - stage["x"], seen["y"] + seen["height"] / 2 - stage["y"])
    assert middle == pytest.approx((stage["width"] / 2, stage["height"] / 4), abs=2)
    expect(page.locator(".label .where")).to_have_text("128, 64")


@needs_chromium
def test_json_that_was_cut_off_is_an_error_with_what_came(page: Page) -> None:
    opened(page)
    page.click("#open-settings")
    page.fill("#set-max_tokens", "12")
    page.click("#close-panel")
    drop(page, TWO)
    pick(page, "locate")
    fill(page, "thing", "red circle")
    page.press("#text", "Enter")
    expect(page.locator(".failed")).to_contain_text("cut off, so it is no whole JSON")
    expect(page.locator(".answer pre")).to_contain_text('[{"bbox_2d"')
    expect(page.locator("#said")).to_contain_text("No answer: The answer was cut off")
