"""What tests of the web page need: questions asked, pictures given, answers told piece by piece, complaints heard."""

from __future__ import annotations

import base64
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import ConsoleMessage, Page, Request, expect

from tests.scenes import png, scene

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="chromium is not here")
RED = png(scene("red circle"))
_NEWS = Path(__file__).with_name("held.js")
_SCRIPT = Path(__file__).with_name("scripted.js")
_TRANSFER = """([files, texts]) => {
    const transfer = new DataTransfer();
    for (const [type, text] of Object.entries(texts)) transfer.setData(type, text);
    for (const {name, type, data} of files) {
        const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
        transfer.items.add(new File([bytes], name, {type}));
    }
    return transfer;
}"""
_PASTE = """(area, transfer) =>
    area.dispatchEvent(new ClipboardEvent("paste", {clipboardData: transfer, bubbles: true, cancelable: true}))"""

_DROP_AND_ASK = """([dataTransfer, question]) => {
    dispatchEvent(new DragEvent("drop", {dataTransfer, bubbles: true, cancelable: true}));
    document.getElementById("text").value = question;
    document.getElementById("composer").requestSubmit();
}"""


def drop(page: Page, *pictures: bytes, name: str = "scene.png", type: str = "image/png") -> None:
    """Drop files somewhere on the page, as a file manager does."""
    transfer = _transfer(page, pictures, name, type)
    for event in ("dragenter", "dragover", "drop"):
        page.dispatch_event("#talk", event, {"dataTransfer": transfer})


def drop_and_ask(page: Page, picture: bytes, question: str) -> None:
    """Drop a picture and ask before anything else can happen in the page."""
    transfer = _transfer(page, (picture,), "scene.png", "image/png")
    page.evaluate(_DROP_AND_ASK, [transfer, question])


def paste(page: Page, picture: bytes, texts: dict[str, str] | None = None) -> None:
    """Paste a picture, as after a screenshot; with texts by their type, as programs put them beside it."""
    page.eval_on_selector("#text", _PASTE, _transfer(page, (picture,), "image.png", "image/png", texts))


def _transfer(
    page: Page, pictures: tuple[bytes, ...], name: str, type: str, texts: dict[str, str] | None = None
) -> Any:
    files = [{"name": name, "type": type, "data": base64.b64encode(data).decode()} for data in pictures]
    return page.evaluate_handle(_TRANSFER, [files, texts or {}])


@dataclass
class Heard:
    """What a page asks for and complains of."""

    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def listen(self, page: Page) -> None:
        """Write down what comes."""
        page.on("request", self._on_request)
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _on_request(self, request: Request) -> None:
        self.requests.append(request.url)

    def _on_console(self, message: ConsoleMessage) -> None:
        """Chromium tells of every status above 399 by itself; those are for the page to tell."""
        if message.type in ("error", "warning") and "the server responded with a status of" not in message.text:
            self.complaints.append(message.text)

    def elsewhere(self, address: str) -> list[str]:
        """Requests to anywhere but the server."""
        return [url for url in self.requests if not url.startswith((address + "/", "blob:", "data:"))]


class News:
    """What other tabs tell a page: it comes late while it is held. To be made before the page is opened."""

    def __init__(self, page: Page) -> None:
        self._page = page
        page.add_init_script(_NEWS.read_text(encoding="utf-8"))

    def hold(self) -> None:
        """Let nothing in from now on."""
        self._page.evaluate("() => { news.isHeld = true }")

    def release(self) -> None:
        """Let in what was held, and what comes."""
        self._page.evaluate("() => news.release()")


class Script:
    """Answers that the test tells. To be made before the page is opened."""

    def __init__(self, page: Page) -> None:
        self._page = page
        page.add_init_script(_SCRIPT.read_text(encoding="utf-8"))

    @property
    def asked(self) -> list[dict[str, Any]]:
        """The bodies that were sent."""
        return self._page.evaluate("script.asked")  # type: ignore[no-any-return]

    @property
    def aborted(self) -> int:
        """How many answers the page has stopped."""
        return self._page.evaluate("script.aborted")  # type: ignore[no-any-return]

    def off(self) -> None:
        """Let the server answer from now on."""
        self._page.evaluate("() => { script.on = false }")

    def refuse(self, status: int, message: str) -> None:
        """Answer the next request with an error."""
        refusal = {"status": status, "message": message}
        self._page.evaluate("(refusal) => { script.refusals.push(refusal) }", refusal)

    def vanish(self) -> None:
        """Do not answer the next request at all."""
        self._page.evaluate("() => { script.refusals.push(null) }")

    def wait(self, n: int = 1) -> None:
        """Until the page has asked so often."""
        self._page.wait_for_function("(n) => script.asked.length >= n", arg=n)

    def chunk(self, *, choices: list[dict[str, Any]] | None = None, **more: Any) -> None:
        """One event of the stream."""
        data = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "pocket", "choices": choices or []}
        self._page.evaluate("(text) => script.tell(text)", f"data: {json.dumps(data | more)}\n\n")

    def delta(self, **delta: Any) -> None:
        """A piece of the answer."""
        self.chunk(choices=[{"index": 0, "delta": delta, "finish_reason": None}])

    def say(self, text: str) -> None:
        """A piece of its text."""
        self.delta(content=text)

    def end(self, reason: str = "stop", *, tokens: int = 12, **delta: Any) -> None:
        """The end, as the server tells it, with the last piece of the answer."""
        timings = {
            "encode_s": 0.2,
            "prefill_s": 0.1,
            "ttft_s": 0.41,
            "decode_tps": 31.2,
            "queue_s": 0.0,
            "tokens_reused": 0,
        }
        self.chunk(choices=[{"index": 0, "delta": delta, "finish_reason": reason}], timings=timings)
        total = 800 + tokens
        self.chunk(usage={"prompt_tokens": 800, "completion_tokens": tokens, "total_tokens": total})
        self._page.evaluate("() => { script.tell('data: [DONE]\\n\\n'); script.close() }")

    def tear(self) -> None:
        """Cut the connection."""
        self._page.evaluate("() => { script.close() }")


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


def answered(page: Page, script: Script, question: str, answer: str, **delta: Any) -> None:
    """Ask, and wait for that answer."""
    ask(page, question)
    script.wait()
    script.say(answer)
    if delta:
        script.delta(**delta)
    script.end()
    last_answer(page)
