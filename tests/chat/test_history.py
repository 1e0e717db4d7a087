"""Chats, drafts, turns and answers, as the screens use them."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from gguf_vl import paths
from gguf_vl.chat.history import History
from gguf_vl.errors import ChatNotFound, UsageError
from gguf_vl.types import Timings, Usage
from tests.chat.given import exchange, png


def texts(history: History, chat_id: int) -> list[str]:
    return [turn.text for turn in history.turns(chat_id)]


def files() -> list[Path]:
    return [path for path in (paths.data_dir() / "pictures").rglob("*") if path.is_file()]


# --- chats ------------------------------------------------------------------------------------------------------------


def test_a_chat_is_listed_once_something_is_in_it(history: History) -> None:
    empty, typed, attached, asked = (history.new_chat().id for _ in range(4))
    history.set_draft(typed, "What is")
    picture = history.attach(attached, png(), "a.png", (1, 1))
    history.question(asked, None, "Who?")
    assert {chat.id for chat in history.chats()} == {typed, attached, asked}
    history.detach(picture.id)
    assert {chat.id for chat in history.chats()} == {typed, asked}
    assert history.chat(empty).n_turns == 0
    history.rename(empty, "For later")
    assert {chat.id for chat in history.chats()} == {empty, typed, asked}


def test_pinned_chats_come_first_and_then_the_latest(history: History) -> None:
    first, second, third = (history.new_chat().id for _ in range(3))
    for chat in (first, second, third):
        history.question(chat, None, "Who?")
    history.pin(first, True)
    assert [chat.id for chat in history.chats()] == [first, third, second]
    history.question(second, None, "And?")
    assert [chat.id for chat in history.chats(limit=2)] == [first, second]
    history.pin(first, False)
    assert [chat.id for chat in history.chats()] == [second, third, first]


def test_a_title_is_the_beginning_of_the_first_question_until_the_person_gives_one(history: History) -> None:
    chat = history.new_chat().id
    assert history.chat(chat).title == "New chat"
    asked = history.question(chat, None, "  What is\n on the sign?")
    assert history.chat(chat).title == "What is on the sign?"
    history.edit(asked.id, "long " * 30)
    assert history.chat(chat).title.endswith("long…")
    assert len(history.chat(chat).title) <= 60
    history.rename(chat, " Signs \n in town")
    assert (history.chat(chat).title, history.chat(chat).titled) == ("Signs in town", True)
    history.rename(chat, "")
    assert (history.chat(chat).title[:9], history.chat(chat).titled) == ("long long", False)


def test_a_question_without_words_is_called_by_its_picture(history: History) -> None:
    chat = history.new_chat().id
    history.attach(chat, png(), "receipt.png", (1, 1))
    history.ask(chat, None)
    assert history.chat(chat).title == "receipt.png"


def test_what_a_chat_sets_is_kept(history: History) -> None:
    chat = history.new_chat().id
    history.set_system(chat, "Be brief.")
    history.set_sampling(chat, {"temperature": 0.1, "stop": ["END"]})
    history.set_model(chat, "8b")
    history.set_preset(chat, "Table")
    history.close()
    with History() as again:
        found = again.chat(chat)
    assert (found.system, found.model, found.preset) == ("Be brief.", "8b", "Table")
    assert found.sampling == {"temperature": 0.1, "stop": ["END"]}


def test_a_deleted_chat_is_nowhere_and_comes_back_whole(history: History) -> None:
    chat = history.new_chat().id
    exchange(history, chat, None, "A zebra?", "A zebra.")
    before = (history.chat(chat), history.turns(chat))
    history.delete_chat(chat)
    assert (history.chats(), history.search("zebra")) == ([], [])
    for look in (history.chat, history.turns, history.draft, history.tree):
        with pytest.raises(ChatNotFound):
            look(chat)
    history.restore_chats(chat)
    assert (history.chat(chat), history.turns(chat)) == before
    assert len(history.search("zebra")) == 2


def test_what_is_not_there_is_told_so(history: History) -> None:
    for work in (
        lambda: history.chat(9),
        lambda: history.turn(9),
        lambda: history.restore_chats(9),
        lambda: history.restore_turn(9),
        lambda: history.begin_answer(9, "pocket"),
        lambda: history.append(9, "x"),
        lambda: history.finish(9, "done"),
        lambda: history.detach(9),
        lambda: history.attach(9, png(), "a.png", (1, 1)),
        lambda: history.rename(9, "x"),
        lambda: history.question(9, None, "x"),
    ):
        with pytest.raises(ChatNotFound):
            work()


def test_a_turn_of_another_chat_is_no_parent(history: History) -> None:
    one, other = history.new_chat().id, history.new_chat().id
    asked = history.question(one, None, "Who?")
    with pytest.raises(ChatNotFound):
        history.question(other, asked.id, "And?")


# --- what is being typed ----------------------------------------------------------------------------------------------


def test_what_lies_unsent_is_taken_up_by_one_instance_and_by_nobody_while_its_writer_lives(history: History) -> None:
    history.set_draft(history.new_chat().id, "older")
    chat = history.new_chat().id
    history.attach(chat, png(), "a.png", (1, 1))
    with History() as other:
        assert other.take_unsent() is None
    history.close()
    with History() as second, History() as third, History() as fourth:
        assert second.take_unsent() == chat
        taken = third.take_unsent()
        assert taken not in (None, chat)
        assert third.draft(taken or 0).text == "older"
        assert fourth.take_unsent() is None


def test_a_draft_becomes_a_question_with_its_pictures_and_is_empty_then(history: History) -> None:
    chat = history.new_chat().id
    history.set_draft(chat, "What is it?")
    first = history.attach(chat, png(1), "a.png", (640, 480))
    second = history.attach(chat, png(2), "b.png", (10, 20))
    asked = history.ask(chat, None)
    assert (asked.text, asked.role, asked.state, asked.attachments) == ("What is it?", "user", "done", (first, second))
    assert (first.width, first.height, first.n_bytes) == (640, 480, len(png(1)))
    assert first.path.read_bytes() == png(1)
    draft = history.draft(chat)
    assert (draft.text, draft.attachments) == ("", ())
    with pytest.raises(UsageError):
        history.ask(chat, asked.id)


def test_a_detached_picture_comes_back(history: History) -> None:
    chat = history.new_chat().id
    first, second = (history.attach(chat, png(n), f"{n}.png", (1, 1)) for n in range(2))
    history.detach(first.id)
    assert history.draft(chat).attachments == (second,)
    history.reattach(first.id)
    assert history.draft(chat).attachments == (first, second)
    history.detach(first.id)
    asked = history.ask(chat, None)
    assert asked.attachments == (second,)
    history.reattach(first.id)
    assert history.draft(chat).attachments == (first,)
    with pytest.raises(ChatNotFound):
        history.detach(second.id)


def test_the_same_picture_is_one_file(history: History) -> None:
    one, other = history.new_chat().id, history.new_chat().id
    paths = {history.attach(chat, png(), name, (1, 1)).path for chat, name in ((one, "a"), (one, "b"), (other, "a"))}
    assert files() == list(paths)
    assert [path.suffix for path in paths] == [".png"]


def test_a_picture_file_that_was_cut_short_is_written_again(history: History) -> None:
    chat = history.new_chat().id
    path = history.attach(chat, png(), "a.png", (1, 1)).path
    path.write_bytes(b"")
    assert history.attach(chat, png(), "a.png", (1, 1)).path.read_bytes() == png()


def test_names_that_are_no_text_are_kept_as_far_as_they_are(history: History) -> None:
    chat = history.new_chat().id
    assert history.attach(chat, png(), "caf\udce9.png", (1, 1)).name == "caf?.png"
    assert history.question(chat, None, "what is \udce9").text == "what is ?"


# --- turns ------------------------------------------------------------------------------------------------------------


def test_an_edited_question_keeps_its_pictures_and_the_old_one_stays(history: History) -> None:
    chat = history.new_chat().id
    picture = history.attach(chat, png(), "a.png", (1, 1))
    history.set_draft(chat, "old")
    old = history.ask(chat, None)
    answer = history.begin_answer(old.id, "pocket")
    history.finish(answer.id, "done")
    new = history.edit(old.id, "new")
    assert [each.digest for each in new.attachments] == [picture.digest]
    assert (new.place, new.of, history.siblings(new.id)) == (2, 2, [old.id, new.id])
    assert texts(history, chat) == ["new"]
    assert history.edit(new.id, "bare", ()).attachments == ()
    history.choose(old.id)
    assert [turn.id for turn in history.turns(chat)] == [old.id, answer.id]


def test_an_edited_answer_is_an_answer(history: History) -> None:
    chat = history.new_chat().id
    _, answer = exchange(history, chat, None, "Who?", "Me.")
    edited = history.edit(answer.id, "You.")
    assert (edited.role, edited.state, edited.model, edited.text) == ("assistant", "done", "pocket", "You.")


def test_a_choice_brings_back_what_was_chosen_below_it_and_all_above(history: History) -> None:
    chat = history.new_chat().id
    first, first_answer = exchange(history, chat, None, "1", "1a")
    below, _ = exchange(history, chat, first_answer.id, "2", "2a")
    other = history.edit(below.id, "2'")
    history.choose(below.id)
    history.edit(first.id, "1'")
    assert texts(history, chat) == ["1'"]
    history.choose(first.id)
    assert texts(history, chat) == ["1", "1a", "2", "2a"]
    history.edit(first.id, "1''")
    history.choose(other.id)
    assert texts(history, chat) == ["1", "1a", "2'"]


def test_a_deleted_turn_takes_what_is_below_and_both_come_back(history: History) -> None:
    chat = history.new_chat().id
    first, answer = exchange(history, chat, None, "1", "1a")
    exchange(history, chat, answer.id, "2 zebra", "2a zebra")
    before = history.turns(chat)
    history.edit(first.id, "1'")
    history.choose(first.id)
    history.delete_turn(first.id)
    assert texts(history, chat) == ["1'"]
    assert (history.search("zebra"), history.chat(chat).n_turns) == ([], 1)
    with pytest.raises(ChatNotFound):
        history.begin_answer(first.id, "pocket")
    history.restore_turn(first.id)
    assert [turn.id for turn in history.turns(chat)] == [turn.id for turn in before]
    assert len(history.search("zebra")) == 2


def test_a_turn_deleted_before_what_is_above_it_stays_deleted_when_that_comes_back(history: History) -> None:
    chat = history.new_chat().id
    first, answer = exchange(history, chat, None, "1", "1a")
    second, _ = exchange(history, chat, answer.id, "2", "2a")
    history.delete_turn(second.id)
    history.delete_turn(first.id)
    history.restore_turn(first.id)
    assert texts(history, chat) == ["1", "1a"]
    history.delete_turn(first.id)
    history.restore_turn(second.id)
    assert texts(history, chat) == []
    history.restore_turn(first.id)
    assert texts(history, chat) == ["1", "1a", "2", "2a"]


def test_a_chat_of_2000_turns_is_read_deleted_and_forgotten(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    chat = history.new_chat().id
    history.rename(chat, "Long")
    parent = first = history.question(chat, None, "0").id
    for n in range(1, 2000):
        parent = history.question(chat, parent, str(n)).id
    assert texts(history, chat) == [str(n) for n in range(2000)]
    history.delete_turn(first)
    history.close()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 31 * 24 * 3600)
    with History() as later:
        assert later.tree(chat) == []
        with pytest.raises(ChatNotFound):
            later.restore_turn(first)


# --- answers ----------------------------------------------------------------------------------------------------------


def test_an_answer_is_read_as_far_as_it_has_come(history: History) -> None:
    chat = history.new_chat().id
    asked = history.question(chat, None, "Who?")
    answer = history.begin_answer(asked.id, "pocket")
    assert (answer.state, answer.model, answer.parent_id) == ("writing", "pocket", asked.id)
    for piece in ("It", " is", " 图"):
        history.append(answer.id, piece)
    history.append(answer.id, thinking="Hm.")
    assert (history.turn(answer.id).text, history.turns(chat)[1].thinking) == ("It is 图", "Hm.")
    usage, timings = Usage(10, 4, 3), Timings(0.1, 0.2, 0.3, None)
    history.finish(answer.id, "done", finish_reason="stop", usage=usage, timings=timings)
    done = history.turn(answer.id)
    assert (done.text, done.state, done.finish_reason) == ("It is 图", "done", "stop")
    assert (done.usage, done.timings) == (usage, timings)
    with pytest.raises(ChatNotFound):
        history.append(answer.id, "more")


def test_an_answer_goes_on_behind_what_is_there(history: History) -> None:
    chat = history.new_chat().id
    answer = history.begin_answer(history.question(chat, None, "Who?").id, "pocket")
    history.append(answer.id, "It is")
    history.finish(answer.id, "failed", error="The worker died.")
    assert history.turn(answer.id).error == "The worker died."
    history.resume_answer(answer.id)
    history.append(answer.id, " me.")
    assert (history.turn(answer.id).text, history.turn(answer.id).error) == ("It is me.", "")
    history.finish(answer.id, "done")
    assert history.turn(answer.id).text == "It is me."
    assert [hit.turn_id for hit in history.search("is me")] == [answer.id]


def test_an_answer_ends_though_its_chat_was_deleted_meanwhile(history: History) -> None:
    chat = history.new_chat().id
    asked = history.question(chat, None, "Who?")
    answer = history.begin_answer(asked.id, "pocket")
    history.append(answer.id, "zebra")
    history.delete_turn(asked.id)
    history.delete_chat(chat)
    history.append(answer.id, " crossing")
    history.finish(answer.id, "stopped")
    history.restore_chats(chat)
    history.restore_turn(asked.id)
    assert history.turn(answer.id).text == "zebra crossing"
    assert [hit.turn_id for hit in history.search("crossing")] == [answer.id]


# --- undo has an end --------------------------------------------------------------------------------------------------


def test_what_was_deleted_is_gone_after_30_days_with_its_pictures(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, kept = history.new_chat().id, history.new_chat().id
    for chat in (gone, kept):
        history.attach(chat, png(1), "shared.png", (1, 1))
        history.attach(chat, png(chat + 10), "own.png", (1, 1))
        history.set_draft(chat, "zebra")
        history.ask(chat, None)
    dropped = history.attach(kept, png(3), "dropped.png", (1, 1))
    history.detach(dropped.id)
    turn = history.question(kept, None, "zebra")
    history.delete_turn(turn.id)
    history.delete_chat(gone)
    history.close()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 29 * 24 * 3600)
    with History() as later:
        later.restore_chats(gone)
        assert len(later.search("zebra")) == 2
        later.delete_chat(gone)
    assert len(files()) == 4
    monkeypatch.setattr(time, "time", lambda: now + 60 * 24 * 3600)
    with History() as much_later:
        for restore, each in ((much_later.restore_chats, gone), (much_later.restore_turn, turn.id)):
            with pytest.raises(ChatNotFound):
                restore(each)
        assert [hit.chat.id for hit in much_later.search("zebra")] == [kept]
        held = {each.path for turn in much_later.turns(kept) for each in turn.attachments}
    assert set(files()) == held
    assert len(held) == 2


def test_a_picture_that_no_chat_holds_is_kept_for_a_day_and_then_swept(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    history.pictures.keep(png(), (1, 1))
    left = paths.data_dir() / "pictures" / ".writing" / "half"
    left.write_bytes(b"half")
    history.close()
    with History():
        assert len(files()) == 2
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 2 * 24 * 3600)
    with History():
        assert files() == []


# --- threads ----------------------------------------------------------------------------------------------------------


def test_threads_write_and_read_at_once(history: History) -> None:
    chats = [history.new_chat().id for _ in range(4)]

    def talk(chat: int) -> None:
        answer = history.begin_answer(history.question(chat, None, "Who?").id, "pocket")
        for n in range(100):
            history.append(answer.id, f"{n} ")
            history.chats()
        history.finish(answer.id, "done")

    threads = [threading.Thread(target=talk, args=(chat,)) for chat in chats]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [texts(history, chat)[1] for chat in chats] == ["".join(f"{n} " for n in range(100))] * 4
