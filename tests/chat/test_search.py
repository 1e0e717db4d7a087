"""What is found: everything that holds all the words, and nothing else."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gguf_vl.chat.history import History
from tests.chat.given import png

LETTERS = "abcABC éÉßİÅ \"'*-():^ 图片文字。ｆＦ한か\n\t0"


def plain(text: str) -> str:
    """What is compared, said another way than in the package: without case, width and accents."""
    whole = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text.casefold()).casefold())
    return "".join(char for char in whole if not unicodedata.combining(char))


def holds(text: str, query: str) -> bool:
    return bool(plain(query).split()) and all(word in plain(text) for word in plain(query).split())


def found(history: History, query: str) -> list[int | None]:
    return [hit.turn_id for hit in history.search(query, limit=100_000)]


def test_a_search_finds_what_a_look_at_every_text_finds(history: History) -> None:
    @given(st.lists(st.text(LETTERS, max_size=30), max_size=4), st.text(LETTERS, max_size=8), st.data())
    def check(texts: list[str], query: str, data: st.DataObject) -> None:
        chat = history.new_chat().id
        kept = {history.question(chat, None, text).id: text for text in texts}
        if kept and data.draw(st.booleans()):  # a part of a text, or random letters would rarely be found
            text = data.draw(st.sampled_from(list(kept.values())))
            start = data.draw(st.integers(0, len(text)))
            query = f"{query[:1]} {text[start : start + data.draw(st.integers(1, 8))]}"
        expected = [turn for turn, text in reversed(kept.items()) if holds(text, query)]
        hits = history.search(query, limit=100_000)
        assert [hit.turn_id for hit in hits if hit.chat.id == chat] == expected

    check()


@given(st.text())
@example('"')
@example("a" * 2000)
@example(" ".join(f"word{n}" for n in range(1000)))
@example(" ".join(f"{chr(0x4E00 + n)}" for n in range(1000)))
@example("NEAR(a b) OR text: foo* ^x -y {z}")
@example("\0")
@example("ab\0cd")
@example("\ud800")
def test_nothing_is_a_syntax_error(query: str) -> None:
    with History() as history:
        history.search(query)


def test_words_of_any_length_and_language_are_found_in_parts_and_in_any_case(history: History) -> None:
    chat = history.new_chat().id
    turn = history.question(chat, None, "Straßenschild in ÅRHUS: 这张图片里有收据。Привет, Ελλάδα!").id
    for query in (
        "strassen",
        "SCHILD",
        "århus",
        "arhus",
        "图",
        "图片",
        "收据",
        "有收据",
        "привет",
        "ЕЛ",
        "ελλαδα",
        "图 schild",
    ):
        assert found(history, query) == ([turn] if query != "ЕЛ" else []), query


def test_a_hit_shows_the_place_and_marks_the_words(history: History) -> None:
    chat = history.new_chat().id
    history.question(chat, None, "x " * 200 + "Straße mit\nKASSENBON und 收据 " + "y " * 200)
    [hit] = history.search("kassen strasse 据")
    assert [hit.snippet[start:end] for start, end in hit.marks] == ["Straße", "KASSEN", "据"]
    assert hit.snippet.startswith("…x x")
    assert hit.snippet.endswith("y …")
    assert "\n" not in hit.snippet
    assert len(hit.snippet) < 200
    assert hit.role == "user"


def test_marks_are_apart_and_in_order(history: History) -> None:
    chat = history.new_chat().id
    history.question(chat, None, "banana cafe\u0301")
    [hit] = history.search("ana nana e")
    assert [hit.snippet[start:end] for start, end in hit.marks] == ["anana", "e\u0301"]


def test_titles_are_found_first(history: History) -> None:
    titled, other = history.new_chat().id, history.new_chat().id
    history.rename(titled, "发票 of May")
    asked = history.question(other, None, "这是发票吗, May?")
    hits = history.search("发票 may")
    assert [(hit.chat.id, hit.turn_id, hit.role) for hit in hits] == [
        (titled, None, None),
        (other, asked.id, "user"),
    ]
    history.rename(titled, "Bills")
    assert [hit.chat.id for hit in history.search("发票")] == [other]
    assert [hit.chat.id for hit in history.search("bill")] == [titled]
    history.delete_chat(titled)
    assert history.search("bill") == []


def test_pictures_are_found_by_their_names(history: History) -> None:
    chat = history.new_chat().id
    history.attach(chat, png(), "Receipt-4711.png", (1, 1))
    history.set_draft(chat, "What is the total?")
    asked = history.ask(chat, None)
    [hit] = history.search("4711 total")
    assert hit.turn_id == asked.id
    assert [hit.snippet[start:end] for start, end in hit.marks] == ["total", "4711"]


@pytest.mark.parametrize("limit", [1, 3])
def test_the_latest_come_first_and_not_more_than_asked_for(history: History, limit: int) -> None:
    chat = history.new_chat().id
    asked = [history.question(chat, None, "zebra").id for _ in range(5)]
    assert [hit.turn_id for hit in history.search("zebra", limit=limit)] == asked[::-1][:limit]
