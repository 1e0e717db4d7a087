"""Chats leave and come back: Markdown with pictures, a page that needs nothing, data that is imported again."""

from __future__ import annotations

import copy
import errno
import json
import os
import re
import shutil
import sqlite3
import tempfile
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gguf_vl.chat import search
from gguf_vl.chat.export import files, html, importing
from gguf_vl.chat.export import json as data
from gguf_vl.chat.export.files import Form
from gguf_vl.chat.history import History
from gguf_vl.errors import ChatNotFound, GgufVlError, InvalidHistory
from gguf_vl.types import Timings, Usage
from tests.chat.given import exchange, export_of_many, png

HOSTILE = "<script>alert(1)</script> <img src=x onerror=alert(1)> \" ' & ]]> </style> <!--"


def talk(history: History) -> int:
    """A chat with a picture, branches, thinking, a failure and a draft."""
    chat = history.new_chat().id
    history.attach(chat, png(1), "my receipt (1).png", (640, 480))
    history.set_draft(chat, "What is the total?")
    asked = history.ask(chat, None)
    answer = history.begin_answer(asked.id, "8b")
    history.append(answer.id, "| a | b |\n|---|---|\n| 1 | 2 |\n\n```json\n{}", thinking="Let me see.\nA receipt.")
    history.finish(answer.id, "done", usage=Usage(3, 2, 1), timings=Timings(1, 2, 3, None))
    history.edit(asked.id, "Another branch")
    history.choose(asked.id)
    failed = history.begin_answer(history.question(chat, answer.id, "And?").id, "8b")
    history.finish(failed.id, "failed", error="The worker died.")
    history.set_draft(chat, "More")
    history.attach(chat, png(2), "two.png", (3, 4))
    return chat


# --- Markdown ---------------------------------------------------------------------------------------------------------


def test_markdown_has_the_path_and_the_pictures_beside_it(history: History, tmp_path: Path) -> None:
    path = files.write(history, talk(history), Form.MARKDOWN, tmp_path)
    assert path == tmp_path / "What is the total.md"
    text = path.read_text()
    [link] = re.findall(r"!\[.*\]\((.*)\)", text)
    assert (tmp_path / unquote(link)).read_bytes() == png(1)
    assert "Let me see.\n> A receipt." in text
    assert "Another branch" not in text
    assert "*(failed: The worker died.)*" in text
    assert text.count("```") == 2  # the fence that the answer left open is closed


@pytest.mark.parametrize(("form", "ending"), [(Form.MARKDOWN, "md"), (Form.HTML, "html"), (Form.JSON, "json")])
def test_what_is_there_is_never_replaced(history: History, tmp_path: Path, form: Form, ending: str) -> None:
    chat = talk(history)
    first = files.write(history, chat, form, tmp_path)
    first.write_text("mine now")
    second = files.write(history, chat, form, tmp_path)
    assert second.name == f"What is the total (2).{ending}"
    assert first.read_text() == "mine now"
    assert (tmp_path / "What is the total (2)").is_dir() == (form is Form.MARKDOWN)


