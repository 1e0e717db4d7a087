"""What was encoded once is there again, in memory or on disk, and what is damaged is not."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gguf_vl.engine.kept.disk import Budgeted
from gguf_vl.engine.kept.embeddings import EmbeddingCache, EmbeddingFiles, fingerprint

ONE = np.arange(12, dtype=np.float32).reshape(3, 4)
N_BYTES = 48 + ONE.nbytes


def files(folder: Path, budget: int = 1 << 20, projector: str = "p") -> EmbeddingFiles:
    return EmbeddingFiles(Budgeted(folder, budget), projector)


def test_the_least_recently_used_leaves_memory_first_and_the_latest_always_stays() -> None:
    cache = EmbeddingCache(2 * ONE.nbytes)
    for digest in "ab":
        cache.put(digest, ONE)
    assert cache.get("a") is not None
    cache.put("c", ONE)
    assert cache.get("b") is None
    assert cache.n_bytes == 2 * ONE.nbytes
    cache.put("d", np.zeros((9, 9), np.float32))
    assert [cache.get(digest) is not None for digest in "acd"] == [False, False, True]


def test_what_has_left_memory_comes_back_from_disk_and_stays(tmp_path: Path) -> None:
    cache = EmbeddingCache(ONE.nbytes, files(tmp_path))
    cache.put("a", ONE)
    cache.put("b", ONE + 1)
    assert cache.get("a") is None
    found = cache.read("a", ONE.shape)
    assert found is not None
    assert np.array_equal(found, ONE)
    assert cache.get("a") is found
    assert EmbeddingCache(1, files(tmp_path)).read("b", ONE.shape) is not None


def test_embeddings_of_another_shape_are_none(tmp_path: Path) -> None:
    files(tmp_path).write("a", ONE)
    cache = EmbeddingCache(1 << 20, files(tmp_path))
    assert cache.read("a", (1, 12)) is None
    assert cache.get("a") is None


def test_another_projectors_embeddings_are_none_of_ours(tmp_path: Path) -> None:
    files(tmp_path).write("a", ONE)
    assert files(tmp_path, projector="other").read("a") is None


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, N_BYTES - 1), cut=st.booleans())
def test_a_damaged_file_is_not_read_and_not_kept(tmp_path: Path, place: int, cut: bool) -> None:
    kept = files(tmp_path)
    kept.write("a", ONE)
    [file] = tmp_path.iterdir()
    data = bytearray(file.read_bytes())
    assert len(data) == N_BYTES
    data[place] ^= 4
    file.write_bytes(data[:place] if cut else data)
    assert kept.read("a") is None
    assert not file.exists() or cut


def test_the_folder_never_holds_more_than_its_budget_and_what_was_read_stays(tmp_path: Path) -> None:
    kept = files(tmp_path, budget=3 * N_BYTES)
    for age, digest in enumerate("abc"):
        kept.write(digest, ONE)
        os.utime(kept._file(digest), (age, age))
    assert kept.read("a") is not None
    kept.write("d", ONE)
    assert [kept.read(digest) is not None for digest in "abcd"] == [True, False, True, True]
    kept.write("e", np.zeros((99, 99), np.float32))
    assert kept.read("e") is None


def test_a_folder_that_cannot_be_written_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    kept = files(tmp_path / "file" / "folder")
    kept.write("a", ONE)
    assert kept.read("a") is None


@pytest.mark.parametrize("size", [0, 5, 1 << 16, 3 << 20])
def test_a_file_is_known_by_its_content(tmp_path: Path, size: int) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(bytes(size))
    other.write_bytes(bytes(size))
    assert fingerprint(one) == fingerprint(other)
    other.write_bytes(bytes(size) + b"x")
    assert fingerprint(one) != fingerprint(other)
