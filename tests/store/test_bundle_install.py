"""The models of a bundle are installed all or not at all, once, and with no more disk than they take."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock

from gguf_vl import paths
from gguf_vl.errors import GgufVlError, InvalidModelFile, MissingOrInvalid, UsageError, VerificationFailed
from gguf_vl.store import library
from gguf_vl.store.bundle import contents as packing
from gguf_vl.store.bundle.create import create
from gguf_vl.store.bundle.install import install
from gguf_vl.store.bundle.reading import verify
from gguf_vl.store.progress import Silent
from gguf_vl.store.receipt import read_receipt
from tests.store.bundles import (
    PROJECTOR,
    TEXT,
    Interrupting,
    Watching,
    another_machine,
    contents,
    disk_use,
    install_model,
)

SILENT = Silent()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle of the models `a`, with a projector, and `b:q8_0`, without."""
    install_model("a", TEXT, PROJECTOR)
    install_model("b:q8_0")
    return create(["a", "b:q8_0"], tmp_path / "both.tar", SILENT).files[0]


@pytest.fixture
def models(bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """`models/` of a machine that has none, to which the bundle is carried."""
    return another_machine(monkeypatch, tmp_path / "other")


def visible(models: Path) -> list[str]:
    return sorted(path.name for path in models.iterdir() if not path.name.endswith(".lock"))


def test_what_was_packed_there_is_installed_here(bundle: Path, models: Path) -> None:
    done = install(bundle, SILENT)
    assert [(each.model.name, each.state) for each in done.outcomes] == [("a", "installed"), ("b:q8_0", "installed")]
    assert [each.folder for each in done.outcomes] == [models / "a", models / "b-q8_0"]
    assert visible(models) == ["a", "b-q8_0"]
    a, b = library.find("a"), library.find("b:q8_0")
    assert a
    assert b
    assert (a.model.read_bytes(), b.name, b.mmproj) == (TEXT.read_bytes(), "b:q8_0", None)
    assert a.mmproj
    assert a.mmproj.read_bytes() == PROJECTOR.read_bytes()
    assert a.receipt
    assert {file.promised_by for file in a.receipt.files} == {"catalogue"}  # they are pocket's
    assert a.receipt.source == "hf:somebody/something (bundle both.tar)"


def test_a_bundle_of_what_came_by_bundle_names_the_first_source(bundle: Path, models: Path, tmp_path: Path) -> None:
    install(bundle, SILENT)
    made = create(["a"], tmp_path / "next.tar", SILENT).manifest.models[0]
    assert (made.source, made.model.promised_by) == ("hf:somebody/something", "catalogue")


def test_installing_twice_is_harmless(bundle: Path, models: Path) -> None:
    install(bundle, SILENT)
    before = contents(models)
    assert [each.state for each in install(bundle, SILENT).outcomes] == ["already here", "already here"]
    assert contents(models) == before


def test_what_is_here_without_a_receipt_is_hashed_and_left_alone(bundle: Path, models: Path) -> None:
    (models / "A").mkdir(parents=True)
    shutil.copy(TEXT, models / "A")
    shutil.copy(PROJECTOR, models / "A")
    before = contents(models / "A")
    assert [each.state for each in install(bundle, SILENT).outcomes] == ["already here", "installed"]
    assert contents(models / "A") == before


@pytest.mark.parametrize("how", ["other weights", "no projector", "truncated", "empty", "broken receipt", "a file"])
def test_a_model_with_other_content_is_not_replaced(bundle: Path, models: Path, how: str) -> None:
    folder = install_model("a", *((TEXT,) if how == "no projector" else (TEXT, PROJECTOR)))
    if how == "other weights":
        os.remove(folder / "receipt.json")
        (folder / TEXT.name).write_bytes(TEXT.read_bytes() + b"\0")
    elif how == "truncated":
        (folder / TEXT.name).write_bytes(b"GGUF")
    elif how == "broken receipt":
        (folder / "receipt.json").write_text("{")
    elif how != "no projector":
        shutil.rmtree(folder)
        folder.touch() if how == "a file" else folder.mkdir()
    before = contents(models)
    with pytest.raises(UsageError, match="other files") as caught:
        install(bundle, SILENT)
    assert "gguf-vl rm a" in caught.value.fix
    assert contents(models) == before


def test_the_embedded_model_is_verified_and_left_where_it_is(tmp_path: Path) -> None:
    made = create(["pocket"], tmp_path / "p.tar", SILENT).files[0]
    [outcome] = install(made, SILENT).outcomes
    assert (outcome.state, outcome.folder) == ("embedded", paths.pocket_dir())
    assert not paths.models_dir().exists()


def test_parts_are_installed_by_their_first_or_their_common_name(models: Path, tmp_path: Path) -> None:
    parts = create(["pocket"], tmp_path / "p.tar", SILENT, split=3_000_000).files
    assert len(parts) == 3
    assert verify(tmp_path / "p.tar", SILENT).n_bytes == verify(parts[0], SILENT).n_bytes
    with pytest.raises(UsageError, match="later part"):
        verify(parts[1], SILENT)
    os.remove(parts[1])
    with pytest.raises(VerificationFailed, match=r"incomplete: it ends in models/pocket/pocket-F16\.gguf"):
        verify(parts[0], SILENT)
    os.remove(parts[0])
    with pytest.raises(MissingOrInvalid, match="no file"):
        verify(tmp_path / "p.tar", SILENT)


def test_no_model_is_on_the_disk_twice(bundle: Path, models: Path) -> None:
    most: list[int] = []
    done = install(bundle, Watching(lambda at: most.append(disk_use(models))))
    assert max(most) <= sum(each.model.n_bytes for each in done.outcomes)


@pytest.mark.parametrize("place", [1, 5_000_000, 10_000_000])
def test_an_interrupted_install_leaves_nothing(bundle: Path, models: Path, place: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        install(bundle, Interrupting(place))
    assert visible(models) == []
    install(bundle, SILENT)


def test_what_a_killed_install_left_is_removed_and_what_a_running_one_has_is_not(bundle: Path, models: Path) -> None:
    dead, alive = models / ".installing-dead", models / ".installing-alive"
    for folder in (dead, alive):
        folder.mkdir(parents=True)
        (folder / "weights.gguf").touch()
    with FileLock(models / ".installing-alive.lock"):
        install(bundle, SILENT)
    assert not dead.exists()
    assert (alive / "weights.gguf").exists()


def test_a_model_that_came_in_the_meantime_is_kept_and_the_others_are_not_installed(bundle: Path, models: Path) -> None:
    def look(done: int) -> None:
        if done > 8_000_000 and not (models / "b-q8_0").exists():
            (models / "b-q8_0").mkdir()
            (models / "b-q8_0" / "theirs").touch()

    with pytest.raises(GgufVlError, match="other files"):
        install(bundle, Watching(look))
    assert visible(models) == ["b-q8_0"]


def test_the_same_model_that_came_in_the_meantime_is_kept(bundle: Path, models: Path) -> None:
    def look(done: int) -> None:
        if done > 8_000_000 and not (models / "b-q8_0").exists():
            install_model("b:q8_0")

    install(bundle, Watching(look))
    receipt = read_receipt(models / "b-q8_0")
    assert receipt
    assert receipt.source == "hf:somebody/something"
    assert visible(models) == ["a", "b-q8_0"]


def test_a_disk_that_is_too_small_is_told_first(bundle: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(8, 8, 1_000_000))
    with pytest.raises(GgufVlError, match=r"models: 11\.\d MB are to come"):
        install(bundle, SILENT)
    assert not models.exists()


def test_a_bundle_of_something_that_is_no_model_is_refused(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = packing.packed

    def lying(name: str, progress: Silent) -> packing.Packed:
        found = real(name, progress)
        assert found.model.mmproj
        return replace(found, model=replace(found.model, model=found.model.mmproj, mmproj=None), files=found.files[1:])

    monkeypatch.setattr("gguf_vl.store.bundle.create.packed", lying)
    install_model("a", TEXT, PROJECTOR)
    made = create(["a"], tmp_path / "x.tar", SILENT).files[0]
    shutil.rmtree(models / "a")
    with pytest.raises(InvalidModelFile, match="is a projector"):
        install(made, SILENT)
    assert visible(models) == []
