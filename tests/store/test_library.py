"""What is on disk is found, paired and named; a broken entry hides no other."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gguf_vl import paths
from gguf_vl.errors import GgufVlError, InvalidModelFile, ModelNotFound
from gguf_vl.store.library import Broken, LocalModel, find, folder_meant, installed, open_file, scan
from gguf_vl.store.remove import plan_removals
from tests.store.other_programs import relabelled

TEXT = paths.pocket_dir() / "pocket-F16.gguf"
PROJECTOR = paths.pocket_dir() / "mmproj-pocket-F16.gguf"


def folder(name: str, *files: Path) -> Path:
    made = paths.models_dir() / name
    made.mkdir(parents=True)
    for file in files:
        shutil.copy(file, made)
    return made


def test_the_embedded_model_is_always_there() -> None:
    [pocket] = scan()
    assert isinstance(pocket, LocalModel)
    assert (pocket.name, pocket.model, pocket.mmproj) == ("pocket", TEXT, PROJECTOR)
    assert pocket.n_bytes == TEXT.stat().st_size + PROJECTOR.stat().st_size
    assert pocket.n_bytes <= 8_000_000
    assert (pocket.text.architecture, pocket.text.quantisation) == ("qwen3vl", "F16")


def test_folders_of_models_are_found_by_name_whatever_its_case() -> None:
    folder("Mine", TEXT, PROJECTOR)
    found = find("mine")
    assert found
    assert (found.name, found.model) == ("mine", paths.models_dir() / "Mine" / TEXT.name)
    assert find("yours") is None


def test_broken_folders_are_listed_beside_the_others() -> None:
    folder("a-truncated")
    (paths.models_dir() / "a-truncated" / "model.gguf").write_bytes(TEXT.read_bytes()[:5000])
    folder("b-empty")
    folder("c-whole", TEXT)
    (paths.models_dir() / "stray-file").write_text("not a folder")
    entries = scan()
    assert [entry.name for entry in entries] == ["pocket", "a-truncated", "b-empty", "c-whole"]
    assert [isinstance(entry, Broken) for entry in entries] == [False, True, True, False]
    with pytest.raises(InvalidModelFile, match="0 text models"):
        find("b-empty")


@pytest.mark.parametrize(
    "look",
    [scan, lambda: find("mine"), lambda: folder_meant("mine"), lambda: plan_removals(["mine"])],
    ids=["scan", "find", "folder_meant", "plan_removals"],
)
def test_a_model_that_an_interrupted_swap_put_aside_is_there_for_whoever_looks(look: Callable[[], object]) -> None:
    mine = folder("mine", TEXT)
    mine.rename(mine.with_name(".replaced-01234567-mine"))
    look()
    assert (mine / TEXT.name).exists()
    folder(".replaced-89abcdef-mine", TEXT)
    look()
    assert [path for path in mine.parent.iterdir() if path.suffix != ".lock"] == [mine]


def test_a_folder_that_may_not_be_listed_is_said_to_be_so(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = folder("closed", TEXT)
    listed = Path.iterdir

    def iterdir(self: Path) -> Iterator[Path]:
        if self == closed:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return listed(self)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert [type(entry) for entry in scan()] == [LocalModel, Broken]
    for asked in (lambda: find("closed"), lambda: open_file(closed / TEXT.name)):
        with pytest.raises(GgufVlError, match=f"{closed} cannot be read: Permission denied"):
            asked()


def test_a_file_takes_the_projector_beside_it_with_the_name_most_like_its_own(tmp_path: Path) -> None:
    shutil.copy(TEXT, tmp_path / "some-model-F16.gguf")
    shutil.copy(PROJECTOR, tmp_path / "mmproj-other.gguf")
    shutil.copy(PROJECTOR, tmp_path / "mmproj-some-model-F16.gguf")
    (tmp_path / "mmproj-some-model-F16-broken.gguf").write_bytes(b"GGUF")
    model = open_file(tmp_path / "some-model-F16.gguf")
    assert model.mmproj == tmp_path / "mmproj-some-model-F16.gguf"
    assert model.name == "some-model-F16"


def test_a_file_without_projector_reads_text_only(tmp_path: Path) -> None:
    shutil.copy(TEXT, tmp_path)
    assert open_file(tmp_path / TEXT.name).mmproj is None
    assert open_file(tmp_path / TEXT.name, mmproj=PROJECTOR).mmproj == PROJECTOR


def test_what_is_not_a_text_model_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="missing"):
        open_file(tmp_path / "missing.gguf")
    with pytest.raises(ModelNotFound, match="missing"):
        open_file(TEXT, mmproj=tmp_path / "missing.gguf")
    with pytest.raises(InvalidModelFile, match="is a projector"):
        open_file(PROJECTOR)
    with pytest.raises(InvalidModelFile):
        open_file(TEXT, mmproj=TEXT)


def test_an_installed_model_is_found_by_its_name_and_by_the_catalogues_for_its_file() -> None:
    folder("2b", TEXT)
    (paths.models_dir() / "2b" / TEXT.name).rename(paths.models_dir() / "2b" / "Qwen3VL-2B-Instruct-Q8_0.gguf")
    assert installed("2B").name == installed("2b:q8_0").name == "2b"
    assert installed("pocket:f16").name == "pocket"
    for name, what in (
        ("2b:q4_k_m", "2b is here as Qwen3VL-2B-Instruct-Q8_0.gguf, not on this machine as .*Q4_K_M"),
        ("8b", "8b is not on this machine"),
        ("9b", "no model '9b'"),
    ):
        with pytest.raises(ModelNotFound, match=what):
            installed(name)


def test_a_projector_of_the_other_training_is_neither_taken_nor_accepted(tmp_path: Path) -> None:
    text = relabelled(TEXT, tmp_path / "model.gguf", {"general.finetune": "Instruct"})
    other = relabelled(PROJECTOR, tmp_path / "mmproj-model.gguf", {"general.finetune": "Thinking"})
    assert open_file(text).mmproj is None
    with pytest.raises(InvalidModelFile, match="of a Thinking model, and the model is Instruct"):
        open_file(text, mmproj=other)
