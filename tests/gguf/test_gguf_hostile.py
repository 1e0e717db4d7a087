"""Foreign, truncated and malicious files: one clear `InvalidModelFile`, in bounded memory and reading."""

from __future__ import annotations

import contextlib
import os
import struct
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gguf_vl.errors import InvalidModelFile
from gguf_vl.gguf import Array, projector_shape, read_header, text_shape
from tests.gguf import gguf_files as make
from tests.gguf.gguf_files import Quant, raw, text

TINY = make.Size(64, 2, 2, 128, True, 32, 2, 64, (0, 1))
HUGE = 2**60
U32, STRING, ARRAY, U64, F32_TENSOR = 4, 8, 9, 10, 0


def entry(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def number(key: str, value: int) -> bytes:
    return entry(key, U32, struct.pack("<I", value))


def array(key: str, kind: int, count: int, values: bytes = b"") -> bytes:
    return entry(key, ARRAY, struct.pack("<IQ", kind, count) + values)


def tensor(name: str | bytes, shape: list[int], *, kind: int = F32_TENSOR, offset: int = 0, n_dims: int = -1) -> bytes:
    dims = len(shape) if n_dims < 0 else n_dims
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", dims, *shape, kind, offset)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile") / "model.gguf"


@pytest.fixture(scope="module")
def good_text(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("good") / "text.gguf"
    entries = make.qwen3vl_entries(TINY, 40, 3)
    tensors = {name: (shape, Quant.F32) for name, (shape, _) in make.qwen3vl_tensors(TINY, 40).items()}
    return make.write(path, "qwen3vl", entries, tensors).read_bytes()


@pytest.fixture(scope="module")
def good_projector(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("good") / "mmproj.gguf"
    return make.write(path, "clip", make.projector_entries(TINY), make.projector_tensors(TINY)).read_bytes()


def refusal(path: Path) -> InvalidModelFile:
    """The error, once it is seen to be one line and one line for a person, made without much memory."""
    tracemalloc.start()
    try:
        with pytest.raises(InvalidModelFile) as caught:
            read_header(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 << 20
    error = caught.value
    for line in (error.what, error.fix):
        assert line.isprintable()
        assert 10 < len(line) < 700
    return error


FOREIGN = {
    "an empty file": (b"", "is empty"),
    "a Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:089d\nsize 1107409952\n", "LFS"),
    "a web page": (b"\n<!DOCTYPE html>\n<html><title>404</title>", "web page"),
    "a web page with a byte order mark": (b"\xef\xbb\xbf<HTML>", "web page"),
    "a server's JSON message": (b'{"error":"Repository not found"}', "server's message"),
    "a server's XML message": (b"<?xml version='1.0'?><Error><Code>AccessDenied", "server's message"),
    "a PNG picture": (b"\x89PNG\r\n\x1a\n" + bytes(40), "PNG"),
    "a zip archive": (b"PK\x03\x04" + bytes(40), "zip"),
    "a gzip archive": (b"\x1f\x8b\x08" + bytes(40), "gzip"),
    "a safetensors file": (struct.pack("<Q", 5000) + b'{"__metadata__":{}', "safetensors"),
    "an old GGML file": (b"tjgg\x03\x00\x00\x00", "GGML"),
    "space set aside for a download": (bytes(5000), "zeros"),
    "something unknown": (b"lorem ipsum dolor sit amet", "not a GGUF file"),
    "one letter": (b"G", "incomplete"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_file_is_called_what_it_is(scratch: Path, name: str) -> None:
    content, said = FOREIGN[name]
    scratch.write_bytes(content)

    assert said in refusal(scratch).what


HOSTILE = {
    "version 1": (raw(version=1), "version 1"),
    "a version of the future": (raw(version=4), "version 4"),
    "version 0": (raw(version=0), "version 0"),
    "2^60 tensors": (b"GGUF" + struct.pack("<IQQ", 3, HUGE, 0), f"{HUGE} tensors"),
    "2^60 metadata entries": (b"GGUF" + struct.pack("<IQQ", 3, 0, HUGE), f"{HUGE} metadata"),
    "a key of 2^60 bytes": (raw([struct.pack("<Q", HUGE) + b"key"]), "beyond"),
    "a text of 2^64-1 bytes": (raw([entry("k", STRING, struct.pack("<Q", 2**64 - 1))]), "beyond"),
    "2^60 numbers": (raw([array("k", U32, HUGE)]), "beyond"),
    "2^60 texts": (raw([array("k", STRING, HUGE)]), "beyond"),
    "a text of 2^60 bytes in an array": (raw([array("k", STRING, 2, struct.pack("<QQ", HUGE, 0))]), "beyond"),
    "arrays in arrays": (raw([array("k", ARRAY, 1, struct.pack("<IQ", ARRAY, 1) * 9999)]), "nests arrays"),
    "an unknown kind of value": (raw([entry("k", 13, bytes(8))]), "unknown value type 13"),
    "an unknown kind of element": (raw([array("k", 77, 1, bytes(8))]), "unknown value type 77"),
    "a key twice": (raw([number("k", 1), number("k", 2)]), "'k' twice"),
    "a key without a name": (raw([number("", 1)]), "no name"),
    "a key that is not UTF-8": (raw([text(b"\xff\xfe") + struct.pack("<II", U32, 1)]), "not UTF-8"),
    "a text that is not UTF-8": (raw([entry("k", STRING, text(b"\xc3("))]), "not UTF-8"),
    "terminal escapes in a key": (raw([entry("\x1b[2J\n\x07", 99, b"")]), "?[2J??"),
    "alignment 0": (raw([number("general.alignment", 0)]), "alignment"),
    "alignment 3": (raw([number("general.alignment", 3)]), "alignment"),
    "alignment 2^31": (raw([number("general.alignment", 2**31)]), "alignment"),
    "alignment as a text": (raw([entry("general.alignment", STRING, text("32"))]), "alignment"),
    "a dimension of 0": (raw([], [tensor("t", [4, 0])]), "[4, 0]"),
    "a negative dimension": (raw([], [tensor("t", [2**64 - 1])]), "shape"),
    "dimensions that overflow to nothing": (raw([], [tensor("t", [2**32, 2**32])]), "shape"),
    "four dimensions of 2^63": (raw([], [tensor("t", [2**63] * 4)]), "shape"),
    "2^31 dimensions": (raw([], [tensor("t", [], n_dims=2**31)]), "dimensions"),
    "half a block": (raw([], [tensor("t", [100, 2], kind=12)]), "Q4_K"),
    "an unknown tensor type": (raw([], [tensor("t", [256], kind=200)]), "unknown type 200"),
    "a removed tensor type": (raw([], [tensor("t", [256], kind=31)]), "Q4_0_4_4"),
    "a name of 64 bytes": (raw([], [tensor("n" * 64, [4])]), "longer than 63"),
    "a name that is not UTF-8": (raw([], [tensor(b"\x80", [4])]), "not UTF-8"),
    "a tensor twice": (raw([], [tensor("t", [8]), tensor("t", [8], offset=32)]) + bytes(99), "twice"),
    "tensors on top of each other": (raw([], [tensor("a", [8]), tensor("b", [8])]) + bytes(99), "expected 32"),
    "a tensor at 2^60": (raw([], [tensor("a", [8], offset=HUGE)]) + bytes(99), "expected 0"),
    "2^60 bytes of weights": (raw([], [tensor("a", [2**58])]), "bytes are missing"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_header_is_refused_with_its_reason(scratch: Path, name: str) -> None:
    content, said = HOSTILE[name]
    scratch.write_bytes(content)

    assert said in refusal(scratch).what


SPARSE = {
    "a text of 2^35 bytes": (raw([entry("k", STRING, struct.pack("<Q", 1 << 35))]), "beyond 64 MiB"),
    "a text of 2^24 bytes": (raw([entry("k", STRING, struct.pack("<Q", 1 << 24))]), "a text of 16777216 bytes"),
    "2^33 numbers": (raw([array("k", U32, 1 << 33)]), "beyond 64 MiB"),
    "2^22 numbers": (raw([array("k", U32, 1 << 22)]), "'k' counts 4194304 values"),
    "2^31 texts": (raw([array("k", STRING, 1 << 31)]), "beyond 64 MiB"),
    "2^22 texts": (raw([array("k", STRING, 1 << 22)]), "'k' counts 4194304 values"),
    "a text of 2^35 bytes in an array": (raw([array("k", STRING, 2, struct.pack("<Q", 1 << 35))]), "beyond 64 MiB"),
    "2^38 bytes of weights": (raw([], [tensor("a", [1 << 36])]), "bytes are missing"),
}


@pytest.mark.parametrize("name", SPARSE)
def test_lengths_that_a_huge_sparse_file_makes_true_are_refused_too(scratch: Path, name: str) -> None:
    content, said = SPARSE[name]
    scratch.write_bytes(content)
    os.truncate(scratch, 1 << 36)

    assert said in refusal(scratch).what


def test_the_header_ends_somewhere_even_when_every_length_is_true(scratch: Path) -> None:
    with scratch.open("wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, 0, 5))
        for i in range(5):
            file.write(array(f"k{i}", U64, 1 << 21))
            file.seek(8 << 21, os.SEEK_CUR)
    os.truncate(scratch, 1 << 36)

    assert "64 MiB" in refusal(scratch).what


@pytest.mark.parametrize("which", ["good_text", "good_projector"])
def test_a_file_truncated_at_any_byte_is_refused(request: pytest.FixtureRequest, scratch: Path, which: str) -> None:
    content: bytes = request.getfixturevalue(which)
    scratch.write_bytes(content)
    header = read_header(scratch)
    end = max(tensor.offset + tensor.n_bytes for tensor in header.tensors)
    inside_weights = range(header.data_offset + 1, end, 997)

    for cut in (*reversed(inside_weights), *range(header.data_offset, -1, -1)):
        os.truncate(scratch, cut)
        with pytest.raises(InvalidModelFile):
            read_header(scratch)
    scratch.write_bytes(content[:end])
    assert read_header(scratch).tensors == header.tensors


def test_a_truncated_download_says_how_much_is_missing(scratch: Path, good_text: bytes) -> None:
    scratch.write_bytes(good_text)
    last = read_header(scratch).tensors[-1]
    end = last.offset + last.n_bytes
    os.truncate(scratch, end - 1234)

    error = refusal(scratch)

    assert f"1234 of its {end} bytes are missing" in error.what
    assert "Download it again" in error.fix


def test_what_is_not_a_readable_file_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "missing.gguf").what
    assert "not a file" in refusal(tmp_path).what
    assert "null" in refusal(tmp_path / "nul\0.gguf").what


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_named_pipe_is_refused_without_waiting_for_its_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")

    assert "not a file" in refusal(tmp_path / "pipe.gguf").what


def read_it_all(path: Path) -> None:
    """Everything the room offers for one file; only `InvalidModelFile` may come out."""
    try:
        header = read_header(path)
    except InvalidModelFile:
        return
    for value in header.metadata.values():
        try:
            if isinstance(value, Array):
                assert len(value.values()) == value.count
        except InvalidModelFile:
            pass
    for shape in (text_shape, projector_shape):
        with contextlib.suppress(InvalidModelFile):
            assert shape(header).n_bytes <= header.file_size


@settings(deadline=None)
@given(st.binary(max_size=400))
@example(b"")
def test_any_bytes_behind_the_magic_are_read_or_refused(scratch: Path, tail: bytes) -> None:
    scratch.write_bytes(b"GGUF" + tail)
    read_it_all(scratch)


INTEGERS = st.sampled_from([0, 1, 2, 9, 255, 2**31 - 1, 2**31, 2**32 - 1, HUGE, 2**63 - 1, 2**63, 2**64 - 1])
PATCHES = st.one_of(
    st.binary(min_size=1, max_size=8),
    INTEGERS.map(lambda value: struct.pack("<Q", value)),
    INTEGERS.map(lambda value: struct.pack("<I", value & 0xFFFFFFFF)),
)


@pytest.mark.parametrize("which", ["good_text", "good_projector"])
@settings(deadline=None)
@given(patches=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), PATCHES), min_size=1, max_size=3))
def test_a_damaged_header_is_read_or_refused(
    request: pytest.FixtureRequest, scratch: Path, which: str, patches: list[tuple[float, bytes]]
) -> None:
    content = bytearray(request.getfixturevalue(which))
    header_end = content.find(b".weight", 0) + 4096
    for place, patch in patches:
        at = int(place * header_end)
        content[at : at + len(patch)] = patch
    scratch.write_bytes(content)
    read_it_all(scratch)
