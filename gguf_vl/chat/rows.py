"""From rows of the database to the values of `turns.py`."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gguf_vl.chat.pictures import picture_path
from gguf_vl.chat.turns import Attachment, Chat, Draft, Turn
from gguf_vl.errors import ChatNotFound

if TYPE_CHECKING:
    from gguf_vl.types import Timings, Usage

TITLE = 60
"""Characters of a title that is made of the first question."""

_CHATS = """
SELECT chat.*, substr(first.text, 1, 500) AS question,
    (SELECT name FROM attachment WHERE turn_id = first.id ORDER BY id LIMIT 1) AS picture,
    (SELECT count(*) FROM turn WHERE chat_id = chat.id AND deleted_with IS NULL) AS n_turns
FROM chat LEFT JOIN turn AS first ON first.id = (
    SELECT id FROM turn WHERE chat_id = chat.id AND parent_id IS NULL AND deleted_with IS NULL
    ORDER BY chosen DESC LIMIT 1)
"""
_ATTACHMENTS = """
SELECT attachment.*, suffix, width, height, n_bytes, seconds FROM attachment JOIN picture USING (digest)
WHERE detached_at IS NULL AND
"""


@dataclass(frozen=True, slots=True)
class Rows:
    """What can be read on a connection. `pictures` is the folder of the picture files."""

    connection: sqlite3.Connection
    pictures: Path

    def chats(self, limit: int | None, *, deleted: bool = False) -> list[Chat]:
        """Those that hold something or were given a title: pinned ones first, then the latest; or the deleted ones, the
        latest deleted first.
        """
        order = f"ORDER BY {'deleted_at DESC' if deleted else 'pinned DESC, updated DESC'}, chat.id DESC"
        among = "deleted_at IS NOT NULL AND importer IS NULL" if deleted else "deleted_at IS NULL"
        query = f"""{_CHATS} WHERE chat.id IN (
            SELECT chat.id FROM chat WHERE {among} AND (draft <> '' OR title IS NOT NULL
                OR EXISTS (SELECT 1 FROM turn WHERE chat_id = chat.id AND deleted_with IS NULL)
                OR EXISTS (SELECT 1 FROM attachment
                    WHERE chat_id = chat.id AND turn_id IS NULL AND detached_at IS NULL))
            {order} LIMIT ?) {order}"""
        return [_chat(row) for row in self.connection.execute(query, (-1 if limit is None else limit,))]

    def importers(self) -> list[str]:
        """The instances that were importing chats, and may not be at an end."""
        query = "SELECT DISTINCT importer FROM chat WHERE importer IS NOT NULL"
        return [row["importer"] for row in self.connection.execute(query)]

    def unsent(self) -> list[sqlite3.Row]:
        """The chats that have a draft, be it pictures alone, and who wrote it; the latest first."""
        query = """SELECT id, drafter FROM chat WHERE deleted_at IS NULL AND (draft <> '' OR EXISTS (SELECT 1
            FROM attachment WHERE chat_id = chat.id AND turn_id IS NULL AND detached_at IS NULL))
            ORDER BY updated DESC, id DESC"""
        return self.connection.execute(query).fetchall()

    def chats_of(self, ids: Iterable[int]) -> dict[int, Chat]:
        """These chats by their ids; deleted ones are left out."""
        query = f"{_CHATS} WHERE chat.deleted_at IS NULL AND chat.id IN (SELECT value FROM json_each(?))"
        return {row["id"]: _chat(row) for row in self.connection.execute(query, (json.dumps(list(ids)),))}

    def chat(self, chat_id: int) -> Chat:
        """One chat. Raises ChatNotFound."""
        found = self.chats_of([chat_id])
        if not found:
            raise no_chat(chat_id)
        return found[chat_id]

    def turns(self, chat_id: int, *, all_branches: bool = False) -> list[Turn]:
        """The chosen path from its first turn on, or every turn of every branch, parents before children.

        Raises ChatNotFound.
        """
        self.chat(chat_id)
        query = "SELECT id, parent_id, chosen FROM turn WHERE chat_id = ? AND deleted_with IS NULL ORDER BY id"
        links = self.connection.execute(query, (chat_id,)).fetchall()
        branches: dict[int | None, list[sqlite3.Row]] = {}
        for link in links:
            branches.setdefault(link["parent_id"], []).append(link)
        places = {
            link["id"]: (place, len(siblings))
            for siblings in branches.values()
            for place, link in enumerate(siblings, start=1)
        }
        return self._turns([link["id"] for link in links] if all_branches else _path(branches), places)

    def turn(self, turn_id: int) -> Turn:
        """One turn. Raises ChatNotFound."""
        alike = self.siblings(turn_id)
        return self._turns([turn_id], {turn_id: (alike.index(turn_id) + 1, len(alike))})[0]

    def siblings(self, turn_id: int) -> list[int]:
        """The ids of a turn and those beside it, oldest first. Raises ChatNotFound."""
        row = self.living(turn_id)
        query = "SELECT id FROM turn WHERE chat_id = ? AND parent_id IS ? AND deleted_with IS NULL ORDER BY id"
        return [each["id"] for each in self.connection.execute(query, (row["chat_id"], row["parent_id"]))]

    def living(self, turn_id: int) -> sqlite3.Row:
        """The bare row of a turn that is not deleted, nor its chat. Raises ChatNotFound."""
        query = """SELECT turn.* FROM turn JOIN chat ON chat.id = chat_id
            WHERE turn.id = ? AND deleted_with IS NULL AND chat.deleted_at IS NULL"""
        row: sqlite3.Row | None = self.connection.execute(query, (turn_id,)).fetchone()
        if row is None:
            raise no_turn(turn_id)
        return row

    def draft(self, chat_id: int) -> Draft:
        """What is typed and attached in a chat. Raises ChatNotFound."""
        query = "SELECT draft FROM chat WHERE id = ? AND deleted_at IS NULL"
        row = self.connection.execute(query, (chat_id,)).fetchone()
        if row is None:
            raise no_chat(chat_id)
        return Draft(row["draft"], tuple(self._attachments("chat_id = ? AND turn_id IS NULL", chat_id)))

    def attachment(self, attachment_id: int) -> Attachment:
        """One attachment that is not detached. Raises ChatNotFound."""
        found = self._attachments("attachment.id = ?", attachment_id)
        if not found:
            raise no_attachment(attachment_id)
        return found[0]

    def _attachments(self, where: str, value: object) -> list[Attachment]:
        rows = self.connection.execute(f"{_ATTACHMENTS} {where} ORDER BY attachment.id", (value,))
        return [self._attachment(row) for row in rows]

    def _attachment(self, row: sqlite3.Row) -> Attachment:
        path = picture_path(self.pictures, row["digest"], row["suffix"])
        size = (row["width"], row["height"])
        return Attachment(row["id"], row["digest"], row["name"], *size, row["n_bytes"], path, row["seconds"])

    def _turns(self, ids: Sequence[int], places: Mapping[int, tuple[int, int]]) -> list[Turn]:
        """These turns in this order."""
        wanted = json.dumps(ids)
        among = "IN (SELECT value FROM json_each(?))"
        pictures: dict[int, list[Attachment]] = {}
        for row in self.connection.execute(f"{_ATTACHMENTS} turn_id {among} ORDER BY attachment.id", (wanted,)):
            pictures.setdefault(row["turn_id"], []).append(self._attachment(row))
        found = {
            row["id"]: self._turn(row, tuple(pictures.get(row["id"], ())), places[row["id"]])
            for row in self.connection.execute(f"SELECT * FROM turn WHERE id {among}", (wanted,))
        }
        return [found[each] for each in ids]

    def _turn(self, row: sqlite3.Row, attachments: tuple[Attachment, ...], place: tuple[int, int]) -> Turn:
        text, thinking = row["text"], row["thinking"]
        if row["state"] == "writing":
            text, thinking = written_so_far(self.connection, row)
        return Turn(
            id=row["id"],
            chat_id=row["chat_id"],
            parent_id=row["parent_id"],
            role=row["role"],
            text=text,
            thinking=thinking,
            attachments=attachments,
            state=row["state"],
            finish_reason=row["finish_reason"],
            error=row["error"],
            model=row["model"],
            usage=_usage(row["usage"]) if row["usage"] else None,
            timings=_timings(row["timings"]) if row["timings"] else None,
            created=row["created"],
            place=place[0],
            of=place[1],
            chosen=row["chosen"],
            task=row["task"],
        )


def written_so_far(connection: sqlite3.Connection, row: sqlite3.Row) -> tuple[str, str]:
    """Text and thinking of a turn that is being written."""
    pieces = connection.execute("SELECT text, thinking FROM piece WHERE turn_id = ? ORDER BY id", (row["id"],))
    texts, thoughts = [row["text"]], [row["thinking"]]
    for text, thinking in pieces:
        texts.append(text)
        thoughts.append(thinking)
    return "".join(texts), "".join(thoughts)


def as_json(value: Usage | Timings | None) -> str | None:
    """Figures as a column holds them."""
    return json.dumps(asdict(value)) if value else None


def _usage(text: str) -> Usage:
    from gguf_vl.types import Usage

    return Usage(**json.loads(text))


def _timings(text: str) -> Timings:
    from gguf_vl.types import Timings

    return Timings(**json.loads(text))


def no_chat(chat_id: int) -> ChatNotFound:
    """The error for a chat that is not there."""
    return ChatNotFound(
        f"There is no chat {chat_id}, or it is deleted.", "See `gguf-vl chats list`, also with --deleted."
    )


def no_turn(turn_id: int) -> ChatNotFound:
    """The error for a turn that is not there."""
    return ChatNotFound(f"There is no message {turn_id}, or it is deleted.", "Open its chat again.")


def no_attachment(attachment_id: int) -> ChatNotFound:
    """The error for an attachment that is not there, or not in the state that is asked for."""
    return ChatNotFound(f"There is no such picture {attachment_id} in what is being typed.", "Attach it again.")


def _path(branches: Mapping[int | None, Sequence[sqlite3.Row]]) -> list[int]:
    found: list[int] = []
    while siblings := branches.get(found[-1] if found else None):
        found.append(max(siblings, key=lambda link: link["chosen"])["id"])
    return found


def _chat(row: sqlite3.Row) -> Chat:
    sampling: dict[str, Any] = json.loads(row["sampling"])
    return Chat(
        id=row["id"],
        title=row["title"] or _beginning(row["question"]) or row["picture"] or "New chat",
        created=row["created"],
        updated=row["updated"],
        pinned=bool(row["pinned"]),
        system=row["system"],
        sampling=sampling,
        model=row["model"],
        preset=row["preset"],
        n_turns=row["n_turns"],
        titled=bool(row["title"]),
        deleted=row["deleted_at"],
    )


def _beginning(question: str | None) -> str:
    line = " ".join((question or "").split())
    return line if len(line) <= TITLE else f"{line[: TITLE - 1].rstrip()}…"
