"""The web page, in Debian's Chromium: what a model writes is text."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.server.page.browser import Script, ask, last_answer, needs_chromium, opened

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
