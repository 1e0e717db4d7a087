"""Search over every turn and title: all words, parts of words, any case, with or without accents, any script.

The index has the folded text in trigrams (FTS5), which finds every word of three characters or more. Shorter ones, as
most Chinese words are, are in the trigrams that begin with them; where those are too many, the word is so common that
a look at the texts from the last one back soon has enough.
"""

from __future__ import annotations

import sqlite3
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate

from gguf_vl.chat.rows import Rows
from gguf_vl.chat.turns import Chat, Hit

MOST_WORDS = 32
"""Words of a query that are looked at: SQLite limits how long an expression may be."""
MOST_TERMS = 128
"""Trigrams that a short word may begin before texts are looked at instead."""
BEFORE, SNIPPET = 40, 160
"""Characters of a snippet before the first word that was found, and of all of it."""

_HITS = """
SELECT words.rowid AS turn_id, chat.id AS chat_id, role, turn.text,
    (SELECT group_concat(name, char(10)) FROM attachment WHERE turn_id = turn.id) AS names
FROM words CROSS JOIN turn ON turn.id = words.rowid CROSS JOIN chat ON chat.id = turn.chat_id
WHERE words.rowid > 0 AND turn.deleted_with IS NULL
"""
_TITLES = """
SELECT NULL AS turn_id, chat.id AS chat_id, NULL AS role, chat.title AS text, NULL AS names
FROM words CROSS JOIN chat ON chat.id = -words.rowid
WHERE words.rowid < 0
"""


class _Folding(dict[str, str]):
    """Each character as it is compared; made when first met. Spaces of all kinds are one."""

    def __missing__(self, char: str) -> str:
        plain = unicodedata.normalize("NFKD", char.casefold()).casefold()
        plain = "".join(each for each in plain if not unicodedata.combining(each))
        self[char] = " " if char.isspace() or unicodedata.category(char) == "Cc" else plain
        return self[char]


_folding = _Folding()


def fold(text: str) -> str:
    """The text as it is compared: without case, accents and differences of width."""
    return "".join(map(_folding.__getitem__, text))


def index(connection: sqlite3.Connection, row: int, text: str, names: Sequence[str] = ()) -> None:
    """Make a turn's text, with its pictures' names, findable; or a chat's title, by the negative id of the chat."""
    connection.execute("DELETE FROM words WHERE rowid = ?", (row,))
    if folded := fold("\n".join([text, *names])):
        # With the spaces, a trigram begins at each of its characters, at the last ones too.
        connection.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (row, f"{folded}  "))


def search(rows: Rows, query: str, limit: int) -> list[Hit]:
    """Titles first, then turns, the latest first."""
    words = list(dict.fromkeys(fold(query).split()))[:MOST_WORDS]
    if not words:
        return []
    conditions, values = ["chat.deleted_at IS NULL"], list[object]()
    matches: list[str] = []
    for word in words:
        terms = [word] if len(word) >= 3 else _terms(rows, word)
        if terms is None:
            conditions.append("instr(words.text, ?)")
            values.append(word)
        elif terms:
            matches.append(f"({' OR '.join(map(_quoted, terms))})")
        else:
            return []
    if matches:
        conditions.append("words MATCH ?")
        values.append(" AND ".join(matches))
    found: list[sqlite3.Row] = []
    for part in (_TITLES, _HITS):
        sql = f"{part} AND {' AND '.join(conditions)} ORDER BY words.rowid DESC LIMIT ?"
        found += rows.connection.execute(sql, (*values, limit - len(found))).fetchall()
    chats = rows.chats_of({row["chat_id"] for row in found})
    return [_hit(row, chats[row["chat_id"]], words) for row in found]


def _terms(rows: Rows, word: str) -> list[str] | None:
    """The trigrams of the index that begin with a word of one or two characters; None where they are too many."""
    if len(word) == 1 and word.isascii():  # it would take longer to count than to look
        return None
    query = "SELECT term FROM terms WHERE term >= ? AND term <= ? LIMIT ?"
    found = rows.connection.execute(query, (word, f"{word}\U0010ffff", MOST_TERMS + 1)).fetchall()
    return [row["term"] for row in found] if len(found) <= MOST_TERMS else None


def _quoted(term: str) -> str:
    doubled = term.replace('"', '""')
    return f'"{doubled}"'


def _hit(row: sqlite3.Row, chat: Chat, words: Sequence[str]) -> Hit:
    text = row["text"] if row["names"] is None else f"{row['text']}\n{row['names']}"
    snippet, marks = _snippet(text, words)
    return Hit(chat, row["turn_id"], row["role"], snippet, marks)


def _snippet(text: str, words: Sequence[str]) -> tuple[str, tuple[tuple[int, int], ...]]:
    """A part of the text around the longest of the words, on one line, and where it holds any of them."""
    pieces = [_folding[char] for char in text]
    first = "".join(pieces).find(max(words, key=len))
    # Where each character's folded form begins: not the same place where one folds to none or to two.
    places = list(accumulate(map(len, pieces), initial=0))
    start = max(0, bisect_right(places, max(first, 0)) - 1 - BEFORE)
    end = min(len(text), start + SNIPPET)
    shown = "".join(" " if _folding[char] == " " else char for char in text[start:end])
    folded = "".join(pieces[start:end])
    marks: list[tuple[int, int]] = []
    offsets = [place - places[start] for place in places[start : end + 1]]
    for word in words:
        at = folded.find(word)
        while at >= 0:
            behind = at + len(word)
            marks.append(
                (bisect_right(offsets, at) - 1, max(bisect_left(offsets, behind), bisect_right(offsets, behind) - 1))
            )
            at = folded.find(word, behind)
    before, after = "…" if start else "", "…" if end < len(text) else ""
    return f"{before}{shown}{after}", _apart(marks, len(before))


def _apart(marks: Iterable[tuple[int, int]], shift: int) -> tuple[tuple[int, int], ...]:
    """In order, those that touch as one, moved to the right."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(marks):
        if joined and start + shift <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end + shift))
        else:
            joined.append((start + shift, end + shift))
    return tuple(joined)
