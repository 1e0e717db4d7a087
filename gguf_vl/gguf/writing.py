"""A GGUF file's header, written; its weights are a hole. llama.cpp can be asked what such a file would take to run."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from .quantisation import TENSOR_TYPES, TensorType
from .wire import KIND_CODES, NUMBER_CODES, Kind, Scalar

ALIGNMENT: Final = 32
"""Bytes that tensors begin at a multiple of (`GGUF_DEFAULT_ALIGNMENT`)."""
_ARRAY: Final = KIND_CODES["array"]
_TYPE_CODES: Final = {type: code for code, type in TENSOR_TYPES.items()}
TYPES: Final = {type.name: type for type in TENSOR_TYPES.values()}
"""Tensor types by name."""


class Described(NamedTuple):
    """A tensor as a header names it. `shape` begins with the length of a row."""

    name: str
    shape: tuple[int, ...]
    type: TensorType

    @property
    def n_bytes(self) -> int:
        """Bytes of its weights."""
        return math.prod(self.shape) // self.type.block * self.type.block_bytes


Typed = tuple[Kind, Scalar | Sequence[Scalar]]


def write_skeleton(path: Path, metadata: Mapping[str, Typed], tensors: Sequence[Described]) -> None:
    """Write a GGUF file of version 3 with these values and tensors, as long as a real one and with nothing in it.

    Where the file system keeps holes it takes some kilobytes of disk. Raises `OSError`.
    """
    header = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    header += b"".join(_string(key) + _typed(*value) for key, value in metadata.items())
    at = 0
    for tensor in tensors:
        shape = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
        header += _string(tensor.name) + shape + struct.pack("<IQ", _TYPE_CODES[tensor.type], at)
        at += _padded(tensor.n_bytes)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    with unfinished.open("wb") as stream:
        stream.write(header)
        stream.truncate(_padded(len(header)) + at)
    unfinished.replace(path)


def _padded(n_bytes: int) -> int:
    return -(-n_bytes // ALIGNMENT) * ALIGNMENT


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _typed(kind: Kind, value: Scalar | Sequence[Scalar]) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", KIND_CODES["string"]) + _string(value)
    if isinstance(value, Sequence):
        numbers = struct.pack(f"<{len(value)}{NUMBER_CODES[kind]}", *value)
        return struct.pack("<IIQ", _ARRAY, KIND_CODES[kind], len(value)) + numbers
    return struct.pack(f"<I{NUMBER_CODES[kind]}", KIND_CODES[kind], value)
