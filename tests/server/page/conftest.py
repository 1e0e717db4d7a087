"""Pages in Debian's Chromium, and what is heard of them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.server.conftest import Serve, Start
from tests.server.page.browser import CHROMIUM, Heard, Script


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


@pytest.fixture
def other(page: Page, heard: Heard) -> Page:
    """A second tab of the same browser, that is not opened yet."""
    other = page.context.new_page()
    heard.listen(other)
    return other


@pytest.fixture(scope="session")
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