@pytest.mark.parametrize(
    ("form", "module", "step"), [(Form.MARKDOWN, shutil, "copyfile"), *((form, os, "replace") for form in Form)]
)
def test_a_disk_that_refuses_leaves_nothing_behind(
    history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: Form, module: ModuleType, step: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    chat = talk(history)
    monkeypatch.setattr(module, step, full)
    with pytest.raises(GgufVlError, match="cannot be written: No space left"):
        files.write(history, chat, form, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("title", ["../../etc/passwd", "a/b\\c:d", "图片" * 100, "...", "CON", "\x1b[2J"])
def test_any_title_makes_a_name_inside_the_folder(history: History, tmp_path: Path, title: str) -> None:
    chat = history.new_chat().id
    history.rename(chat, title)
    history.attach(chat, png(), f"{title}.png", (1, 1))
    history.ask(chat, None)
    folder = tmp_path / "out"
    path = files.write(history, chat, Form.MARKDOWN, folder)
    assert path.resolve().parent == folder.resolve()
    assert {each.name for each in tmp_path.iterdir()} == {"out"}
    assert len(list(folder.rglob("*.png"))) == 1


# --- HTML -------------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """The tags of a page, with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_html_has_its_pictures_inside_and_nothing_from_anywhere(history: History) -> None:
    page = html.export(history, talk(history))
    tags = Page(page).tags
    [picture] = [attributes for tag, attributes in tags if tag == "img"]
    assert picture["src"] == f"data:image/png;base64,{b64encode(png(1)).decode()}"
    assert {"table", "details", "code"} <= {tag for tag, _ in tags}
    assert not {"script", "link", "iframe"} & {tag for tag, _ in tags}
    assert "default-src 'none'" in page
    assert "prefers-color-scheme: dark" in page


def test_html_escapes_everything(history: History) -> None:
    chat = history.new_chat().id
    history.rename(chat, HOSTILE)
    history.set_system(chat, HOSTILE)
    history.attach(chat, png(), HOSTILE, (1, 1))
    history.set_draft(chat, HOSTILE)
    asked = history.ask(chat, None)
    answer = history.begin_answer(asked.id, HOSTILE)
    links = "[a](javascript:alert(1)) ![b](https://elsewhere.test/pixel.png) <https://ok.test>"
    history.append(answer.id, f"{HOSTILE}\n\n```{HOSTILE}\n{HOSTILE}\n```\n\n{links}", thinking=HOSTILE)
    history.finish(answer.id, "failed", error=HOSTILE)
    tags = Page(html.export(history, chat)).tags
    assert "script" not in {tag for tag, _ in tags}
    for tag, attributes in tags:
        assert not [name for name in attributes if name.startswith("on")]
        assert (attributes.get("src") or "data:").startswith("data:")
        assert (attributes.get("href") or "https:").startswith("https:"), tag


# --- JSON and back ----------------------------------------------------------------------------------------------------


def seen(history: History) -> list[Any]:
    """All that can be seen of a history, without the numbers that things have in it."""
    found = []
    for chat in history.chats():
        tree = history.tree(chat.id)
        places: dict[int | None, int | None] = {None: None} | {turn.id: n for n, turn in enumerate(tree)}
        turns = [
            replace(
                turn,
                id=0,
                chat_id=0,
                chosen=0,
                parent_id=places[turn.parent_id],
                attachments=tuple(replace(each, id=0, path=Path(each.path.name)) for each in turn.attachments),
            )
            for turn in tree
        ]
        draft = history.draft(chat.id)
        drafted = (draft.text, [(each.digest, each.name, each.path.read_bytes()) for each in draft.attachments])
        path = [places[turn.id] for turn in history.turns(chat.id)]
        found.append((replace(chat, id=0), turns, drafted, path))
    return found


WORDS = st.text(max_size=12)
OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(
            ["chat", "ask", "ask", "answer", "answer", "edit", "choose", "delete", "attach", "draft", "set"]
        ),
        st.integers(0, 1000),
        WORDS,
    ),
    min_size=1,
    max_size=25,
)


def act(history: History, what: str, number: int, words: str) -> None:
    """Something that a person does, somewhere."""
    chats = history.chats()
    chat = chats[number % len(chats)].id if chats and what != "chat" else history.new_chat().id
    tree = history.tree(chat)
    some = tree[number % len(tree)].id if tree else history.question(chat, None, "x").id
    match what:
        case "chat" | "draft":
            history.set_draft(chat, words or "x")
        case "ask":
            history.question(chat, some if number % 3 else None, words, history.draft(chat).attachments)
        case "answer":
            answer = history.begin_answer(some, words)
            history.append(answer.id, words, words[::-1])
            usage, timings = Usage(number, 0, 1), Timings(0.5, number / 7, 1e-9, None, 0.0, 3)
            history.finish(
                answer.id, ("done", "stopped", "failed")[number % 3], error=words, usage=usage, timings=timings
            )
        case "edit":
            history.edit(some, words)
        case "choose":
            history.choose(some)
        case "delete":
            history.delete_turn(some)
        case "attach":
            history.attach(chat, png(number % 3), words, (number + 1, 7))
        case "set":
            history.rename(chat, words)
            history.pin(chat, bool(number % 2))
            history.set_system(chat, words or None)
            history.set_sampling(chat, {"temperature": number / 1000, "stop": [words], "seed": None})
            history.set_model(chat, "8b")


