"""The header of a GGUF file: metadata and the list of tensors. Reads no weight, and knows no architecture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

from gguf_vl.errors import InvalidModelFile

from . import foreign
from .quantisation import REMOVED_TENSOR_TYPES, TENSOR_TYPES, TensorType
from .wire import FETCH_AGAIN, ByteOrder, Cursor, Source, Value, shown

MAX_ENTRIES: Final = 1 << 16
"""Metadata entries, and tensors, of one file; published models have some 40 and 400."""
MAX_NAME: Final = 63
"""Bytes of a tensor's name (ggml's GGML_MAX_NAME without its NUL)."""
MAX_DIMENSIONS: Final = 4
MAX_ALIGNMENT: Final = 1 << 20

_OTHER_QUANTISATION: Final = "Take the model in another quantisation, such as Q4_K_M or Q8_0, or update gguf-vl."


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of the file. `shape` begins with the length of a row (ggml's `ne`)."""

    name: str
    shape: tuple[int, ...]
    type: TensorType
    offset: int
    """Bytes from the file's start."""

    @property
    def n_elements(self) -> int:
        """Its weights."""
        return math.prod(self.shape)

    @property
    def n_bytes(self) -> int:
        """Bytes of its weights, without the padding behind them."""
        return self.n_elements // self.type.block * self.type.block_bytes


@dataclass(frozen=True, slots=True)
class Header:
    """What a GGUF file says of itself. `file_size` and `data_offset` are bytes.

    llama.cpp runs only files of the machine's own byte order; both are read here.
    """

    path: Path
    version: int
    byte_order: ByteOrder
    metadata: Mapping[str, Value] = field(repr=False)
    tensors: tuple[Tensor, ...] = field(repr=False)
    data_offset: int
    file_size: int

    def invalid(self, what: str, fix: str = FETCH_AGAIN) -> InvalidModelFile:
        """The error that says `what` of this file, to be raised by its reader."""
        return InvalidModelFile(f"{shown(self.path)} {what}.", fix)


def read_header(path: Path, *, whole_size: int | None = None) -> Header:
    """Read the header of the GGUF file at `path`, versions 2 and 3, either byte order.

    `whole_size` is the bytes of the whole file where only its beginning has arrived at `path`.
    As strict as llama.cpp's own reader, and in lengths, UTF-8 and empty tensors stricter. `InvalidModelFile` for a file
    that is missing, foreign, damaged or truncated, also when only weights are missing; the file's size tells that.
    """
    source = Source.of(path)
    with Cursor(source) as cursor:
        version = _begin(cursor, source)
        n_tensors = _count(cursor, source, "tensors")
        n_entries = _count(cursor, source, "metadata entries")
        metadata = _metadata(cursor, source, n_entries)
        alignment = _alignment(metadata, source)
        infos = [_tensor(cursor, source) for _ in range(n_tensors)]
        data_offset = _padded(cursor.offset, alignment) if infos else cursor.offset
        byte_order = cursor.byte_order
    whole = source if whole_size is None else replace(source, size=whole_size)
    tensors = _placed(infos, data_offset, alignment, whole)
    return Header(path, version, byte_order, MappingProxyType(metadata), tensors, data_offset, whole.size)


def _begin(cursor: Cursor, source: Source) -> int:
    """Read magic and version, and tell the cursor the byte order; the version follows."""
    start = cursor.take(min(source.size, len(foreign.MAGIC)))
    if start != foreign.MAGIC:
        rest = cursor.take(min(source.size, foreign.LOOK) - len(start))
        what, fix = foreign.describe(start + rest)
        raise source.invalid(what, fix)
    version = cursor.u32()
    if version & 0xFFFF == 0:  # llama.cpp's own test: a small number written in the other order
        version = int.from_bytes(version.to_bytes(4, "little"), "big")
        cursor.byte_order = "big"
    if version == 1:
        raise source.invalid("is GGUF version 1, which llama.cpp no longer reads", _OTHER_QUANTISATION)
    if version not in (2, 3):
        raise source.invalid(f"is GGUF version {version}; 2 and 3 are known here", "Update gguf-vl, or fetch it again.")
    return version


