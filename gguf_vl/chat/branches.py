"""The tree of a chat's turns: adding to it, choosing a path, deleting with a way back. All inside a transaction.

Among the turns of one parent, the one that was chosen last is on the path: a deleted one gives way to the one chosen
before it, and nothing has to be kept in step.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Sequence

from gguf_vl.chat import search
from gguf_vl.chat.rows import Rows, no_turn, written_so_far
from gguf_vl.chat.turns import Attachment, Role, Turn

UNFINISHED = 50
"""Chats of an import that did not end are removed so many at a time: an opening must be quick."""
_BELOW = """WITH RECURSIVE below (id) AS (
    SELECT ? UNION ALL SELECT turn.id FROM turn JOIN below ON turn.parent_id = below.id)"""


def add(
    rows: Rows,
    chat_id: int,
    parent_id: int | None,
    role: Role,
    text: str,
    *,
    model: str = "",
    writer: str | None = None,
    task: str | None = None,
) -> int:
    """A new turn, chosen; with a writer it is being written. -> its id. Raises ChatNotFound."""
    rows.chat(chat_id)
    if parent_id is not None and rows.living(parent_id)["chat_id"] != chat_id:
        raise no_turn(parent_id)
    now = time.time()
    columns = "chat_id, parent_id, chosen, role, text, state, writer, model, created, task"
    state = "done" if writer is None else "writing"
    values = (chat_id, parent_id, _next(rows, chat_id, parent_id), role, text, state, writer, model, now, task)
    added = rows.connection.execute(f"INSERT INTO turn ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
    rows.connection.execute("UPDATE chat SET updated = ? WHERE id = ?", (now, chat_id))
    assert added.lastrowid is not None
    return added.lastrowid


def complete(rows: Rows, turn_id: int, attachments: Iterable[Attachment] = ()) -> Turn:
    """Give a new turn the pictures of these attachments too, and make it findable."""
    sql = "INSERT INTO attachment (chat_id, turn_id, digest, name) SELECT chat_id, id, ?, ? FROM turn WHERE id = ?"
    rows.connection.executemany(sql, [(each.digest, each.name, turn_id) for each in attachments])
    turn = rows.turn(turn_id)
    search.index(rows.connection, turn_id, turn.text, [each.name for each in turn.attachments])
    return turn


def put_together(rows: Rows, row: sqlite3.Row) -> None:
    """Make the pieces of an answer its text, and findable. `row` is the turn's, which may be deleted."""
    text, thinking = written_so_far(rows.connection, row)
    rows.connection.execute("UPDATE turn SET text = ?, thinking = ? WHERE id = ?", (text, thinking, row["id"]))
    rows.connection.execute("DELETE FROM piece WHERE turn_id = ?", (row["id"],))
    search.index(rows.connection, row["id"], text)


def choose(rows: Rows, turn_id: int) -> None:
    """Put a turn on the path, and all above it. Raises ChatNotFound."""
    step: int | None = turn_id
    while step is not None:
        row = rows.living(step)
        highest = rows.connection.execute(
            "SELECT max(chosen) FROM turn WHERE chat_id = ? AND parent_id IS ? AND deleted_with IS NULL",
            (row["chat_id"], row["parent_id"]),
        ).fetchone()[0]
        if row["chosen"] != highest:
            stamp = _next(rows, row["chat_id"], row["parent_id"])
            rows.connection.execute("UPDATE turn SET chosen = ? WHERE id = ?", (stamp, step))
        step = row["parent_id"]


def delete(rows: Rows, turn_id: int) -> None:
    """Take a turn and all below it away. Raises ChatNotFound."""
    rows.living(turn_id)
    rows.connection.execute(
        f"{_BELOW} UPDATE turn SET deleted_with = ? WHERE id IN below AND deleted_with IS NULL", (turn_id, turn_id)
    )
    rows.connection.execute("UPDATE turn SET deleted_at = ? WHERE id = ?", (time.time(), turn_id))


def restore(rows: Rows, turn_id: int) -> None:
    """Bring back, on the path, what was deleted with a turn; where what is above it is deleted, when that comes back.

    Raises ChatNotFound where nothing was deleted with that turn.
    """
    parent = rows.connection.execute(
        """SELECT parent.deleted_with FROM turn LEFT JOIN turn AS parent ON parent.id = turn.parent_id
        WHERE turn.id = ? AND turn.deleted_with = turn.id""",
        (turn_id,),
    ).fetchone()
    if parent is None:
        raise no_turn(turn_id)
    rows.connection.execute("UPDATE turn SET deleted_with = ? WHERE deleted_with = ?", (parent[0], turn_id))
    rows.connection.execute("UPDATE turn SET deleted_at = NULL WHERE id = ?", (turn_id,))
    if parent[0] is None:
        choose(rows, turn_id)


_NEVER_USED = """FROM chat WHERE created < :before AND importer IS NULL AND title IS NULL AND draft = ''
    AND NOT EXISTS (SELECT 1 FROM turn WHERE chat_id = chat.id)
    AND NOT EXISTS (SELECT 1 FROM attachment WHERE chat_id = chat.id)"""


def forgettable(rows: Rows, before: float) -> bool:
    """Whether `forget` would remove anything."""
    parts = (
        "FROM turn WHERE deleted_at < :before",
        "FROM attachment WHERE detached_at < :before",
        "FROM chat WHERE deleted_at < :before",
        _NEVER_USED,
    )
    query = " OR ".join(f"EXISTS (SELECT 1 {part})" for part in parts)
    return bool(rows.connection.execute(f"SELECT {query}", {"before": before}).fetchone()[0])


def forget(rows: Rows, before: float, importers: Sequence[str]) -> None:
    """Remove for good what was deleted before that time, chats that nothing was ever put into, and of what these have
    begun to import the next `UNFINISHED` chats.
    """
    for statement in (
        """WITH RECURSIVE below (id) AS (
            SELECT id FROM turn WHERE deleted_at < :before
            UNION SELECT turn.id FROM turn JOIN below ON turn.parent_id = below.id)
        DELETE FROM turn WHERE id IN below""",
        "DELETE FROM attachment WHERE detached_at < :before",
        "DELETE FROM chat WHERE deleted_at < :before",
        f"DELETE {_NEVER_USED}",
        f"""DELETE FROM chat WHERE id IN
            (SELECT id FROM chat WHERE importer IN (SELECT value FROM json_each(:importers)) LIMIT {UNFINISHED})""",
    ):
        rows.connection.execute(statement, {"before": before, "importers": json.dumps(importers)})


def _next(rows: Rows, chat_id: int, parent_id: int | None) -> int:
    """What makes a turn the one chosen last; those deleted count too, since they may come back."""
    query = "SELECT coalesce(max(chosen), 0) + 1 FROM turn WHERE chat_id = ? AND parent_id IS ?"
    return int(rows.connection.execute(query, (chat_id, parent_id)).fetchone()[0])
