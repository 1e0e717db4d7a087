"""`History`: every chat on disk, the moment it exists."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import EllipsisType, TracebackType
from typing import TYPE_CHECKING, Self

from gguf_vl import paths
from gguf_vl.chat import branches, search
from gguf_vl.chat.database import Database
from gguf_vl.chat.instances import Instance
from gguf_vl.chat.pictures import Pictures
from gguf_vl.chat.rows import Rows, as_json, no_attachment, no_chat, no_turn
from gguf_vl.chat.turns import Attachment, Chat, Draft, Hit, State, Turn
from gguf_vl.errors import ChatNotFound, UsageError

if TYPE_CHECKING:
    from gguf_vl.types import Timings, Usage

NAME = "chats.sqlite"
KEPT_S = 30 * 24 * 3600.0
"""How long what was deleted can be brought back."""


class History:
    """The chats in `folder`/chats.sqlite and `folder`/pictures; the folder is the data folder unless it is given.

    Synchronous, and safe from several threads and processes. Every change is on disk when its method returns. What is
    not there, or is deleted, raises `ChatNotFound`; a full disk and the like raise `GgufVlError`; a file that is
    damaged or of a newer version raises `InvalidHistory`. `recovered` are the answers whose writers had died, found at
    opening; their state is now "stopped".
    """

    def __init__(self, folder: Path | None = None) -> None:
        folder = folder or paths.data_dir()
        self.is_closing = False
        self.importing = threading.Lock()
        self.database = Database(folder / NAME)
        try:
            self.pictures = Pictures(folder / "pictures", self.database)
            self.instance = Instance(folder / "instances")
            self.recovered = tuple(self.recover())
            self._forget()
        except BaseException:
            self.database.close()
            raise

    def close(self) -> None:
        """End it. An answer that is still being written counts as left by its writer; an import ends unfinished."""
        self.is_closing = True
        with self.importing:  # what it has begun is the instance's as long as that lives
            self.instance.end()
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    # --- chats ------------------------------------------------------------------------------------------------------

    def chats(self, *, limit: int | None = None, deleted: bool = False) -> list[Chat]:
        """Pinned ones first, then the latest, or those that are deleted, the latest deleted first. Those without title,
        turns and draft are left out.
        """
        with self.reading() as rows:
            return rows.chats(limit, deleted=deleted)

    def chat(self, chat_id: int) -> Chat:
        """One chat."""
        with self.reading() as rows:
            return rows.chat(chat_id)

    def take_unsent(self) -> int | None:
        """The latest chat in which something is typed or attached that was not sent, and that no living instance is at,
        if there is one. It is this one's from now on.
        """
        with self.reading() as rows:
            if not rows.unsent():
                return None
        drafter = self.instance.name
        with self.writing() as rows:
            free = (row["id"] for row in rows.unsent() if not (row["drafter"] and self.instance.lives(row["drafter"])))
            found: int | None = next(free, None)
            if found is not None:
                _set(rows, found, drafter=drafter)
        return found

    def new_chat(self) -> Chat:
        """An empty chat."""
        with self.writing() as rows:
            now = time.time()
            added = rows.connection.execute("INSERT INTO chat (created, updated) VALUES (?, ?)", (now, now))
            return rows.chat(added.lastrowid or 0)

    def rename(self, chat_id: int, title: str) -> None:
        """Give a chat a title; an empty one gives way to the beginning of the first question again."""
        title = " ".join(_clean(title).split())
        with self.writing() as rows:
            _set(rows, chat_id, title=title or None)
            search.index(rows.connection, -chat_id, title)

    def pin(self, chat_id: int, pinned: bool) -> None:
        """Have a chat listed first, or not any more."""
        with self.writing() as rows:
            _set(rows, chat_id, pinned=int(pinned))

    def set_system(self, chat_id: int, text: str | None) -> None:
        """The chat's own system prompt; None for what is set elsewhere."""
        with self.writing() as rows:
            _set(rows, chat_id, system=None if text is None else _clean(text))

    def set_sampling(self, chat_id: int, sampling: Mapping[str, object]) -> None:
        """The fields of `Sampling` that the chat sets, as JSON can say them."""
        with self.writing() as rows:
            _set(rows, chat_id, sampling=json.dumps(dict(sampling)))

    def set_model(self, chat_id: int, name: str | None) -> None:
        """The chat's own model; None for what is set elsewhere."""
        with self.writing() as rows:
            _set(rows, chat_id, model=name)

    def set_preset(self, chat_id: int, name: str | None) -> None:
        """The task of what is typed or, where nothing is, of what was asked last: see `Turn.task`."""
        with self.writing() as rows:
            _set(rows, chat_id, preset=name)

    def delete_chat(self, chat_id: int) -> None:
        """Take a chat away; it can be restored for 30 days."""
        with self.writing() as rows:
            _set(rows, chat_id, deleted_at=time.time())

    def restore_chats(self, *chat_ids: int) -> list[Chat]:
        """Bring deleted chats back, all of them or none; one that is not deleted stays as it is."""
        with self.writing() as rows:
            for chat_id in chat_ids:
                done = rows.connection.execute(
                    "UPDATE chat SET deleted_at = NULL WHERE id = ? AND importer IS NULL", (chat_id,)
                )
                if not done.rowcount:
                    what = f"There is no chat {chat_id}; one that is deleted is kept for 30 days."
                    raise ChatNotFound(what, "See `gguf-vl chats list --deleted`.")
            return [rows.chat(chat_id) for chat_id in chat_ids]

    # --- turns ------------------------------------------------------------------------------------------------------

    def turns(self, chat_id: int) -> list[Turn]:
        """The chosen path, its first turn first."""
        with self.reading() as rows:
            return rows.turns(chat_id)

    def tree(self, chat_id: int) -> list[Turn]:
        """Every turn of every branch, parents before children."""
        with self.reading() as rows:
            return rows.turns(chat_id, all_branches=True)

    def path(self, turn_id: int) -> list[Turn]:
        """The turns that lead to a turn, it among them, whatever is chosen now."""
        with self.reading() as rows:
            turn = rows.turn(turn_id)
            by_id = {each.id: each for each in rows.turns(turn.chat_id, all_branches=True)}
            found = [turn]
            while (parent := found[-1].parent_id) is not None:
                found.append(by_id[parent])
            return found[::-1]

    def turn(self, turn_id: int) -> Turn:
        """One turn."""
        with self.reading() as rows:
            return rows.turn(turn_id)

    def ask(self, chat_id: int, parent_id: int | None) -> Turn:
        """Make what is typed and attached a question below a turn, None for the first; the draft is empty then.

        Raises UsageError where nothing is typed or attached.
        """
        with self.writing() as rows:
            draft = rows.draft(chat_id)
            if not draft.text.strip() and not draft.attachments:
                raise UsageError("Nothing is typed or attached.", "Type a question, or attach a picture.")
            asked = branches.add(rows, chat_id, parent_id, "user", draft.text, task=rows.chat(chat_id).preset)
            moved = "chat_id = ? AND turn_id IS NULL AND detached_at IS NULL"
            rows.connection.execute(f"UPDATE attachment SET turn_id = ? WHERE {moved}", (asked, chat_id))
            _set(rows, chat_id, draft="")
            return branches.complete(rows, asked)

    def question(self, chat_id: int, parent_id: int | None, text: str, attachments: Sequence[Attachment] = ()) -> Turn:
        """Add a question with the pictures of these attachments below a turn; the draft stays as it is."""
        with self.writing() as rows:
            asked = branches.add(rows, chat_id, parent_id, "user", _clean(text))
            return branches.complete(rows, asked, attachments)

    def edit(
        self,
        turn_id: int,
        text: str,
        attachments: Sequence[Attachment] | None = None,
        *,
        task: str | EllipsisType | None = ...,
    ) -> Turn:
        """Put another version beside a turn, chosen, with the same pictures and task unless others are given."""
        with self.writing() as rows:
            old = rows.turn(turn_id)
            kept = old.attachments if attachments is None else attachments
            task = old.task if task is ... else task
            added = branches.add(rows, old.chat_id, old.parent_id, old.role, _clean(text), model=old.model, task=task)
            return branches.complete(rows, added, kept)

    def siblings(self, turn_id: int) -> list[int]:
        """The ids of a turn and its other versions, oldest first."""
        with self.reading() as rows:
            return rows.siblings(turn_id)

    def choose(self, turn_id: int) -> None:
        """Put a turn on the path, with all above it, and below it what was chosen there last."""
        with self.writing() as rows:
            branches.choose(rows, turn_id)

    def delete_turn(self, turn_id: int) -> None:
        """Take a turn and all below it away, for 30 days; the path goes to the sibling chosen before it, if any."""
        with self.writing() as rows:
            branches.delete(rows, turn_id)

    def restore_turn(self, turn_id: int) -> None:
        """Bring back what `delete_turn` of the same turn took, and choose it."""
        with self.writing() as rows:
            branches.restore(rows, turn_id)

    # --- answers ----------------------------------------------------------------------------------------------------

    def begin_answer(self, parent_id: int, model: str) -> Turn:
        """An empty answer below a question, chosen, that is being written by this instance."""
        writer = self.instance.name
        with self.writing() as rows:
            asked = rows.living(parent_id)
            chat_id, task = asked["chat_id"], asked["task"]
            begun = branches.add(rows, chat_id, parent_id, "assistant", "", model=model, writer=writer, task=task)
            return rows.turn(begun)

    def set_answerer(self, turn_id: int, model: str) -> None:
        """Say which model writes an answer, deleted or not: it may not have been chosen when the answer was begun."""
        self.database.run("UPDATE turn SET model = ? WHERE id = ?", (model, turn_id))

    def append(self, turn_id: int, text: str = "", thinking: str = "") -> None:
        """Put more behind an answer that is being written, deleted or not. Its cost does not grow with its length."""
        added = self.database.run(
            "INSERT INTO piece (turn_id, text, thinking) SELECT id, ?, ? FROM turn WHERE id = ? AND state = 'writing'",
            (_clean(text), _clean(thinking), turn_id),
        )
        if not added:
            raise no_turn(turn_id)

    def resume_answer(self, turn_id: int) -> None:
        """Have an answer written on by this instance, behind what is there."""
        writer = self.instance.name
        with self.writing() as rows:
            if rows.living(turn_id)["state"] != "writing":
                changes = "state = 'writing', writer = ?, finish_reason = '', error = ''"
                rows.connection.execute(f"UPDATE turn SET {changes} WHERE id = ?", (writer, turn_id))

    def finish(
        self,
        turn_id: int,
        state: State,
        *,
        finish_reason: str = "",
        error: str = "",
        usage: Usage | None = None,
        timings: Timings | None = None,
    ) -> None:
        """End an answer, deleted or not: its pieces become its text, which can be found from now on."""
        told = (state, finish_reason, _clean(error), as_json(usage), as_json(timings))
        with self.writing() as rows:
            row = rows.connection.execute("SELECT * FROM turn WHERE id = ?", (turn_id,)).fetchone()
            if row is None:
                raise no_turn(turn_id)
            branches.put_together(rows, row)
            changes = "state = ?, finish_reason = ?, error = ?, usage = ?, timings = ?, writer = NULL"
            rows.connection.execute(f"UPDATE turn SET {changes} WHERE id = ?", (*told, turn_id))
            rows.connection.execute("UPDATE chat SET updated = ? WHERE id = ?", (time.time(), row["chat_id"]))

    def recover(self) -> list[int]:
        """Stop the answers whose writers are gone; never those of a living instance. -> their ids."""
        with self.reading() as rows:
            query = "SELECT DISTINCT writer FROM turn WHERE state = 'writing'"
            writers = [row["writer"] for row in rows.connection.execute(query)]
        gone = [writer for writer in writers if not self.instance.lives(writer)]
        recovered: list[int] = []
        if gone:
            with self.writing() as rows:
                query = "SELECT * FROM turn WHERE state = 'writing' AND writer IN (SELECT value FROM json_each(?))"
                for row in rows.connection.execute(query, (json.dumps(gone),)).fetchall():
                    branches.put_together(rows, row)
                    end = "UPDATE turn SET state = 'stopped', writer = NULL WHERE id = ?"
                    rows.connection.execute(end, (row["id"],))
                    recovered.append(row["id"])
        return recovered

    # --- what is being typed ----------------------------------------------------------------------------------------

    def draft(self, chat_id: int) -> Draft:
        """What is typed and attached in a chat."""
        with self.reading() as rows:
            return rows.draft(chat_id)

    def set_draft(self, chat_id: int, text: str) -> None:
        """What is typed now."""
        drafter = self.instance.name
        with self.writing() as rows:
            _set(rows, chat_id, draft=_clean(text), drafter=drafter)

    def attach(self, chat_id: int, data: bytes, name: str, size: tuple[int, int]) -> Attachment:
        """Attach a picture's file to what is typed. `size` is (width, height) in pixels of the original, upright."""
        return self._attached(chat_id, self.pictures.keep(data, size), name)

    def attach_video(self, chat_id: int, file: Path, size: tuple[int, int], seconds: float) -> Attachment:
        """Attach a copy of a video's file, of so many seconds."""
        return self._attached(chat_id, self.pictures.keep_file(file, size, seconds), file.name)

    def _attached(self, chat_id: int, digest: str, name: str) -> Attachment:
        drafter = self.instance.name
        with self.writing() as rows:
            _set(rows, chat_id, drafter=drafter)
            sql = "INSERT INTO attachment (chat_id, digest, name) VALUES (?, ?, ?)"
            added = rows.connection.execute(sql, (chat_id, digest, _clean(name)))
            return rows.attachment(added.lastrowid or 0)

    def detach(self, attachment_id: int) -> None:
        """Take a picture out of what is typed."""
        self._change_attachment(attachment_id, "detached_at", time.time())

    def reattach(self, attachment_id: int) -> None:
        """Undo `detach`."""
        self._change_attachment(attachment_id, "detached_at", None)

    def name_attachment(self, attachment_id: int, name: str) -> None:
        """Call a picture or a video of what is typed something else."""
        self._change_attachment(attachment_id, "name", _clean(name))

    # --- search -----------------------------------------------------------------------------------------------------

    def search(self, query: str, *, limit: int = 50) -> list[Hit]:
        """Titles, then the latest turns of any branch, that hold all the words, or parts of words, in any case."""
        with self.reading() as rows:
            return search.search(rows, _clean(query), limit)

    # --- for this room ----------------------------------------------------------------------------------------------

    @contextmanager
    def reading(self) -> Iterator[Rows]:
        """One state of everything."""
        with self.database.reading() as connection:
            yield Rows(connection, self.pictures.folder)

    @contextmanager
    def writing(self) -> Iterator[Rows]:
        """A transaction."""
        with self.database.writing() as connection:
            yield Rows(connection, self.pictures.folder)

    def _change_attachment(self, attachment_id: int, column: str, value: object) -> None:
        """Of what is typed: what was asked stays as it was."""
        changes = f"UPDATE attachment SET {column} = ? WHERE id = ? AND turn_id IS NULL"
        if not self.database.run(changes, (value, attachment_id)):
            raise no_attachment(attachment_id)

    def _forget(self) -> None:
        """Remove for good what was deleted long ago, and what those have left who ended in the middle of an import."""
        before = time.time() - KEPT_S
        with self.reading() as rows:
            due = branches.forgettable(rows, before)
            gone = [each for each in rows.importers() if not self.instance.lives(each)]
        if due or gone:
            with self.writing() as rows:
                branches.forget(rows, before, gone)
        self.pictures.sweep()


def _set(rows: Rows, chat_id: int, **values: object) -> None:
    columns = ", ".join(f"{column} = ?" for column in values)
    sql = f"UPDATE chat SET {columns} WHERE id = ? AND deleted_at IS NULL"
    if not rows.connection.execute(sql, (*values.values(), chat_id)).rowcount:
        raise no_chat(chat_id)


def _clean(text: str) -> str:
    """Half of a surrogate pair, as odd file names have them, cannot be stored."""
    return text.encode("utf-8", "replace").decode("utf-8")
