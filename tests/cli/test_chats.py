"""`gguf-vl chats`: the history of the terminal's chats, as a script sees it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gguf_vl.chat.history import History
from tests.chat.given import exchange, png
from tests.cli.command import gguf_vl


@pytest.fixture
def chat() -> int:
    """A chat with a picture and an answer, and an older one."""
    with History() as history:
        exchange(history, history.new_chat().id, None, "An older one", "Yes.")
        chat = history.new_chat().id
        history.attach(chat, png(), "sign.png", (640, 480))
        history.set_draft(chat, "What is on the sign?")
        asked = history.ask(chat, None)
        answer = history.begin_answer(asked.id, "pocket")
        history.append(answer.id, "请勿停车 No parking")
        history.finish(answer.id, "done")
        return chat


def test_nothing_yet_is_nothing_listed() -> None:
    assert gguf_vl("chats", "list").stdout == b""
    deleted = gguf_vl("chats", "list", "--deleted")
    assert (deleted.stdout, deleted.stderr) == (b"", b"No chat was deleted in the last 30 days.\n")
    assert json.loads(gguf_vl("chats", "list", "--json").stdout) == []
    assert json.loads(gguf_vl("chats", "search", "x", "--json").stdout) == []


def test_chats_are_listed_the_latest_first(chat: int) -> None:
    lines = gguf_vl("chats", "list").stdout.decode().splitlines()
    assert [line[26:] for line in lines] == ["What is on the sign?", "An older one"]
    rows = json.loads(gguf_vl("chats", "list", "--json", "--limit", "1").stdout)
    assert [(row["id"], row["title"], row["n_turns"]) for row in rows] == [(chat, "What is on the sign?", 2)]


def test_a_chat_is_shown_with_its_pictures(chat: int) -> None:
    shown = gguf_vl("chats", "show", str(chat)).stdout.decode()
    assert "sign.png, 640 × 480" in shown
    assert "pocket:\n  请勿停车 No parking" in shown
    plain = json.loads(gguf_vl("chats", "show", str(chat), "--json").stdout)
    assert [turn["role"] for turn in plain["turns"]] == ["user", "assistant"]
    assert Path(plain["turns"][0]["attachments"][0]["path"]).read_bytes() == png()


def test_what_a_message_says_to_the_terminal_is_not_said() -> None:
    with History() as history:
        chat = history.new_chat().id
        exchange(history, chat, None, "\x1b]0;title\x07Hello", "\x1b[2JBye")
    for words in (["list"], ["show", str(chat)], ["search", "e"]):
        assert b"\x1b" not in gguf_vl("chats", *words).stdout


def test_a_search_shows_the_chat_and_the_place(chat: int) -> None:
    shown = gguf_vl("chats", "search", "停车", "PARK").stdout.decode()
    assert shown == f"{chat:>5}  What is on the sign?\n       请勿停车 No parking\n"
    [hit] = json.loads(gguf_vl("chats", "search", "停车", "--json").stdout)
    assert (hit["chat"], hit["role"]) == (chat, "assistant")
    assert [hit["snippet"][start:end] for start, end in hit["marks"]] == ["停车"]
    nothing = gguf_vl("chats", "search", "zebra")
    assert (nothing.returncode, nothing.stdout, nothing.stderr) == (0, b"", b"No message holds all of that.\n")


def test_chats_are_exported_in_three_forms(chat: int, tmp_path: Path) -> None:
    for form, ending in (("markdown", "md"), ("html", "html")):
        done = gguf_vl("chats", "export", "--as", form, "-o", str(tmp_path / form))
        paths = [Path(line) for line in done.stdout.decode().splitlines()]
        assert [path.name for path in paths] == [f"What is on the sign.{ending}", f"An older one.{ending}"]
        assert "请勿停车" in paths[0].read_text()
    one = json.loads(gguf_vl("chats", "export", str(chat), "--as", "json").stdout)
    assert [turn["text"] for turn in one["chats"][0]["turns"]] == ["What is on the sign?", "请勿停车 No parking"]


def test_deleted_chats_are_listed_and_brought_back_all_that_are_named_or_none(chat: int) -> None:
    with History() as history:
        for each in history.chats():
            history.delete_chat(each.id)
    rows = json.loads(gguf_vl("chats", "list", "--deleted", "--json").stdout)
    assert [row["title"] for row in rows] == ["An older one", "What is on the sign?"]
    assert rows[0]["deleted"] > rows[1]["deleted"]
    refused = gguf_vl("chats", "restore", str(chat), "99")
    assert (refused.returncode, refused.stdout) == (3, b"")
    assert b"There is no chat 99; one that is deleted is kept for 30 days." in refused.stderr
    assert gguf_vl("chats", "list").stdout == b""
    assert gguf_vl("chats", "restore", str(chat)).stdout.decode() == f"{chat:>5}  What is on the sign?\n"
    with History() as history:
        assert [each.id for each in history.chats()] == [chat]
        assert [each.title for each in history.chats(deleted=True)] == ["An older one"]


def test_an_export_is_imported_on_another_machine(chat: int, tmp_path: Path) -> None:
    file = tmp_path / "chats.json"
    assert gguf_vl("chats", "export", "--as", "json", "-o", str(file)).returncode == 0
    elsewhere = {"GGUF_VL_HOME": str(tmp_path / "elsewhere")}
    rows = json.loads(gguf_vl("chats", "import", str(file), "--json", environment=elsewhere).stdout)
    assert [row["title"] for row in rows] == ["What is on the sign?", "An older one"]
    shown = gguf_vl("chats", "show", str(rows[0]["id"]), environment=elsewhere).stdout
    assert "请勿停车".encode() in shown


def test_failures_are_two_lines_and_exit_3(chat: int, tmp_path: Path, home: Path) -> None:
    for words in (["show", "99"], ["export", "99"], ["import", str(tmp_path / "none.json")], ["import", "README.md"]):
        done = gguf_vl("chats", *words)
        assert (done.returncode, done.stdout) == (3, b""), words
        assert len(done.stderr.splitlines()) == 2
    (home / "chats.sqlite").write_bytes(b"rubbish" * 1000)
    for suffix in ("-wal", "-shm"):
        (home / f"chats.sqlite{suffix}").unlink(missing_ok=True)
    done = gguf_vl("chats", "list")
    assert done.returncode == 3
    assert b"chats.sqlite" in done.stderr
