"""Good files: what the header says is what the `gguf` package wrote and reads, and no weight is touched."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gguf_vl.errors import InvalidModelFile
from gguf_vl.gguf import Array, read_header
from gguf_vl.gguf.quantisation import FILE_TYPES, TENSOR_TYPES
from gguf_vl.gguf.wire import WINDOW
from tests.gguf.gguf_files import MERGES, SIZES, VOCABULARY, Kind, Quant, qwen3vl_entries, qwen3vl_tensors, write

INTEGERS = {
    Kind.UINT8: (0, 2**8 - 1), Kind.INT8: (-(2**7), 2**7 - 1), Kind.UINT16: (0, 2**16 - 1),
    Kind.INT16: (-(2**15), 2**15 - 1), Kind.UINT32: (0, 2**32 - 1), Kind.INT32: (-(2**31), 2**31 - 1),
    Kind.UINT64: (0, 2**64 - 1), Kind.INT64: (-(2**63), 2**63 - 1),
}  # fmt: skip
SCALARS = {
    **{kind: st.integers(least, most) for kind, (least, most) in INTEGERS.items()},
    Kind.FLOAT32: st.floats(width=32),
    Kind.FLOAT64: st.floats(),
    Kind.BOOL: st.booleans(),
    Kind.STRING: st.text(max_size=40),
}
WRITABLE = sorted(TENSOR_TYPES.keys() & {int(quant) for quant in gguf.GGML_QUANT_SIZES} - {int(Quant.Q8_1)})


@st.composite
def entries(draw: st.DrawFn) -> dict[str, Any]:
    """Metadata of every kind, also arrays long enough to be left in the file."""
    drawn: dict[str, Any] = {}
    for key in draw(st.lists(st.text(min_size=1, max_size=20).map("x.".__add__), unique=True, max_size=8)):
        kind = draw(st.sampled_from(list(SCALARS)))
        if draw(st.booleans()):
            values = draw(st.lists(SCALARS[kind], min_size=1, max_size=5)) * draw(st.sampled_from([1, 1, 1500]))
            drawn[key] = (values, Kind.ARRAY, kind)
        else:
            drawn[key] = (draw(SCALARS[kind]), kind)
    if draw(st.booleans()):
        drawn["general.alignment"] = draw(st.sampled_from([1, 8, 32, 64, 4096]))
    return drawn


@st.composite
def tensors(draw: st.DrawFn) -> dict[str, tuple[tuple[int, ...], Quant]]:
    """Tensors of every type and one to four dimensions."""
    drawn = {}
    for name in draw(st.lists(st.text("abc.0123_é", min_size=1, max_size=30), unique=True, max_size=6)):
        quant = Quant(draw(st.sampled_from(WRITABLE)))
        rows = gguf.GGML_QUANT_SIZES[quant][0] * draw(st.integers(1, 3))
        drawn[name] = (rows, *draw(st.lists(st.integers(1, 4), max_size=3))), quant
    return drawn


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("drawn") / "model.gguf"


def same(ours: object, theirs: object) -> bool:
    """Equal, and a NaN is a NaN."""
    if isinstance(ours, float) and isinstance(theirs, float) and math.isnan(ours):
        return math.isnan(theirs)
    return type(ours) is type(theirs) and ours == theirs


@settings(max_examples=50)
@given(entries(), tensors(), st.booleans(), st.sampled_from([2, 3]))
def test_every_file_reads_as_the_gguf_package_reads_it(
    scratch: Path, entries: dict[str, Any], tensors: dict[str, Any], big_endian: bool, version: int
) -> None:
    write(scratch, "drawn", entries, tensors, big_endian=big_endian)
    with scratch.open("r+b") as file:
        file.seek(4)
        file.write(version.to_bytes(4, "big" if big_endian else "little"))

    header, oracle = read_header(scratch), gguf.GGUFReader(scratch)

    assert (header.version, header.byte_order) == (version, "big" if big_endian else "little")
    assert header.file_size == scratch.stat().st_size
    fields = {key: field for key, field in oracle.fields.items() if not key.startswith("GGUF.")}
    assert header.metadata.keys() == fields.keys()
    for key, field in fields.items():
        value, expected = header.metadata[key], field.contents()
        if isinstance(value, Array):
            assert value.count == len(expected)
            assert all(map(same, value.values(), expected))
        else:
            assert same(value, expected)
    assert [(t.name, t.shape, t.type.name, t.offset, t.n_bytes) for t in header.tensors] == [
        (t.name, tuple(t.shape.tolist()), t.tensor_type.name, t.data_offset, t.n_bytes) for t in oracle.tensors
    ]


def test_the_type_tables_agree_with_the_gguf_package() -> None:
    # Q8_1 is never in a file; there the package counts 40 bytes and ggml itself 36.
    theirs = {int(q): (q.name, *sizes) for q, sizes in gguf.GGML_QUANT_SIZES.items() if q is not Quant.Q8_1}
    ours = {code: (t.name, t.block, t.block_bytes) for code, t in TENSOR_TYPES.items() if code in theirs}
    labels = {int(f): f.name.removeprefix("ALL_").removeprefix("MOSTLY_") for f in gguf.LlamaFileType if f < 1024}

    assert ours == theirs
    assert {code: label for code, label in FILE_TYPES.items() if code in labels} == labels


class CountingFile(io.FileIO):
    """A file that keeps the place and length of every read."""

    reads: list[tuple[int, int]]

    def read(self, size: int | None = -1, /) -> bytes:
        start, data = self.tell(), super().read(-1 if size is None else size) or b""
        self.reads.append((start, len(data)))
        return data


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[tuple[int, int]]]]:
    """All (place, bytes) that were read off .gguf files."""
    CountingFile.reads = []
    system_open = open

    def counting_open(path: Any, *args: Any, **options: Any) -> Any:
        is_model = isinstance(path, os.PathLike) and os.fspath(path).endswith(".gguf")
        return CountingFile(path) if is_model else system_open(path, *args, **options)

    monkeypatch.setattr("builtins.open", counting_open)
    return lambda: CountingFile.reads


@pytest.fixture(scope="module")
def real_8b(tmp_path_factory: pytest.TempPathFactory) -> Path:
    size = SIZES["8B"]
    return write(tmp_path_factory.mktemp("8b") / "8b.gguf", "qwen3vl", qwen3vl_entries(size), qwen3vl_tensors(size))


def test_no_weight_of_a_real_8b_is_read(real_8b: Path, reads: Callable[[], list[tuple[int, int]]]) -> None:
    header = read_header(real_8b)

    assert header.file_size > 5_000_000_000
    assert max(start + count for start, count in reads()) <= header.data_offset + WINDOW
    assert sum(count for _, count in reads()) <= header.data_offset + 2 * WINDOW


def test_the_vocabulary_stays_in_the_file_until_it_is_asked_for(
    real_8b: Path, reads: Callable[[], list[tuple[int, int]]]
) -> None:
    metadata = read_header(real_8b).metadata
    tokens, merges = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.merges"]
    assert isinstance(tokens, Array)
    assert isinstance(merges, Array)
    assert (tokens.count, merges.count) == (VOCABULARY, MERGES)
    n_reads = len(reads())

    values = tokens.values()

    assert len(reads()) > n_reads
    assert (len(values), values[0], values[-1]) == (VOCABULARY, "Ġtok0", f"Ġtok{VOCABULARY - 1}")
    assert merges.values()[-1] == f"Ġtok {MERGES - 1}"


def test_a_file_that_changed_since_is_not_mistaken_for_the_one_that_was_read(tmp_path: Path) -> None:
    many = {"x.words": [f"word {i}" for i in range(2000)]}
    path = write(tmp_path / "model.gguf", "drawn", many, {})
    words = read_header(path).metadata["x.words"]
    assert isinstance(words, Array)
    write(path, "drawn", {"x.words": [f"other {i}" for i in range(2000)]}, {})

    with pytest.raises(InvalidModelFile, match="changed while it was in use"):
        words.values()


def test_an_empty_array_and_a_scalar_tensor_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "model.gguf", "drawn", {"x.one": 1}, {"scalar": ((), Quant.F32)})
    header = read_header(path)

    assert [(t.shape, t.n_bytes) for t in header.tensors] == [((), 4)]