@settings(max_examples=40)
@example([("ask", 0, "a"), ("delete", 0, ""), ("set", 0, "0")])
@given(OPERATIONS)
def test_an_export_imported_into_an_empty_history_gives_the_same_history(
    operations: list[tuple[str, int, str]],
) -> None:
    with (
        tempfile.TemporaryDirectory() as one,
        tempfile.TemporaryDirectory() as other,
        History(Path(one)) as history,
        History(Path(other)) as empty,
    ):
        for operation in operations:
            act(history, *operation)
        exported = json.loads(json.dumps(data.export(history, [chat.id for chat in history.chats()])))
        # Of chats that are equally late, the one that came last is listed first.
        importing.load(empty, exported | {"chats": exported["chats"][::-1]})
        assert seen(empty) == seen(history)
        assert data.export(empty, [chat.id for chat in empty.chats()]) == exported
        for words in ("x", "a", *(words for _, _, words in operations)):
            assert len(empty.search(words, limit=1000)) == len(history.search(words, limit=1000))


def test_deleted_turns_stay_behind_and_an_answer_being_written_comes_as_stopped(history: History) -> None:
    chat = history.new_chat().id
    asked, answer = exchange(history, chat, None, "Who?", "Secret.")
    history.delete_turn(answer.id)
    writing = history.begin_answer(asked.id, "pocket")
    history.append(writing.id, "Me")
    exported = data.export(history, [chat])
    assert "Secret" not in json.dumps(exported)
    [chat_again] = importing.load(history, exported)
    assert [(turn.text, turn.state) for turn in history.turns(chat_again.id)] == [("Who?", "done"), ("Me", "stopped")]
    assert history.turn(writing.id).state == "writing"


def test_a_picture_that_is_gone_from_the_disk_does_not_stop_an_export(history: History, tmp_path: Path) -> None:
    chat = talk(history)
    history.turns(chat)[0].attachments[0].path.unlink()
    exported = data.export(history, [chat])
    [again] = importing.load(history, exported)
    assert history.turns(again.id)[0].attachments == ()
    assert "its file is gone" in html.export(history, chat)
    assert "its file is gone" in files.write(history, chat, Form.MARKDOWN, tmp_path).read_text()


