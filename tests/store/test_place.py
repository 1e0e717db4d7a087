"""A model has one name, one folder and one writer at a time, and is replaced as a whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from gguf_vl import catalogue, paths
from gguf_vl.catalogue import File
from gguf_vl.errors import GgufVlError, InvalidModelFile, UsageError
from gguf_vl.store import place
from gguf_vl.store.place import check_name, folder_name, keep, locked, name_from, staging, sweep, take_over
from gguf_vl.store.progress import Silent
from gguf_vl.store.receipt import FileRecord, Receipt, now, read_receipt, write_receipt

SILENT = Silent()


def record(name: str, content: str = "weights") -> FileRecord:
    return FileRecord(name, len(content), "0" * 64, "none", now())


def filled(folder: Path, *files: str, name: str = "mine", content: str = "weights") -> Receipt:
    """A folder with these files in it, and the receipt that fits them, not yet written."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        (folder / file).write_text(content)
    first, *more = [record(file, content) for file in files]
    return Receipt(name, "a test", first, more[0] if more else None)


def install(*files: str, name: str = "mine", content: str = "weights") -> Path:
    with staging() as made, locked(name, SILENT):
        return take_over(made / "new", name, filled(made / "new", *files, name=name, content=content))


def visible() -> list[str]:
    return sorted(path.name for path in paths.models_dir().iterdir() if not path.name.endswith(".lock"))


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.name != "receipt.json"}


# --- names ---


REFUSED = r"|.|..|...gguf|.hidden|../up|a/b|a\b|C:\x|x.gguf|x.GGUF|tail-|tail.|:x|a b|ü|con|NUL|aux.q8|com1.x:q8|lpt9"


