"""Models that are here are verified and removed by what their receipts say."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from gguf_vl import paths
from gguf_vl.errors import InvalidModelFile, ModelNotFound, UsageError
from gguf_vl.store import library
from gguf_vl.store.library import Broken, LocalModel
from gguf_vl.store.progress import Silent
from gguf_vl.store.receipt import FileRecord, Receipt, read_receipt, write_receipt
from gguf_vl.store.remove import plan_removal, remove
from gguf_vl.store.verify import verify

TEXT = paths.pocket_dir() / "pocket-F16.gguf"
PROJECTOR = paths.pocket_dir() / "mmproj-pocket-F16.gguf"
LONG_AGO = "2020-01-01T00:00:00+00:00"


def record(path: Path) -> FileRecord:
    content = path.read_bytes()
    return FileRecord(path.name, len(content), hashlib.sha256(content).hexdigest(), "hub", LONG_AGO)


@pytest.fixture
def folder() -> Path:
    """An installed model `mine:f16`."""
    made = paths.models_dir() / "mine-f16"
    made.mkdir(parents=True)
    for file in (TEXT, PROJECTOR):
        shutil.copy(file, made)
    write_receipt(made, Receipt("mine:f16", "a test", record(TEXT), record(PROJECTOR)))
    return made


def test_a_model_with_a_receipt_goes_by_the_name_in_it(folder: Path) -> None:
    found = library.find("Mine:F16")
    assert found
    assert (found.name, found.model, found.mmproj) == ("mine:f16", folder / TEXT.name, folder / PROJECTOR.name)


def test_verifying_says_when(folder: Path) -> None:
    assert [checked.trouble for checked in verify(folder, Silent())] == [None, None]
    receipt = read_receipt(folder)
    assert receipt
    assert all(each.verified > LONG_AGO for each in receipt.files)


def test_one_wrong_byte_is_found_and_the_receipt_stays_old(folder: Path) -> None:
    with (folder / PROJECTOR.name).open("r+b") as stream:
        stream.seek(1_000_000)
        byte = stream.read(1)
        stream.seek(1_000_000)
        stream.write(bytes([byte[0] ^ 1]))
    text, projector = verify(folder, Silent())
    assert text.trouble is None
    assert projector.trouble
    assert "promised" in projector.trouble
    receipt = read_receipt(folder)
    assert receipt
    assert {each.verified for each in receipt.files} == {LONG_AGO}


def test_a_truncated_and_a_missing_file_are_found_though_the_model_no_longer_opens(folder: Path) -> None:
    os.truncate(folder / TEXT.name, 1000)
    (folder / PROJECTOR.name).unlink()
    text, projector = verify(folder, Silent())
    assert text.trouble == f"1000 bytes where {TEXT.stat().st_size} were promised"
    assert projector.trouble == "it cannot be read: No such file or directory"
    assert [entry.name for entry in library.scan() if isinstance(entry, Broken)] == ["mine-f16"]


def test_pocket_is_held_against_the_catalogue() -> None:
    assert [(each.promised_by, each.trouble) for each in verify(paths.pocket_dir(), Silent())] == [
        ("catalogue", None)
    ] * 2


def test_files_nobody_promised_anything_about_are_hashed_all_the_same() -> None:
    folder = paths.models_dir() / "own"
    folder.mkdir(parents=True)
    shutil.copy(TEXT, folder / "own.gguf")
    [checked] = verify(folder, Silent())
    assert (checked.promised_by, checked.sha256, checked.trouble) == ("none", record(TEXT).sha256, None)


def test_removing_frees_what_it_said(folder: Path) -> None:
    removal = plan_removal("mine:f16")
    assert removal.frees == sum(path.stat().st_size for path in folder.iterdir())
    remove(removal)
    assert not folder.exists()
    assert list(paths.models_dir().iterdir()) == []


def test_files_with_another_name_elsewhere_free_nothing_and_stay_there(folder: Path, tmp_path: Path) -> None:
    os.link(folder / PROJECTOR.name, tmp_path / "theirs.gguf")
    removal = plan_removal("mine:f16")
    assert removal.shared == (folder / PROJECTOR.name,)
    assert removal.frees < TEXT.stat().st_size + 10_000
    remove(removal)
    assert (tmp_path / "theirs.gguf").read_bytes() == PROJECTOR.read_bytes()


def test_a_file_of_another_program_is_used_and_never_removed(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.gguf"
    shutil.copy(TEXT, theirs)
    folder = paths.models_dir() / "borrowed"
    folder.mkdir(parents=True)
    made = record(theirs)
    write_receipt(
        folder, Receipt("borrowed", "a test", FileRecord(str(theirs), made.size, made.sha256, "none", LONG_AGO))
    )
    found = library.find("borrowed")
    assert isinstance(found, LocalModel)
    assert found.model == theirs
    removal = plan_removal("borrowed")
    assert removal.referenced == (theirs,)
    remove(removal)
    assert theirs.exists()


def test_a_broken_model_can_be_removed(folder: Path) -> None:
    (folder / "receipt.json").write_text("{")
    with pytest.raises(InvalidModelFile, match="cannot be understood"):
        library.find("mine:f16")
    remove(plan_removal("mine:f16"))
    assert not folder.exists()


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        '{"schema": 2}',
        "null",
        '{"schema": 1, "name": "x", "source": "", "model": {"path": 1}, "mmproj": 0}',
        "\0",
    ],
)
def test_a_receipt_that_makes_no_sense_hides_no_other_model(folder: Path, text: str) -> None:
    other = paths.models_dir() / "other"
    shutil.copytree(folder, other)
    (folder / "receipt.json").write_text(text)
    entries = {entry.name: entry for entry in library.scan()}
    assert isinstance(entries["mine-f16"], Broken)
    assert isinstance(entries["mine:f16"], LocalModel)


def test_pocket_and_what_is_not_here_cannot_be_removed() -> None:
    with pytest.raises(UsageError, match="stays"):
        plan_removal("Pocket")
    with pytest.raises(ModelNotFound, match="nothing-of-the-kind"):
        plan_removal("nothing-of-the-kind")
