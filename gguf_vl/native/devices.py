"""The devices llama.cpp sees: `python -m gguf_vl.native.devices` prints them as JSON, in a process of its own.

Symbols come through libllama's own dependencies: opening a ggml library by its file name can load a second copy with
globals of its own. The library is opened without its Python package, whose imports take three quarters of the time.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_KINDS = {0: "cpu", 1: "gpu", 2: "igpu", 3: "accel"}
"""`enum ggml_backend_dev_type` of llama.cpp 0c1e57098, without the devices that only bundle others."""

_GPUS = ("gpu", "igpu")
_NO_GPU = {"CPU", "BLAS", "RPC", "ZenDNN"}
"""Backends (`ggml_backend_reg_name`) that compute on the processor or elsewhere."""


class _Caps(ctypes.Structure):
    """`struct ggml_backend_dev_caps` of llama.cpp 0c1e57098."""

    _fields_ = [
        (name, ctypes.c_bool) for name in ("async_", "host_buffer", "buffer_from_host_ptr", "events", "mmap_support")
    ]


class _Props(ctypes.Structure):
    """`struct ggml_backend_dev_props` of llama.cpp 0c1e57098."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("description", ctypes.c_char_p),
        ("memory_free", ctypes.c_size_t),
        ("memory_total", ctypes.c_size_t),
        ("type", ctypes.c_int),
        ("device_id", ctypes.c_char_p),
        ("caps", _Caps),
    ]


def library() -> Path | None:
    """Where libllama's file is; None when llama-cpp-python is not installed. Loads nothing."""
    override = os.environ.get("LLAMA_CPP_LIB_PATH")
    if override is not None:
        folder = Path(override)
    elif (spec := find_spec("llama_cpp")) and spec.origin:
        folder = Path(spec.origin).parent / "lib"
    else:
        return None
    names = [folder / name for name in ("libllama.so", "libllama.dylib", "llama.dll", "libllama.dll")]
    return next((path for path in names if path.exists()), names[0])


def _load() -> ctypes.CDLL:
    if sys.platform == "win32":  # the package knows where CUDA's and HIP's libraries are
        from llama_cpp import llama_cpp

        found: ctypes.CDLL = llama_cpp._lib
        return found
    path = library()
    if path is None:
        raise ModuleNotFoundError("llama-cpp-python is not installed")
    return ctypes.CDLL(str(path))


class _Llama:
    """The functions of llama.cpp's library that tell of devices."""

    def __init__(self) -> None:
        self._library = _load()
        pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t
        self._function("llama_backend_init", None)()
        self._get = self._function("ggml_backend_dev_get", pointer, number)
        self._props_of = self._function("ggml_backend_dev_get_props", None, pointer, ctypes.POINTER(_Props))
        self._registered_by = self._function("ggml_backend_dev_backend_reg", pointer, pointer)
        self._backend_name = self._function("ggml_backend_reg_name", text, pointer)
        self._get_backend = self._function("ggml_backend_reg_get", pointer, number)

    def _function(self, name: str, result: Any, *arguments: Any) -> Any:
        found = getattr(self._library, name)
        found.restype, found.argtypes = result, arguments
        return found

    def backends(self) -> list[str]:
        count = self._function("ggml_backend_reg_count", ctypes.c_size_t)()
        return [_text(self._backend_name(self._get_backend(index))) for index in range(count)]

    def devices(self) -> Iterator[tuple[str, str, _Props]]:
        """(kind, backend, properties) of each device that is no mere bundle of others."""
        for index in range(self._function("ggml_backend_dev_count", ctypes.c_size_t)()):
            device, props = self._get(index), _Props()
            self._props_of(device, ctypes.byref(props))
            if kind := _KINDS.get(props.type):
                yield kind, _text(self._backend_name(self._registered_by(device))), props


def free_bytes() -> dict[str, int]:
    """Free bytes of each GPU, by llama.cpp's name for it."""
    return {_text(props.name): props.memory_free for kind, _, props in _Llama().devices() if kind in _GPUS}


def look() -> dict[str, Any]:
    """What llama.cpp says of itself and its devices.

    Per device: `name`, `description`, `backend`, `kind`, `free` and `total` bytes (free only of GPUs: what a processor
    can have is the system's to say), `unified` memory, and `id`, the address on the PCI bus ("0000:01:00.0") where it
    has one.
    """
    llama = _Llama()
    devices = [
        {
            "name": _text(props.name),
            "description": _text(props.description),
            "backend": backend,
            "kind": kind,
            "free": props.memory_free if kind in _GPUS else None,
            "total": props.memory_total or None,
            "unified": _is_unified(kind, backend, _text(props.description)),
            "id": _text(props.device_id) or None,
        }
        for kind, backend, props in llama.devices()
    ]
    from importlib.metadata import version  # takes longer to import than all the rest, and `library` needs none of it

    return {
        "llama_cpp_python": version("llama-cpp-python"),
        "gpu_offload": bool(set(llama.backends()) - _NO_GPU),
        "devices": devices,
    }


def _is_unified(kind: str, backend: str, description: str) -> bool:
    """Whether a GPU's memory is main memory: integrated ones, Metal on Apple Silicon, Mesa's software one."""
    on_apple_silicon = backend in ("MTL", "Metal") and os.uname().machine == "arm64"
    return kind == "igpu" or on_apple_silicon or "llvmpipe" in description


def _text(value: bytes | None) -> str:
    return (value or b"").decode(errors="replace").strip()


if __name__ == "__main__":
    print(json.dumps(look()))