@pytest.mark.parametrize("name", [*REFUSED.split("|"), "n" * 101, "a\x1b[31mb", "a\nb"])
def test_a_name_that_no_system_should_make_a_folder_of_is_wrong_usage(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_name(name)
    assert caught.value.what.isprintable()


@pytest.mark.parametrize("name", ["2b", "8b:q8_0", "My.Model-7_x", "console", "c"])
def test_an_ordinary_name_will_do(name: str) -> None:
    check_name(name)


@given(st.text(max_size=200) | st.sampled_from(["2b", "8b-q8_0", "CON", "x.gguf.gguf", "pocket", "...gguf", "\x1b[2J"]))
def test_any_text_becomes_a_name_that_will_do_and_means_no_model_of_the_catalogue(label: str) -> None:
    name = name_from(label)
    check_name(name)
    assert folder_name(name) not in place.reserved()


def test_the_catalogues_names_are_reserved() -> None:
    assert {"2b", "8b", "8b-q8_0", "pocket"} <= place.reserved()
    assert name_from("2b") == "local-2b"


def test_a_folder_is_found_whatever_its_case_and_hidden_ones_never() -> None:
    (paths.models_dir() / "Mine").mkdir(parents=True)
    (paths.models_dir() / ".pull-x-01234567").mkdir()
    assert place.folder_of("mINE") == paths.models_dir() / "Mine"
    assert place.folder_of(".pull-x-01234567") is None
    assert place.folder_of("POCKET") == paths.pocket_dir()


PUBLISHED = catalogue.find("8b:q8_0")[1]
OTHER = File("weights.gguf", 7, "0" * 64)


@pytest.mark.parametrize("name", ["8b", "8B", "8b:q8_0", "8B-Q8_0", "8b:q4_k_m", "2b-thinking", "pocket", "POCKET"])
@pytest.mark.parametrize("source", [None, "some/one"])
def test_a_name_that_means_another_model_is_for_no_other(name: str, source: str | None) -> None:
    with pytest.raises(UsageError) as caught:
        place.check_may_have(name, [OTHER], source=source, fix="Do this.")
    assert caught.value.fix == "Do this."


def test_a_name_of_the_catalogue_is_for_its_own_files() -> None:
    place.check_may_have("8b:q8_0", [PUBLISHED.file, PUBLISHED.mmproj], fix="")
    place.check_may_have("8B-Q8_0", [replace(PUBLISHED.file, name="renamed.gguf")], fix="")
    unhashed = catalogue.find("2b-thinking")[1].file
    assert unhashed.sha256 is None
    place.check_may_have("2b-thinking", [replace(unhashed, name=unhashed.name.upper(), sha256="0" * 64)], fix="")
    for name, files in (("8b", [PUBLISHED.file]), ("8b:q8_0", [PUBLISHED.file, OTHER])):
        with pytest.raises(UsageError, match="none of the files that the catalogue calls"):
            place.check_may_have(name, files, fix="")


def test_a_model_is_replaced_only_from_its_own_source_or_by_itself_whatever_the_letters() -> None:
    install("a.gguf")  # from "a test"
    (paths.models_dir() / "own").mkdir()
    new = File("new.gguf", 9, "1" * 64)
    for name in ("mine", "MINE"):
        with pytest.raises(UsageError, match="here already"):
            place.check_may_have(name, [OTHER], fix="")
        with pytest.raises(UsageError, match="mine is here already, from a test"):
            place.check_may_have(name, [new], source="some/one", fix="")
        place.check_may_have(name, [OTHER], source="some/one", fix="")
    receipt = read_receipt(paths.models_dir() / "mine")
    assert receipt
    write_receipt(paths.models_dir() / "mine", replace(receipt, source="some/one on a hub (revision 1)"))
    place.check_may_have("Mine", [new], source="some/one", fix="")
    with pytest.raises(GgufVlError, match="has not made it"):
        place.check_may_have("Own", [new], source="some/one", fix="")
    place.check_may_have("yours", [new], fix="")


# --- one at a time ---


def test_a_second_writer_waits_and_says_so() -> None:
    waiting, order = threading.Event(), list[str]()

    class Waiting(Silent):
        def note(self, line: str) -> None:
            assert "waiting" in line
            assert "Mine" in line
            waiting.set()

    def second() -> None:
        with locked("Mine", Waiting()):
            order.append("second")

    thread = threading.Thread(target=second)
    with locked("mine", SILENT):
        thread.start()
        assert waiting.wait(30)
        order.append("first")
    thread.join(30)
    assert order == ["first", "second"]


def test_who_does_not_want_to_wait_is_told() -> None:
    paths.models_dir().mkdir(parents=True)
    with FileLock(paths.models_dir() / ".8b-q8_0.lock"), pytest.raises(GgufVlError, match="at work on 8b:q8_0"):
        locked("8b:q8_0", SILENT, wait=False).__enter__()
    with locked("8b:q8_0", SILENT, wait=False):
        pass


@pytest.mark.parametrize(
    ("there", "why"),
    [(None, "it is a file, and no folder"), ("/no/such/disk", "it is a link to /no/such/disk, and no folder")],
)
def test_a_lock_that_cannot_be_made_is_a_failure_with_a_way_out(home: Path, there: str | None, why: str) -> None:
    if there:
        (home / "models").symlink_to(there)
    else:
        (home / "models").write_text("in the way")
    for attempt in (lambda: locked("mine", SILENT), staging):
        with pytest.raises(GgufVlError, match=f"models cannot be written: {why}") as caught, attempt():
            pass
        assert "GGUF_VL_HOME" in caught.value.fix


# --- taking over ---


def test_a_filled_folder_becomes_the_model() -> None:
    folder = install("a.gguf", "mmproj-a.gguf", name="mine:q8_0")
    assert folder == paths.models_dir() / "mine-q8_0"
    assert contents(folder) == {"a.gguf": "weights", "mmproj-a.gguf": "weights"}
    receipt = read_receipt(folder)
    assert receipt
    assert receipt.name == "mine:q8_0"
    assert visible() == ["mine-q8_0"]


def test_a_new_model_replaces_the_old_one_as_a_whole_and_keeps_what_a_person_put_there() -> None:
    folder = install("old.gguf", "mmproj-old.gguf")
    (folder / "notes.txt").write_text("mine")
    assert install("new.gguf", content="better", name="Mine") == paths.models_dir() / "Mine"
    assert visible() == ["Mine"]
    assert contents(paths.models_dir() / "Mine") == {"new.gguf": "better", "notes.txt": "mine"}


def test_a_file_that_another_model_uses_where_it_is_stays_there() -> None:
    folder = install("old.gguf")
    other = paths.models_dir() / "other"
    other.mkdir()
    write_receipt(other, Receipt("other", "a test", record(str(folder / "old.gguf"))))
    install("new.gguf", content="better")
    assert (folder / "old.gguf").read_text() == "weights"


@pytest.mark.parametrize("links", [True, False])
def test_what_is_the_same_in_the_new_model_is_kept(links: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = install("text.gguf", "mmproj.gguf")
    inode = (folder / "mmproj.gguf").stat().st_ino

    if not links:
        monkeypatch.setattr(os, "link", refused)
    with staging() as made, locked("mine", SILENT):
        receipt = filled(made / "new", "better.gguf", content="better")
        kept = keep(record("mmproj.gguf"), folder, made / "new")
        take_over(made / "new", "mine", Receipt("mine", "a test", receipt.model, kept))
    assert contents(folder) == {"better.gguf": "better", "mmproj.gguf": "weights"}
    assert (folder / "mmproj.gguf").stat().st_ino == inode


@pytest.mark.parametrize("links", [True, False])
def test_a_swap_that_fails_while_it_moves_leaves_the_old_model_whole(
    links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = install("text.gguf", "mmproj.gguf")
    if not links:
        monkeypatch.setattr(os, "link", refused)
    with staging() as made, locked("mine", SILENT):
        new = filled(made / "new", "better.gguf", content="better")
        kept = keep(record("mmproj.gguf"), folder, made / "new")
        missing = Receipt("mine", "a test", replace(new.model, path="gone.gguf"), kept)
        assert contents(folder) == {"text.gguf": "weights", "mmproj.gguf": "weights"}
        with pytest.raises(GgufVlError, match="cannot be written"):
            take_over(made / "new", "mine", missing)
        moved = replace(new, model=kept, mmproj=missing.model)
        with pytest.raises(GgufVlError, match="cannot be written"):
            take_over(made / "new", "mine", moved)
        assert contents(folder) == {"text.gguf": "weights", "mmproj.gguf": "weights"}
    assert visible() == ["mine"]


def refused(*_: object) -> None:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def test_a_damaged_file_and_one_of_another_program_are_not_linked_in(tmp_path: Path) -> None:
    folder = install("text.gguf")
    made = tmp_path / "made"
    made.mkdir()
    with pytest.raises(InvalidModelFile, match="damaged"):
        keep(record("text.gguf", "other weights"), folder, made)
    with pytest.raises(GgufVlError, match="cannot be read"):
        keep(record("gone.gguf"), folder, made)
    theirs = record(str(tmp_path / "theirs.gguf"))
    assert keep(theirs, folder, made) == theirs
    assert list(made.iterdir()) == []


@pytest.mark.parametrize("what", ["a link", "a dangling link", "a file", "an own folder", "a broken receipt"])
def test_what_is_not_ours_is_not_replaced(what: str, tmp_path: Path) -> None:
    paths.models_dir().mkdir(parents=True)
    there = paths.models_dir() / "mine"
    if what == "a link":
        filled(tmp_path / "elsewhere", "a.gguf")
        there.symlink_to(tmp_path / "elsewhere")
    elif what == "a dangling link":
        there.symlink_to(tmp_path / "nowhere")
    elif what == "a file":
        there.touch()
    else:
        filled(there, "a.gguf")
        if what == "a broken receipt":
            (there / "receipt.json").write_text("{")
    before = there.lstat().st_mtime_ns
    with pytest.raises(GgufVlError) as caught:
        place.replaceable("mine")
    assert str(there) in caught.value.what
    with pytest.raises(GgufVlError):
        install("new.gguf")
    assert there.lstat().st_mtime_ns == before
    assert visible() == ["mine"]


def test_a_failed_swap_leaves_the_old_model(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = install("old.gguf")
    real = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", failing)
        with pytest.raises(GgufVlError, match="cannot be written"):
            install("new.gguf")
    assert contents(folder) == {"old.gguf": "weights"}
    assert visible() == ["mine"]


SWAPPING = """
import os, signal, sys
from pathlib import Path
from gguf_vl.store.progress import Silent
from tests.store import test_place

real, left = Path.rename, int(sys.argv[1])
def counting(self, target):
    global left
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    return real(self, target)
Path.rename = counting
test_place.install("new.gguf", content="better")
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
@pytest.mark.parametrize("renames", [0, 1, 2, 3, 4])
def test_killed_at_any_rename_all_of_the_old_or_all_of_the_new_model_is_there(renames: int, home: Path) -> None:
    folder = install("old.gguf")
    (folder / "notes.txt").write_text("mine")
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", SWAPPING, str(renames)], env=os.environ | {"PYTHONPATH": str(root)}, timeout=60
    )
    assert done.returncode == (-signal.SIGKILL if renames < 4 else 0)
    sweep()
    assert visible() == ["mine"]
    new = {"new.gguf": "better", "notes.txt": "mine"}
    assert contents(folder) == (new if renames > 1 else {"old.gguf": "weights", "notes.txt": "mine"})


KEEPING = SWAPPING.replace(
    'test_place.install("new.gguf", content="better")',
    """
def refused(*_):
    raise OSError(1, "no links here")
os.link = refused
with test_place.staging() as made, test_place.locked("mine", test_place.SILENT):
    new = test_place.filled(made / "new", "new.gguf", content="better")
    kept = test_place.keep(test_place.record("text.gguf"), test_place.paths.models_dir() / "mine", made / "new")
    test_place.take_over(made / "new", "mine", test_place.Receipt("mine", "a test", kept, new.model))
""",
)


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
@pytest.mark.parametrize("renames", range(6))
def test_killed_while_it_moves_what_it_keeps_no_file_is_lost(renames: int, home: Path) -> None:
    folder = install("text.gguf", "old.gguf")
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", KEEPING, str(renames)], env=os.environ | {"PYTHONPATH": str(root)}, timeout=60
    )
    assert done.returncode == (-signal.SIGKILL if renames < 4 else 0)
    sweep()
    new = {"text.gguf": "weights", "new.gguf": "better"}
    assert contents(folder) == (new if renames > 1 else {"text.gguf": "weights", "old.gguf": "weights"})
    assert visible() == ["mine"]


# --- what is left over ---


def test_what_dead_processes_left_is_swept_and_what_is_in_use_or_may_be_resumed_is_not() -> None:
    models = paths.models_dir()
    for name in (".installing-dead", ".removing-x", ".installing-alive", ".pull-x-01234567", ".replaced-01234567-busy"):
        filled(models / name, "weights.gguf")
    with FileLock(models / ".installing-alive.lock"), FileLock(models / ".busy.lock"), locked("another", SILENT):
        assert visible() == [".installing-alive", ".pull-x-01234567", ".replaced-01234567-busy"]
    sweep()
    assert visible() == [".pull-x-01234567", "busy"]


@pytest.mark.parametrize("ending", [lambda: None, lambda: [][0]])
def test_a_staging_folder_is_gone_when_its_work_ends(ending: Callable[[], None]) -> None:
    try:
        with staging() as made:
            filled(made / "new", "a.gguf")
            sweep()
            assert made.exists()
            ending()
    except IndexError:
        pass
    assert list(paths.models_dir().iterdir()) == []


def test_interrupted_pulls_are_known_by_name_and_the_size_of_what_is_not_wrong() -> None:
    models = paths.models_dir()
    assert place.unfinished() == []
    filled(models / ".pull-8b-q8_0-0123abcd", "a.part", "b.part", "c.gguf.wrong")
    filled(models / ".pull-tiny-01234567", "c.part")
    filled(models / ".pull-nothing-of-ours", "c.part")
    shutil.rmtree(models / ".pull-tiny-01234567")
    (models / ".pull-tiny-01234567").mkdir()
    assert [(each.name, each.n_bytes) for each in place.unfinished()] == [("8b:q8_0", 14), ("tiny", 0)]
