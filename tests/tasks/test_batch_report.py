"""The report of a batch as a person sees it, in Debian's Chromium."""

from __future__ import annotations

import os
from pathlib import Path

from playwright.sync_api import sync_playwright

from gguf_vl.tasks.batch.formats import JsonLines
from gguf_vl.tasks.batch.line import Line
from gguf_vl.tasks.batch.output import Output
from gguf_vl.tasks.batch.report import write_report
from tests.server.page.browser import CHROMIUM, Heard, needs_chromium
from tests.tasks.batches import draw

SHOWN = "Array.from(document.images).filter(image => image.complete && image.naturalWidth > 0).length"


@needs_chromium
def test_a_long_report_decodes_what_is_seen_finds_what_is_not_and_fits_a_phone(tmp_path: Path) -> None:
    n = 120
    draw(tmp_path / "in", n)
    job = {"model": "pocket", "task": "describe", "prompt": "Describe the picture."}
    with Output(tmp_path / "out.jsonl", job, JsonLines(), resume=False) as lines:
        for at in range(n):
            lines.append(Line(str(tmp_path / "in" / f"{at}.png"), f"The answer {at} of many."))
        lines.append(Line("gone.png", error="There is no file gone.png. Check its path."))
        write_report(tmp_path / "report.html", lines, job)
    heard = Heard()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"] if os.getuid() == 0 else []
        )
        page = browser.new_page(viewport={"width": 390, "height": 800})
        heard.listen(page)
        page.goto((tmp_path / "report.html").as_uri())
        assert page.locator("article").count() == n + 1
        assert page.locator("article").first.inner_text().startswith("gone.png")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.wait_for_function(f"{SHOWN} > 0")
        assert page.evaluate(SHOWN) < n / 2
        assert page.evaluate("window.find('The answer 119 of')")
        page.wait_for_function("scrollY > 5000")
        page.get_by_role("link", name=f"{n} answered").click()
        page.wait_for_function("scrollY < 1000")
        browser.close()
    assert heard.complaints == []
    assert heard.elsewhere("file:") == []
