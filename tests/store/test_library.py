"""What is on disk is found, paired and named; a broken entry hides no other."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gguf_vl import paths
from gguf_vl.errors import InvalidModelFile, ModelNotFound
from gguf_vl.store.library import Broken, LocalModel, find, open_file, scan

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
