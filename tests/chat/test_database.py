"""The file itself: made, migrated, newer than we know, damaged, on a full disk."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gguf_vl import paths
from gguf_vl.chat import database
from gguf_vl.chat.database import set_aside
from gguf_vl.chat.history import History
from gguf_vl.errors import GgufVlError, InvalidHistory
from tests.chat.given import exchange, png


@pytest.fixture
def file() -> Path:
    return paths.data_dir() / "chats.sqlite"


def pragma(file: Path, name: str) -> object:
    connection = sqlite3.connect(file)
    try:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]
    finally:
        connection.close()


def test_a_new_history_has_all_migrations_and_an_empty_file_is_a_new_one(file: Path) -> None:
    file.touch()
    with History() as history:
        assert history.chats() == []
    steps = sorted(path.name for path in database.MIGRATIONS.iterdir() if path.suffix == ".sql")
    assert [int(name[1:4]) for name in steps] == list(range(1, len(steps) + 1))
    assert pragma(file, "user_version") == len(steps)
    assert pragma(file, "journal_mode") == "wal"


def test_an_older_history_is_brought_forward_and_keeps_its_chats(
    history: History, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange(history, history.new_chat().id, None, "Who?", "Me.")
    history.close()
    known = len(list(database.MIGRATIONS.glob("*.sql")))
    for step in database.MIGRATIONS.glob("*.sql"):
        (tmp_path / step.name).write_text(step.read_text())
    (tmp_path / f"m{known + 1:03}_more.sql").write_text("ALTER TABLE chat ADD COLUMN more TEXT;\nSELECT 1;\n")
    monkeypatch.setattr(database, "MIGRATIONS", tmp_path)
    with History() as later:
        assert [chat.title for chat in later.chats()] == ["Who?"]
    assert pragma(file, "user_version") == known + 1


def test_a_migration_that_fails_changes_nothing(
    history: History, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history.close()
    known = len(list(database.MIGRATIONS.glob("*.sql")))
    for step in database.MIGRATIONS.glob("*.sql"):
        (tmp_path / step.name).write_text(step.read_text())
    (tmp_path / f"m{known + 1:03}_bad.sql").write_text("CREATE TABLE half (id);\nSELECT * FROM nowhere;\n")
    monkeypatch.setattr(database, "MIGRATIONS", tmp_path)
    with pytest.raises(sqlite3.OperationalError, match="nowhere"):
        History()
    assert pragma(file, "user_version") == known
    monkeypatch.undo()
    with History(file.parent) as again:
        assert again.chats() == []


def test_a_newer_history_is_refused_and_left_as_it_is(history: History, file: Path) -> None:
    history.close()
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = file.read_bytes()
    with pytest.raises(InvalidHistory, match="newer gguf-vl") as told:
        History()
    assert str(file) in told.value.what
    assert "Update gguf-vl" in told.value.fix
    assert file.read_bytes() == before


def test_a_database_of_another_program_is_refused(file: Path) -> None:
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE theirs (id)")
    connection.close()
    with pytest.raises(InvalidHistory, match="another program"):
        History()


def damaged(file: Path) -> bytes:
    data = bytearray(file.read_bytes())
    data[0:16] = b"not a database!!"
    file.write_bytes(data)
    return bytes(data)


def test_a_damaged_history_is_told_by_its_name_and_never_touched(history: History, file: Path) -> None:
    exchange(history, history.new_chat().id, None, "Who?", "Me.")
    history.close()
    before = damaged(file)
    with pytest.raises(InvalidHistory) as told:
        History()
    assert str(file) in told.value.what
    assert "left as it is" in told.value.fix
    assert file.read_bytes() == before


def test_damage_that_is_met_later_is_told_too(history: History, file: Path) -> None:
    chat = history.new_chat().id
    for n in range(50):
        history.question(chat, None, f"question {n} " * 50)
    history.close()
    data = bytearray(file.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    file.write_bytes(data)
    with pytest.raises(InvalidHistory, match=r"chats\.sqlite"), History() as again:
        again.turns(chat)


def test_a_damaged_history_moved_aside_keeps_its_bytes_and_its_pictures(
    history: History, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = history.attach(history.new_chat().id, png(), "a.png", (1, 1)).path
    history.close()
    before = damaged(file)
    aside = set_aside(file)
    assert aside.read_bytes() == before
    with History() as fresh:
        assert fresh.chats() == []
        fresh.pictures.keep(png(), (1, 1))  # the new one knows the picture, and no chat of it holds it
    damaged(file)
    assert set_aside(file) != aside
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 100 * 24 * 3600)
    with History():
        assert picture.exists()


def test_a_full_disk_is_told_and_nothing_that_was_there_is_lost(history: History) -> None:
    chat = history.new_chat().id
    _, answer = exchange(history, chat, None, "Who?", "Me.")
    with history.database.reading() as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")

    def go_on() -> None:
        while True:
            history.question(chat, answer.id, "x" * 10_000)

    with pytest.raises(GgufVlError, match="disk is full") as told:
        go_on()
    assert "Free some space" in told.value.fix
    begun = history.tree(chat)
    with history.database.reading() as connection:
        connection.execute("PRAGMA max_page_count = 1000000")
    assert [turn.text for turn in begun[:2]] == ["Who?", "Me."]
    history.question(chat, answer.id, "There is room again.")
    assert history.turns(chat)[-1].text == "There is room again."


def test_a_picture_that_finds_no_room_is_told_and_leaves_nothing(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = history.new_chat().id

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(GgufVlError, match="No space left"):
        history.attach(chat, png(), "a.png", (1, 1))
    monkeypatch.undo()
    assert history.draft(chat).attachments == ()
    assert [path for path in history.pictures.folder.rglob("*") if path.is_file()] == []


@pytest.mark.skipif(sys.platform == "win32", reason="RLIMIT_FSIZE is POSIX")
def test_a_disk_that_refuses_to_be_written_is_told(tmp_path: Path) -> None:
    code = f"""
import resource
from pathlib import Path
from gguf_vl.chat.history import History
from gguf_vl.errors import GgufVlError
history = History(Path({str(tmp_path)!r}))
chat = history.new_chat().id
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
try:
    while True:
        history.question(chat, None, "x" * 10_000)
        print("asked")
except GgufVlError as error:
    print(error.what)
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert "chats.sqlite cannot be kept" in done.stdout, done.stderr
    with History(tmp_path) as history:
        assert len(history.tree(1)) == done.stdout.count("asked") > 0


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(GgufVlError, match="cannot be made"):
        History(tmp_path / "file" / "below")


@pytest.mark.skipif(sys.platform == "win32", reason="rights are POSIX")
def test_what_a_person_asks_is_for_nobody_else_to_read(history: History, file: Path) -> None:
    history.attach(history.new_chat().id, png(), "a.png", (1, 1))
    for path in (file, file.with_name("chats.sqlite-wal"), history.pictures.folder):
        assert path.stat().st_mode & 0o077 == 0


def test_opening_and_listing_imports_nothing_heavy() -> None:
    heavy = ("PIL", "numpy", "filelock", "httpx2", "asyncio", "jinja2", "importlib.resources", "gguf_vl.types")
    code = f"""
import sys
from gguf_vl.chat.history import History
with History() as history:
    history.chats()
print([name for name in {heavy!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
