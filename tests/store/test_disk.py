"""Files written anew."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from gguf_vl.store.disk import replace_text


def test_a_file_that_cannot_be_written_anew_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "chats.json"
    replace_text(file, "old")
    write = Path.write_text

    def full(self: Path, text: str, **more: Any) -> int:
        write(self, text[:1], **more)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        replace_text(file, "new")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]
