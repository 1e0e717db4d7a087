"""The files of the web page: small, guarded, and all from here."""

from __future__ import annotations

import re
import urllib.error
import urllib.request

import pytest
from playwright.sync_api import Page, expect

from gguf_vl.server import page_files
from tests.server.conftest import Serve
from tests.server.page.browser import needs_chromium

MOST_BYTES = 160_000
"""What the page may weigh, and the description of the interfaces, which is another, not beside it. It was 150,000
before documents and videos, which took 4,000 where no style, symbol or function was left unused.
"""


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
    assert sum(path.stat().st_size for path in files if path.stem != "docs") < MOST_BYTES
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
