"""A bundle is a plain tar that follows from its models alone, streamed, and continued after an interrupt."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from pathlib import Path

import pytest
from filelock import FileLock

from gguf_vl import paths
from gguf_vl.errors import (
    GgufVlError,
    InvalidModelFile,
    MissingOrInvalid,
    ModelNotFound,
    UsageError,
    VerificationFailed,
)
from gguf_vl.store.bundle import layout
from gguf_vl.store.bundle.create import create
from gguf_vl.store.bundle.reading import verify
from gguf_vl.store.progress import Silent
from gguf_vl.store.receipt import FileRecord, Receipt, now, write_receipt
from tests.store.bundles import PROJECTOR, TEXT, Interrupting, Watching, disk_use, install_model

SILENT = Silent()


def both(out: Path, progress: Silent = SILENT, split: int | None = None) -> bytes:
    """The bytes of a bundle of the models `a` and `b`."""
    return b"".join(file.read_bytes() for file in create(["a", "b"], out, progress, split=split).files)


@pytest.fixture
def models() -> None:
    install_model("a", TEXT, PROJECTOR)
    install_model("b")


def test_it_is_a_plain_tar_that_begins_with_what_a_person_reads(models: None, tmp_path: Path) -> None:
    out = tmp_path / "both.tar"
    made = create(["a", "b"], out, SILENT)
    assert made.files == (out,)
    assert made.n_bytes == out.stat().st_size
    with tarfile.open(out, "r:") as archive:
        assert archive.getnames() == [
            "README.txt",
            "manifest.json",
            "models/a/pocket-F16.gguf",
            "models/a/mmproj-pocket-F16.gguf",
            "models/b/pocket-F16.gguf",
        ]
        assert all(member.isreg() and member.uid == 0 and not member.uname for member in archive)
        weights = archive.extractfile("models/b/pocket-F16.gguf")
        readme = archive.extractfile("README.txt")
        assert weights
        assert readme
        assert weights.read() == TEXT.read_bytes()
        assert b"gguf-vl bundle install both.tar" in readme.read()


def test_the_same_models_make_the_same_bytes(models: None, tmp_path: Path) -> None:
    (tmp_path / "later").mkdir()
    assert both(tmp_path / "x.tar") == both(tmp_path / "later" / "x.tar")


def test_it_needs_no_other_disk_than_the_tar(models: None, tmp_path: Path, home: Path) -> None:
    most = []
    before = disk_use(home)
    size = len(both(tmp_path / "x.tar", Watching(lambda done: most.append(disk_use(tmp_path) + disk_use(home)))))
    assert max(most) - before <= size


def test_names_too_long_for_an_old_tar_and_files_too_large_for_one_are_read_by_others(tmp_path: Path) -> None:
    name = "a" * 100
    install_model(name)
    out = tmp_path / "x.tar"
    create([name], out, SILENT)
    with tarfile.open(out) as archive:
        assert archive.getnames()[-1] == f"models/{name}/pocket-F16.gguf"
    assert verify(out, SILENT).manifest.models[0].name == name
    announced = tarfile.TarInfo.frombuf(layout.header("models/x/y.gguf", 10 << 30), "utf-8", "strict")
    assert (announced.size, announced.name) == (10 << 30, "models/x/y.gguf")


def test_what_the_receipt_says_goes_along_and_a_file_without_one_is_hashed(tmp_path: Path) -> None:
    install_model("known")
    own = paths.models_dir() / "own"
    own.mkdir()
    shutil.copy(TEXT, own)
    made = create(["known", "OWN", "pocket"], tmp_path / "x.tar", SILENT).manifest.models
    assert [model.name for model in made] == ["known", "own", "pocket"]
    assert [model.model.promised_by for model in made] == ["hub", "none", "none"]
    assert made[0].source == "hf:somebody/something"
    assert made[2].title == "pocket, the embedded model"
    assert {model.model.sha256 for model in made} == {made[0].model.sha256}


def test_files_that_stay_with_another_program_are_packed_too(tmp_path: Path) -> None:
    elsewhere = tmp_path / "lmstudio" / "weights.gguf"
    elsewhere.parent.mkdir()
    shutil.copy(TEXT, elsewhere)
    made = verify(create(["pocket"], tmp_path / "p.tar", SILENT).files[0], SILENT).manifest.models[0]
    folder = paths.models_dir() / "there"
    folder.mkdir(parents=True)
    record = FileRecord(str(elsewhere), made.model.size, made.model.sha256, "none", now())
    write_receipt(folder, Receipt("there", "LM Studio", record))
    packed = create(["there"], tmp_path / "x.tar", SILENT).manifest.models[0]
    assert (packed.model.name, packed.model.sha256) == ("weights.gguf", made.model.sha256)


@pytest.mark.parametrize("place", [1, 3_000_000, 5_000_000, 9_000_000])
@pytest.mark.parametrize("split", [None, 2_000_000])
def test_an_interrupted_bundle_is_continued(models: None, tmp_path: Path, place: int, split: int | None) -> None:
    whole = both(tmp_path / "x.tar", split=split)
    again = tmp_path / "again"
    again.mkdir()
    with pytest.raises(KeyboardInterrupt):
        both(again / "x.tar", Interrupting(place), split)
    assert {path.suffix for path in again.iterdir()} == {".part"}
    written: list[int] = []
    watching = Watching(written.append)
    assert both(again / "x.tar", watching, split) == whole
    assert ("going on" in " ".join(watching.notes)) == (place > 1)
    assert not list(again.glob("*.part"))


def test_what_is_complete_is_not_packed_again(models: None, tmp_path: Path) -> None:
    out = tmp_path / "x.tar"
    with pytest.raises(KeyboardInterrupt):
        both(out, Interrupting(9_000_000))
    part = tmp_path / "x.tar.part"
    inode, size = part.stat().st_ino, part.stat().st_size
    lengths: list[int] = []
    both(out, Watching(lambda done: lengths.append(part.stat().st_size)))
    assert size > 7_800_000
    assert min(lengths) > 7_700_000
    assert out.stat().st_ino == inode


def test_what_was_left_is_believed_only_as_far_as_it_is_right(models: None, tmp_path: Path) -> None:
    whole = both(tmp_path / "x.tar")
    for number, left in enumerate((whole[:4_000_000] + b"?" + whole[4_000_001:8_000_000], b"junk", b"", whole + whole)):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "x.tar.part").write_bytes(left)
        assert both(folder / "x.tar") == whole


def test_what_is_left_of_another_bundle_is_said_to_be_begun_anew(models: None, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        both(tmp_path / "x.tar", Interrupting(3_000_000))
    watching = Watching()
    create(["pocket"], tmp_path / "x.tar", watching)
    assert "packing anew" in " ".join(watching.notes)


def test_what_was_split_otherwise_is_begun_anew(models: None, tmp_path: Path) -> None:
    whole = both(tmp_path / "x.tar", split=1_500_000)
    for number, earlier in enumerate((None, 1_000_000, 4_000_000)):
        out = tmp_path / str(number) / "x.tar"
        out.parent.mkdir()
        with pytest.raises(KeyboardInterrupt):
            both(out, Interrupting(9_000_000), earlier)
        assert both(out, split=1_500_000) == whole
        assert not list(out.parent.glob("*.part"))


def test_parts_are_plain_slices(models: None, tmp_path: Path) -> None:
    parts = create(["a", "b"], tmp_path / "x.tar", SILENT, split=4_000_000).files
    assert [part.name for part in parts] == ["x.tar.001", "x.tar.002", "x.tar.003"]
    assert [part.stat().st_size for part in parts[:2]] == [4_000_000, 4_000_000]
    with tarfile.open(fileobj=io.BytesIO(b"".join(part.read_bytes() for part in parts))) as archive:
        assert len(archive.getnames()) == 5


def test_a_bundle_whose_parts_had_begun_to_get_their_names_is_finished(models: None, tmp_path: Path) -> None:
    out = tmp_path / "x.tar"
    whole = both(out, split=4_000_000)
    (tmp_path / "x.tar.001").rename(tmp_path / "x.tar.001.part")
    (tmp_path / "x.tar.002").rename(tmp_path / "x.tar.002.part")
    with pytest.raises(MissingOrInvalid, match="not finished"):
        verify(out, SILENT)
    assert both(out, split=4_000_000) == whole


@pytest.mark.parametrize("taken", ["x.tar.002", "x.tar.003", "x.tar.002.part", "x.tar.999"])
def test_parts_of_somebody_elses_are_left_alone(tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).write_bytes(b"theirs")
    with pytest.raises(UsageError, match=rf"{taken} is there already"):
        create(["pocket"], tmp_path / "x.tar", SILENT, split=4_000_000)
    create(["pocket"], tmp_path / "x.tar", SILENT)
    assert (tmp_path / taken).read_bytes() == b"theirs"


@pytest.mark.parametrize("left", [b"", b"old", "another bundle's"], ids=["nothing", "something", "another bundle's"])
def test_parts_of_somebody_elses_are_left_alone_also_beside_an_unfinished_one(
    models: None, tmp_path: Path, left: bytes | str
) -> None:
    if isinstance(left, str):
        with pytest.raises(KeyboardInterrupt):
            both(tmp_path / "x.tar", Interrupting(3_000_000), 4_000_000)
    else:
        (tmp_path / "x.tar.001.part").write_bytes(left)
    for number in ("002", "003"):
        (tmp_path / f"x.tar.{number}").write_bytes(b"theirs")
    with pytest.raises(UsageError, match=r"x\.tar\.002 is there already"):
        create(["pocket"], tmp_path / "x.tar", SILENT, split=4_000_000)
    create(["pocket"], tmp_path / "x.tar", SILENT)
    for number in ("002", "003"):
        assert (tmp_path / f"x.tar.{number}").read_bytes() == b"theirs"


def test_weights_that_are_not_what_their_receipt_says_are_not_packed(tmp_path: Path) -> None:
    folder = install_model("a")
    with (folder / TEXT.name).open("r+b") as stream:
        stream.seek(-10, os.SEEK_END)
        stream.write(b"?")
    with pytest.raises(VerificationFailed, match=r"pocket-F16\.gguf is not what"):
        create(["a"], tmp_path / "x.tar", SILENT)
    assert not (tmp_path / "x.tar").exists()


def test_a_catalogue_name_means_the_file_that_the_catalogue_has(tmp_path: Path) -> None:
    assert create(["pocket:f16"], tmp_path / "x.tar", SILENT).manifest.models[0].name == "pocket"


def test_what_cannot_be_packed_is_said_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="2b is not on this machine"):
        create(["2b"], tmp_path / "x.tar", SILENT)
    with pytest.raises(ModelNotFound, match="catalogue"):
        create(["2c"], tmp_path / "x.tar", SILENT)
    install_model("a")
    (paths.models_dir() / "a").rename(paths.models_dir() / "a\a")
    os.remove(paths.models_dir() / "a\a" / "receipt.json")
    with pytest.raises(InvalidModelFile, match="every system"):
        create(["a\a"], tmp_path / "x.tar", SILENT)
    with pytest.raises(MissingOrInvalid, match="no folder"):
        create(["pocket"], tmp_path / "nowhere" / "x.tar", SILENT)
    with pytest.raises(UsageError, match="too small"):
        create(["pocket"], tmp_path / "x.tar", SILENT, split=1000)
    assert list(tmp_path.iterdir()) == []
    for taken in ("x.tar", "x.tar.001"):
        (tmp_path / taken).touch()
        with pytest.raises(UsageError, match="there already"):
            create(["pocket"], tmp_path / "x.tar", SILENT)
        os.remove(tmp_path / taken)


def test_a_disk_that_is_too_small_is_told_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(8, 8, 1_000_000))
    with pytest.raises(GgufVlError, match=r"7\.8 MB are to come"):
        create(["pocket"], tmp_path / "x.tar", SILENT)
    assert list(tmp_path.iterdir()) == []


def test_a_home_that_cannot_be_written_is_told(tmp_path: Path, home: Path) -> None:
    shutil.rmtree(home / "cache")
    (home / "cache").touch()
    with pytest.raises(GgufVlError, match=r"cache.* cannot be written") as caught:
        create(["pocket"], tmp_path / "x.tar", SILENT)
    assert "GGUF_VL_HOME" in caught.value.fix
    assert list(tmp_path.iterdir()) == []


def test_two_do_not_pack_the_same_bundle(tmp_path: Path) -> None:
    def second(done: int) -> None:
        with pytest.raises(GgufVlError, match="Another gguf-vl is packing"):
            create(["pocket"], tmp_path / "x.tar", SILENT)

    create(["pocket"], tmp_path / "x.tar", Watching(second))
    assert FileLock(next((paths.cache_dir() / "bundle").glob("*.lock"))).acquire(timeout=0)
