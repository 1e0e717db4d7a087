-- Chats, their turns as a tree, pictures and drafts.

CREATE TABLE chat (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    title TEXT,                             -- the person's; NULL: made of the first question when read
    created REAL NOT NULL,                  -- seconds since 1970, as all times here
    updated REAL NOT NULL,
    pinned INTEGER NOT NULL DEFAULT 0,
    system TEXT,
    sampling TEXT NOT NULL DEFAULT '{}',    -- JSON
    model TEXT,
    preset TEXT,
    draft TEXT NOT NULL DEFAULT '',
    deleted_at REAL
);

CREATE TABLE turn (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    chat_id INTEGER NOT NULL REFERENCES chat ON DELETE CASCADE,
    -- Never a cascade from turn to turn: SQLite gives up on one that is 1,000 deep.
    parent_id INTEGER REFERENCES turn,
    chosen INTEGER NOT NULL,                -- among turns of one parent, the highest is on the path
    role TEXT NOT NULL CHECK (role IN ('user', 'assistant')),
    text TEXT NOT NULL,
    thinking TEXT NOT NULL DEFAULT '',
    state TEXT NOT NULL CHECK (state IN ('done', 'writing', 'stopped', 'failed')),
    writer TEXT,                            -- the instance that writes it; its lock file tells whether that lives
    finish_reason TEXT NOT NULL DEFAULT '',
    error TEXT NOT NULL DEFAULT '',
    model TEXT NOT NULL DEFAULT '',
    usage TEXT,                             -- JSON
    timings TEXT,                           -- JSON
    created REAL NOT NULL,
    deleted_with INTEGER,                   -- the turn at the top of what was deleted
    deleted_at REAL                         -- of that turn alone
);
CREATE INDEX turn_by_parent ON turn (chat_id, parent_id, deleted_with, chosen);
CREATE INDEX turn_child ON turn (parent_id);
CREATE INDEX turn_deleted ON turn (deleted_at) WHERE deleted_at IS NOT NULL;
CREATE INDEX turn_writing ON turn (writer) WHERE state = 'writing';

-- What has come of an answer that is being written: only ever appended to, and put together when it ends.
CREATE TABLE piece (
    id INTEGER PRIMARY KEY,
    turn_id INTEGER NOT NULL REFERENCES turn ON DELETE CASCADE,
    text TEXT NOT NULL,
    thinking TEXT NOT NULL
);
CREATE INDEX piece_of ON piece (turn_id);

-- A file under pictures/, whether or not it has been written yet.
CREATE TABLE picture (
    digest TEXT PRIMARY KEY,                -- SHA-256 of its bytes
    suffix TEXT NOT NULL,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    n_bytes INTEGER NOT NULL,
    touched REAL NOT NULL                   -- when it was last given
) WITHOUT ROWID;

CREATE TABLE attachment (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    chat_id INTEGER NOT NULL REFERENCES chat ON DELETE CASCADE,
    turn_id INTEGER REFERENCES turn ON DELETE CASCADE,  -- NULL: of the draft
    digest TEXT NOT NULL REFERENCES picture,
    name TEXT NOT NULL,
    detached_at REAL
);
CREATE INDEX attachment_in ON attachment (chat_id, turn_id);
CREATE INDEX attachment_of ON attachment (turn_id);
CREATE INDEX attachment_picture ON attachment (digest);
CREATE INDEX attachment_detached ON attachment (detached_at) WHERE detached_at IS NOT NULL;

-- Folded text (search.py) by the id of its turn; a chat's title by the negative id of its chat.
CREATE VIRTUAL TABLE words USING fts5 (text, tokenize = 'trigram case_sensitive 1', columnsize = 0);
CREATE VIRTUAL TABLE terms USING fts5vocab (words, row);
CREATE TRIGGER turn_gone AFTER DELETE ON turn BEGIN DELETE FROM words WHERE rowid = old.id; END;
CREATE TRIGGER chat_gone AFTER DELETE ON chat BEGIN DELETE FROM words WHERE rowid = -old.id; END;
