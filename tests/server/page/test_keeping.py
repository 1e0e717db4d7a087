"""The web page, in Debian's Chromium: nothing is lost, in one tab or in two."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.server.conftest import Serve, eventually
from tests.server.page.browser import RED, News, Script, answered, ask, drop, last_answer, needs_chromium, opened


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
