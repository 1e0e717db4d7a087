"""kill -9 at any moment, and several processes at once: real processes, a real folder."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
from pathlib import Path

import pytest

from gguf_vl import paths
from gguf_vl.chat.history import History
from tests.chat.given import exchange

WRITER = Path(__file__).with_name("writer.py")


def writer(what: str, chat: int = 0, folder: Path | None = None) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", str(WRITER), what, str(folder or paths.data_dir()), str(chat)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)


def killed_after(process: subprocess.Popen[bytes], n_lines: int) -> list[str]:
    """What the process has said until it was killed, some time after that many lines."""
    assert process.stdout
    said = [process.stdout.readline() for _ in range(n_lines)]
    process.kill()
    rest, _ = process.communicate()
    return [line.decode().strip() for line in (*said, *rest.splitlines(keepends=True)) if line.endswith(b"\n")]


@pytest.mark.parametrize("seed", range(12))
def test_an_answer_whose_writer_was_killed_has_every_token_that_was_appended(history: History, seed: int) -> None:
    chat = history.new_chat().id
    first, *tokens = killed_after(writer("answer", chat), random.Random(seed).randint(1, 400))
    answer = int(first)
    assert history.turn(answer).state == "writing"
    assert history.recover() == [answer]
    turn = history.turn(answer)
    words = turn.text.split()
    assert words == [str(n) for n in range(len(words))]
    assert len(tokens) <= len(words) <= len(tokens) + 1
    assert turn.state == "stopped"
    assert history.search(f"{len(words) - 1}" if words else "go on")
    history.resume_answer(answer)
    history.append(answer, "and on")
    history.finish(answer, "done")
    assert history.turn(answer).text == turn.text + "and on"


def test_an_opening_recovers_what_a_killed_process_wrote(history: History) -> None:
    chat = history.new_chat().id
    [answer, *_] = killed_after(writer("answer", chat), 50)
    history.close()
    with History() as again:
        assert again.recovered == (int(answer),)
        assert again.turn(int(answer)).state == "stopped"
        assert again.recover() == []
    assert list((paths.data_dir() / "instances").iterdir()) == []


@pytest.mark.parametrize("seed", range(8))
def test_no_picture_is_ever_half_written(history: History, seed: int) -> None:
    chat = history.new_chat().id
    digests = killed_after(writer("attach", chat), random.Random(seed).randint(1, 12))
    attached = history.draft(chat).attachments
    assert len(digests) <= len(attached) <= len(digests) + 1
    assert [each.digest for each in attached[: len(digests)]] == digests
    for path in (paths.data_dir() / "pictures").glob("??/*"):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.stem
    for each in attached:
        assert each.path.stat().st_size == each.n_bytes


def test_the_answer_of_a_living_process_is_left_to_it(history: History) -> None:
    chat = history.new_chat().id
    process = writer("hold", chat)
    assert process.stdout
    answer = int(process.stdout.readline())
    assert history.recover() == []
    with History() as another:
        assert another.recovered == ()
        assert another.turn(answer).text == "held"
    process.communicate()
    assert history.recover() == [answer]
    assert history.turn(answer).state == "stopped"


def test_the_own_answer_is_not_recovered_and_another_instance_in_the_process_lives(history: History) -> None:
    chat = history.new_chat().id
    answer = history.begin_answer(history.question(chat, None, "Who?").id, "pocket")
    with History() as another:
        assert (history.recover(), another.recover()) == ([], [])
        history.append(answer.id, "Me")
        assert another.turn(answer.id).text == "Me"
    history.close()
    with History() as later:
        assert later.recovered == (answer.id,)


def importing(history: History) -> subprocess.Popen[bytes]:
    """A process that is in the middle of an import of 100 chats."""
    chat = history.new_chat().id
    asked, _ = exchange(history, chat, None, "A zebra?", "Yes.")
    for n in range(20):
        history.edit(asked.id, f"Zebra {n}?")
    process = writer("import", chat)
    while not n_chats(history) > 1:
        assert process.poll() is None
    return process


def n_chats(history: History) -> int:
    """All that the file has, hidden or not."""
    with history.reading() as rows:
        return int(rows.connection.execute("SELECT count(*) FROM chat").fetchone()[0])


def test_of_an_import_that_was_killed_nothing_is_seen_and_nothing_stays(history: History) -> None:
    process = importing(history)
    process.kill()
    process.communicate()
    assert len(history.chats()) == 1
    assert history.chats(deleted=True) == []
    assert len(history.search("zebra")) == 21
    for _ in range(2):
        History().close()
    assert n_chats(history) == 1


def test_an_import_lets_others_write_and_open_and_comes_as_a_whole(history: History) -> None:
    process = importing(history)
    with History() as another:
        seen = [len(another.chats())]
        while process.poll() is None:
            another.set_draft(1, f"{len(seen)}")
            seen.append(len(another.chats()))
    process.communicate()
    assert process.returncode == 0
    assert set(seen) <= {1, 101}
    assert len(history.chats()) == 101


def test_two_processes_write_at_once_and_nothing_is_lost(history: History) -> None:
    chats = [history.new_chat().id for _ in range(3)]
    shared = chats[0]
    processes = [writer("ask", chat) for chat in (shared, shared, chats[1], chats[2])]
    own = history.new_chat().id
    answer = history.begin_answer(history.question(own, None, "Who?").id, "pocket")
    for n in range(500):
        history.append(answer.id, f"{n} ")
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    history.finish(answer.id, "done")
    assert history.turn(answer.id).text.split() == [str(n) for n in range(500)]
    assert [history.chat(chat).n_turns for chat in chats] == [400, 200, 200]
    for turn in history.tree(shared):
        if turn.parent_id is not None:
            assert turn.text.split()[0] == history.turn(turn.parent_id).text.split()[0]


def test_many_processes_open_a_new_history_at_once(tmp_path: Path) -> None:
    processes = [writer("open", folder=tmp_path) for _ in range(8)]
    made = [int(process.communicate()[0]) for process in processes]
    assert sorted(made) == list(range(1, 9))
