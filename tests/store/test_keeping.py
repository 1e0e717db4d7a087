"""Models that are here are verified and removed by what their receipts say."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from gguf_vl import catalogue, paths
from gguf_vl.errors import GgufVlError, InvalidModelFile, ModelNotFound, UsageError
from gguf_vl.store import library
from gguf_vl.store.library import Broken, LocalModel
from gguf_vl.store.progress import Silent
from gguf_vl.store.receipt import FileRecord, Receipt, read_receipt, write_receipt
from gguf_vl.store.remove import Removal, plan_removals, remove
from gguf_vl.store.verify import verify

TEXT = paths.pocket_dir() / "pocket-F16.gguf"
PROJECTOR = paths.pocket_dir() / "mmproj-pocket-F16.gguf"
LONG_AGO = "2020-01-01T00:00:00+00:00"


def plan_removal(name: str) -> Removal:
    [removal] = plan_removals([name])
    return removal


def left() -> list[str]:
    """What is in `models/` but for locks, which are empty and stay."""
    return sorted(path.name for path in paths.models_dir().iterdir() if path.suffix != ".lock")


def damage(file: Path) -> None:
    with file.open("r+b") as stream:
        stream.seek(1_000_000)
        byte = stream.read(1)
        stream.seek(1_000_000)
        stream.write(bytes([byte[0] ^ 1]))


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


def test_one_wrong_byte_is_found_and_noted(folder: Path) -> None:
    damage(folder / PROJECTOR.name)
    text, projector = verify(folder, Silent())
    assert text.trouble is None
    assert projector.trouble
    assert "promised" in projector.trouble
    receipt = read_receipt(folder)
    assert receipt
    assert [each.verified > LONG_AGO for each in receipt.files] == [True, False]
    assert receipt.files[1].verified == ""


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
    assert left() == []


def test_files_with_another_name_elsewhere_free_nothing_and_stay_there(folder: Path, tmp_path: Path) -> None:
    os.link(folder / PROJECTOR.name, tmp_path / "theirs.gguf")
    removal = plan_removal("mine:f16")
    assert removal.shared == (folder / PROJECTOR.name,)
    assert removal.frees < TEXT.stat().st_size + 10_000
    remove(removal)
    assert (tmp_path / "theirs.gguf").read_bytes() == PROJECTOR.read_bytes()


def test_files_of_which_every_name_goes_are_freed_once(folder: Path, tmp_path: Path) -> None:
    twin = paths.models_dir() / "twin"
    twin.mkdir()
    for file in (TEXT, PROJECTOR):
        os.link(folder / file.name, twin / file.name)
    assert plan_removal("twin").frees == 0
    removals = plan_removals(["mine:f16", "twin"])
    assert sum(each.frees for each in removals) == sum(path.stat().st_size for path in folder.iterdir())
    assert [each.shared for each in removals] == [(), ()]
    os.link(folder / TEXT.name, tmp_path / "theirs.gguf")
    assert [path.name for each in plan_removals(["mine:f16", "twin"]) for path in each.shared] == [TEXT.name] * 2
    for removal in removals:
        remove(removal)
    assert left() == []


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


def test_a_receipt_that_cannot_be_read_is_not_called_nonsense(folder: Path) -> None:
    (folder / "receipt.json").unlink()
    (folder / "receipt.json").mkdir()
    with pytest.raises(InvalidModelFile, match=r"receipt\.json cannot be read: Is a directory") as caught:
        library.find("mine:f16")
    assert "Remove" not in caught.value.fix


GOOD: dict[str, Any] = {"schema": 1, **asdict(Receipt("x", "a test", record(TEXT), record(PROJECTOR)))}
WRONG_FIELDS: list[dict[str, Any]] = [
    *({"verified": wrong} for wrong in (5, None)),
    *({"size": wrong} for wrong in ("5", True, 5.0)),
    *({"sha256": wrong} for wrong in (5, "", "A" * 64)),
    *({"promised_by": wrong} for wrong in (5, "somebody")),
    *({"path": wrong} for wrong in ("", "..", "../x.gguf")),
    {"more": 5},
]


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        '{"schema": 2}',
        "null",
        '{"schema": 1, "name": "x", "source": "", "model": {"path": 1}, "mmproj": 0}',
        *(json.dumps(GOOD | change) for change in ({"name": 5}, {"name": ""}, {"source": None}, {"mmproj": 0})),
        *(json.dumps(GOOD | {"model": GOOD["model"] | change}) for change in WRONG_FIELDS),
        "\0",
        pytest.param("[" * 100_000, id="deep"),
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


# --- verifying ---


class Noting(Silent):
    """Keeps what was noted, and does something once when a file has been hashed."""

    def __init__(self, then: Callable[[], object] = lambda: None) -> None:
        self.notes: list[str] = []
        self._then = [then]

    def end(self, label: str) -> None:
        if self._then:
            self._then.pop()()

    def note(self, line: str) -> None:
        self.notes.append(line)


def test_a_folder_without_a_model_is_no_model(home: Path) -> None:
    (home / "models" / "empty").mkdir(parents=True)
    with pytest.raises(InvalidModelFile, match="holds no GGUF file"):
        verify(home / "models" / "empty", Silent())


@pytest.mark.parametrize(
    ("name", "source", "fix"),
    [
        ("2b", "Qwen/Qwen3-VL-2B on Hugging Face (revision 0123)", "gguf-vl pull 2b"),
        ("2b:q8_0", "Qwen/2B on ModelScope (revision master)", "gguf-vl pull 2b:q8_0 --source modelscope"),
        (
            "tiny",
            "a-b/c.GGUF on a mirror of Hugging Face (revision 0123)",
            "gguf-vl pull hf:a-b/c.GGUF:pocket-F16.gguf --name tiny --mmproj mmproj-pocket-F16.gguf",
        ),
        ("tiny", "a/b on ModelScope (revision v2)", "gguf-vl pull hf:a/b@v2:pocket-F16.gguf --name tiny"),
        ("tiny", "hf:a/b (bundle tiny models.tar)", "gguf-vl bundle install 'tiny models.tar'"),
        ("tiny", "LM Studio, a/b: /home/me/tiny.gguf", "LM Studio, a/b: /home/me/tiny.gguf"),
    ],
)
def test_the_mend_is_where_the_file_came_from(folder: Path, name: str, source: str, fix: str) -> None:
    write_receipt(folder, Receipt(name, source, record(TEXT), record(PROJECTOR)))
    damage(folder / TEXT.name)
    text, projector = verify(folder, Silent())
    assert fix in text.fix
    assert (f"gguf-vl rm {name}" in text.fix) == ("gguf-vl pull" not in text.fix)  # a pull keeps what is right
    assert projector.fix == ""


def test_what_was_right_is_right_where_the_date_cannot_be_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("gguf_vl.store.verify.write_receipt", refused)
    noting = Noting()
    assert [checked.trouble for checked in verify(folder, noting)] == [None, None]
    assert "Read-only file system" in noting.notes[0]


def test_verifying_does_not_wait_for_a_pull_of_the_same_model(folder: Path) -> None:
    noting = Noting()
    with FileLock(paths.models_dir() / ".mine-f16.lock"):
        assert [checked.trouble for checked in verify(folder, noting)] == [None, None]
    assert "at work" in noting.notes[0]
    receipt = read_receipt(folder)
    assert receipt
    assert {each.verified for each in receipt.files} == {LONG_AGO}


def test_a_model_that_is_replaced_while_it_is_verified_is_verified_again_and_keeps_its_new_receipt(
    folder: Path,
) -> None:
    def pull() -> None:
        shutil.copy(TEXT, folder / "new.gguf")
        with (folder / "new.gguf").open("ab") as stream:
            stream.write(b"\0")
        write_receipt(folder, Receipt("mine:f16", "a newer test", record(folder / "new.gguf")))

    noting = Noting(pull)
    [checked] = verify(folder, noting)
    assert (checked.path.name, checked.trouble) == ("new.gguf", None)
    assert "replaced meanwhile" in noting.notes[0]
    receipt = read_receipt(folder)
    assert receipt
    assert receipt.source == "a newer test"


# --- removing ---


def test_a_model_named_twice_is_removed_once(folder: Path) -> None:
    [removal] = plan_removals(["mine:f16", "Mine-F16", "mine:f16"])
    remove(removal)
    assert left() == []
    remove(removal)  # another process was quicker


def test_a_model_is_removed_by_every_name_that_finds_it() -> None:
    file = catalogue.find("2b:q4_k_m")[1].file.name
    made = paths.models_dir() / "2b"
    made.mkdir(parents=True)
    shutil.copy(TEXT, made / file)
    assert library.folder_meant("2b:q4_k_m") == made
    [removal] = plan_removals(["2b:Q4_K_M", "2b"])
    assert removal.folder == made
    for name in ("2b:q8_0", "8b"):
        assert library.folder_meant(name) is None
        with pytest.raises(ModelNotFound):
            plan_removal(name)
    with pytest.raises(UsageError, match="stays"):
        plan_removal("pocket:f16")


def test_a_link_is_removed_and_the_folder_behind_it_stays(folder: Path, tmp_path: Path) -> None:
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    removal = plan_removal("mine:f16")
    assert (removal.frees, removal.shared) == (0, ())
    remove(removal)
    assert left() == []
    assert len(list((tmp_path / "elsewhere").iterdir())) == 3
    folder.symlink_to(tmp_path / "nowhere")
    remove(plan_removal("mine:f16"))
    assert not folder.is_symlink()


def test_a_model_whose_file_another_one_uses_is_kept_unless_both_go(folder: Path) -> None:
    other = paths.models_dir() / "other"
    other.mkdir()
    borrowed = replace(record(TEXT), path=str(folder / TEXT.name))
    write_receipt(other, Receipt("other", "a test", borrowed))
    with pytest.raises(UsageError, match=f"other uses {TEXT.name}"):
        plan_removals(["mine:f16"])
    assert [removal.name for removal in plan_removals(["mine:f16", "other"])] == ["mine:f16", "other"]
    remove(plan_removal("other"))
    remove(plan_removal("mine:f16"))
    assert left() == []


def test_what_interrupted_pulls_have_left_is_counted_and_goes_too(folder: Path) -> None:
    begun = paths.models_dir() / ".pull-mine-f16-0123abcd"
    begun.mkdir()
    (begun / "weights.part").write_bytes(bytes(1000))
    removal = plan_removal("mine:f16")
    assert removal.frees == 1000 + sum(path.stat().st_size for path in folder.iterdir())
    shutil.rmtree(folder)
    assert plan_removal("mine:f16").folder is None
    remove(removal)
    assert left() == []


@pytest.mark.parametrize("is_begun", [False, True], ids=["another pull", "the pull that was running"])
def test_what_was_installed_while_it_waited_is_not_removed(folder: Path, is_begun: bool) -> None:
    staging = paths.models_dir() / ".pull-mine-f16-0123abcd"
    shutil.copytree(folder, staging)
    if is_begun:
        shutil.rmtree(folder)
    with FileLock(paths.models_dir() / ".mine-f16.lock"):
        removal = plan_removal("mine:f16")
        assert removal.busy == "Another gguf-vl is at work on mine:f16."
    if not is_begun:
        shutil.rmtree(folder)
    staging.rename(folder)
    with pytest.raises(GgufVlError, match="has changed since"):
        remove(removal)
    assert len(list(folder.iterdir())) == 3
    again = plan_removal("mine:f16")
    assert again.busy is None
    remove(again)
    assert left() == []


def test_removing_waits_for_who_is_at_work_on_the_model(folder: Path) -> None:
    waiting = threading.Event()

    class Waiting(Silent):
        def note(self, line: str) -> None:
            assert "waiting" in line
            waiting.set()

    thread = threading.Thread(target=remove, args=(plan_removal("mine:f16"), Waiting()))
    with FileLock(paths.models_dir() / ".mine-f16.lock"):
        thread.start()
        assert waiting.wait(30)
        assert folder.exists()
    thread.join(30)
    assert left() == []


def test_a_disk_that_lets_nothing_be_removed_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(GgufVlError, match="cannot be removed: Read-only"):
        remove(plan_removal("mine:f16"))
