"""The devices llama.cpp sees: `python -m gguf_vl.native.devices` prints them as JSON, in a process of its own.

Symbols come through libllama's own dependencies: opening a ggml library by its file name can load a second copy with
globals of its own.
"""

from __future__ import annotations

import ctypes
import json
from importlib.metadata import version
from typing import Any

from llama_cpp import llama_cpp as llama

from gguf_vl.native import log

_KINDS = {0: "cpu", 1: "gpu", 2: "igpu", 3: "accel", 4: "meta"}
"""`enum ggml_backend_dev_type` of llama.cpp 0c1e57098."""


def _function(name: str, result: Any, *arguments: Any) -> Any:
    function = getattr(llama._lib, name)
    function.restype, function.argtypes = result, arguments
    return function


def devices() -> list[dict[str, Any]]:
    """Name, description, kind, free and total bytes of each device; free is None for a CPU: ask the system."""
    llama.llama_backend_init()
    get = _function("ggml_backend_dev_get", ctypes.c_void_p, ctypes.c_size_t)
    name = _function("ggml_backend_dev_name", ctypes.c_char_p, ctypes.c_void_p)
    description = _function("ggml_backend_dev_description", ctypes.c_char_p, ctypes.c_void_p)
    kind = _function("ggml_backend_dev_type", ctypes.c_int, ctypes.c_void_p)
    size = ctypes.POINTER(ctypes.c_size_t)
    memory = _function("ggml_backend_dev_memory", None, ctypes.c_void_p, size, size)
    found = []
    for index in range(_function("ggml_backend_dev_count", ctypes.c_size_t)()):
        device = get(index)
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        memory(device, ctypes.byref(free), ctypes.byref(total))
        which = _KINDS.get(kind(device), "unknown")
        found.append(
            {
                "name": name(device).decode(errors="replace"),
                "description": description(device).decode(errors="replace").strip(),
                "kind": which,
                "free": None if which == "cpu" else free.value,
                "total": total.value,
            }
        )
    return found


if __name__ == "__main__":
    log.capture()
    print(
        json.dumps(
            {
                "llama_cpp_python": version("llama-cpp-python"),
                "gpu_offload": bool(llama.llama_supports_gpu_offload()),
                "devices": devices(),
            }
        )
    )