def test_a_chat_that_is_not_there_is_not_exported(history: History, tmp_path: Path) -> None:
    with pytest.raises(ChatNotFound):
        data.export(history, [7])
    with pytest.raises(ChatNotFound):
        html.export(history, 7)
    with pytest.raises(ChatNotFound):
        files.write(history, 7, Form.MARKDOWN, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- what strangers give ----------------------------------------------------------------------------------------------

DIGEST = "0" * 64
BAD: list[tuple[str, Any]] = [
    ("format", "other"),
    ("version", 0),
    ("version", 2),
    ("version", "1"),
    ("version", True),
    ("chats", {}),
    ("chats", None),
    ("chats.0", []),
    ("chats.0.title", 7),
    ("chats.0.created", "yesterday"),
    ("chats.0.created", float("nan")),
    ("chats.0.created", -1),
    ("chats.0.updated", 1e300),
    ("chats.0.pinned", 1),
    ("chats.0.sampling", [1]),
    ("chats.0.sampling", {"temperature": "hot"}),
    ("chats.0.sampling", {"temperature": True}),
    ("chats.0.sampling", {"no_such": 1}),
    ("chats.0.sampling", {"stop": "END"}),
    ("chats.0.sampling", {"logit_bias": [[1]]}),
    ("chats.0.draft", None),
    ("chats.0.draft.attachments", [{"picture": DIGEST, "name": "x"}]),
    ("chats.0.turns", None),
    ("chats.0.turns.0.role", "system"),
    ("chats.0.turns.0.role", ["user"]),
    ("chats.0.turns.0.text", None),
    ("chats.0.turns.0.state", "writing"),
    ("chats.0.turns.0.parent", 0),
    ("chats.0.turns.1.parent", 1),
    ("chats.0.turns.1.parent", -1),
    ("chats.0.turns.1.parent", 10**30),
    ("chats.0.turns.0.chosen", 1.5),
    ("chats.0.turns.1.usage", {"prompt_tokens": 1}),
    ("chats.0.turns.1.usage", [1, 2, 3]),
    ("chats.0.turns.1.timings", {}),
    ("chats.0.turns.0.attachments", [{"picture": "../../x", "name": "x"}]),
    ("pictures", []),
    ("pictures", {DIGEST: {"width": 1, "height": 1, "data": b64encode(png(1)).decode()}}),
    ("pictures", {"../x": {"width": 1, "height": 1, "data": "%%%"}}),
    ("pictures", {DIGEST: {"width": 0, "height": 1, "data": None}}),
    ("pictures", {DIGEST: {"width": 1, "height": 1, "data": b64encode(b"<html>").decode()}}),
    ("pictures", {DIGEST: None}),
]


@pytest.mark.parametrize(("place", "value"), BAD, ids=[f"{place}-{n}" for n, (place, _) in enumerate(BAD)])
def test_what_is_no_export_is_refused_in_one_clear_line_and_changes_nothing(
    history: History, place: str, value: Any
) -> None:
    exported = data.export(history, [talk(history)])
    before = (seen(history), sorted(history.pictures.folder.rglob("*")))
    *above, last = place.split(".")
    spoilt: Any = copy.deepcopy(exported)
    target = spoilt
    for step in above:
        target = target[int(step) if step.isdigit() else step]
    target[int(last) if last.isdigit() else last] = value
    with pytest.raises(InvalidHistory, match="nothing was imported"):
        importing.load(history, spoilt)
    assert (seen(history), sorted(history.pictures.folder.rglob("*"))) == before


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.sampled_from(["format", "version", "chats", "pictures", "turns"]), inner)
        ),
    )
)
def test_any_other_data_is_refused_too(given_data: object) -> None:
    with History() as history, pytest.raises(InvalidHistory):
        importing.load(history, given_data)


@pytest.mark.parametrize(
    "content", [b"", b"no json", b"\xff\xfe", b"[" * 100_000, b"9" * 10_000, b'{"format": "gguf-vl chats"}']
)
def test_a_file_that_is_no_export_is_refused(history: History, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "x.json"
    file.write_bytes(content)
    with pytest.raises(InvalidHistory):
        importing.load(history, importing.read(file))
    with pytest.raises(InvalidHistory, match="cannot be read"):
        importing.read(tmp_path / "none.json")


def hidden(history: History) -> list[str]:
    """Those whose imports are not done."""
    with history.reading() as rows:
        return rows.importers()


def test_closing_ends_an_import_and_the_next_opening_has_nothing_of_it(tmp_path: Path) -> None:
    history = History(tmp_path)
    with ThreadPoolExecutor() as threads:
        under_way = threads.submit(importing.load, history, export_of_many(history, 500))
        while not hidden(history):
            pass
        history.close()
        with pytest.raises(GgufVlError, match="closed before the import was done"):
            under_way.result()
    with History(tmp_path) as again:
        assert (again.chats(), hidden(again)) == ([], [])


@pytest.mark.parametrize("trouble", ["the disk is full", "a chat was removed"])
def test_an_import_that_fails_leaves_nothing_in_the_file(
    history: History, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    exported = export_of_many(history, 3)
    index, n_indexed = search.index, 0

    def failing(connection: sqlite3.Connection, *args: Any) -> None:
        nonlocal n_indexed
        n_indexed += 1
        if n_indexed == 9 and trouble == "the disk is full":
            raise GgufVlError("The disk is full.", "Make room.")
        if n_indexed == 9:
            connection.execute("DELETE FROM chat WHERE importer IS NOT NULL AND id < (SELECT max(id) FROM chat)")
        index(connection, *args)

    monkeypatch.setattr(search, "index", failing)
    with pytest.raises(GgufVlError, match=r"disk is full|nothing was imported"):
        importing.load(history, exported)
    assert (history.chats(), hidden(history)) == ([], [])