def _count(cursor: Cursor, source: Source, what: str) -> int:
    count = cursor.u64()
    if count > MAX_ENTRIES:
        raise source.invalid(f"is damaged: it counts {count} {what}")
    return count


def _metadata(cursor: Cursor, source: Source, count: int) -> dict[str, Value]:
    metadata: dict[str, Value] = {}
    for _ in range(count):
        key = cursor.string()
        if not key:
            raise source.invalid("is damaged: a metadata entry has no name")
        if key in metadata:
            raise source.invalid(f"is damaged: it says {shown(key)!r} twice")
        metadata[key] = cursor.value(key)
    return metadata


def _alignment(metadata: Mapping[str, Value], source: Source) -> int:
    """Bytes to which every tensor begins aligned."""
    value = metadata.get("general.alignment", 32)
    if type(value) is not int or not 0 < value <= MAX_ALIGNMENT or value & (value - 1):
        raise source.invalid(f"is damaged: its alignment is {shown(value)}, not a power of two up to {MAX_ALIGNMENT}")
    return value


def _tensor(cursor: Cursor, source: Source) -> Tensor:
    """One entry of the list; `offset` is still relative to the data."""
    name = cursor.string()
    if len(name.encode()) > MAX_NAME:
        raise source.invalid(f"is damaged: a tensor is named {shown(name, 80)!r}, longer than {MAX_NAME} bytes")
    n_dimensions = cursor.u32()
    if n_dimensions > MAX_DIMENSIONS:
        raise source.invalid(f"is damaged: tensor {shown(name)!r} has {n_dimensions} dimensions")
    shape = tuple(cursor.u64() for _ in range(n_dimensions))
    kind = _tensor_type(cursor.u32(), name, source)
    # Each dimension is at most 2^64, so the product of four stays small enough to compute before it is refused.
    if 0 in shape or math.prod(shape) * kind.block_bytes >= 1 << 63 or (shape[0] if shape else 1) % kind.block:
        raise source.invalid(f"is damaged: tensor {shown(name)!r} of type {kind.name} has the shape {list(shape)}")
    return Tensor(name, shape, kind, cursor.u64())


def _tensor_type(code: int, name: str, source: Source) -> TensorType:
    if code in REMOVED_TENSOR_TYPES:
        what = f"is quantised as {REMOVED_TENSOR_TYPES[code]}, which llama.cpp no longer reads"
        raise source.invalid(what, _OTHER_QUANTISATION)
    if code not in TENSOR_TYPES:
        what = f"is damaged or newer than this program: tensor {shown(name)!r} has the unknown type {code}"
        raise source.invalid(what, _OTHER_QUANTISATION)
    return TENSOR_TYPES[code]


def _placed(infos: list[Tensor], data_offset: int, alignment: int, source: Source) -> tuple[Tensor, ...]:
    """The tensors with their offsets in the file, once they are where llama.cpp wants them and all there."""
    tensors, names, expected, end = [], set(), 0, data_offset
    for info in infos:
        if info.name in names:
            raise source.invalid(f"is damaged: it lists tensor {shown(info.name)!r} twice")
        if info.offset != expected:
            raise source.invalid(f"is damaged: tensor {shown(info.name)!r} is at {info.offset}, expected {expected}")
        names.add(info.name)
        tensors.append(Tensor(info.name, info.shape, info.type, data_offset + info.offset))
        end = data_offset + info.offset + info.n_bytes
        expected = _padded(expected + info.n_bytes, alignment)
    if end > source.size:
        raise source.invalid(f"is incomplete: {end - source.size} of its {end} bytes are missing")
    return tuple(tensors)


def _padded(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment
