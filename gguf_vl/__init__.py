"""A local runner for Qwen3-VL on llama.cpp: a picture and a question go in, an answer comes out.

    from gguf_vl import load

    with load() as model:
        print(model.ask("photo.jpg", "What is on the table?"))

Everything runs on this machine. docs/library.md has the library in short pieces. The rooms of the house, and which may
import which, are in CONTRIBUTING.md; this module imports the library when a name of it is first used, and nothing
before, so that `import gguf_vl` costs nothing.
"""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gguf_vl.api import (
        Answer,
        AskSettings,
        AsyncChat,
        AsyncModel,
        AsyncStream,
        BatchResult,
        Box,
        Chat,
        Frames,
        Loading,
        LoadSettings,
        Model,
        PictureSource,
        Point,
        Stream,
        Timings,
        Usage,
        load,
        load_async,
    )

os.environ |= {"HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}  # read when a library is imported: after this

__version__ = "0.1.0"
__all__ = [
    "Answer",
    "AskSettings",
    "AsyncChat",
    "AsyncModel",
    "AsyncStream",
    "BatchResult",
    "Box",
    "Chat",
    "Frames",
    "LoadSettings",
    "Loading",
    "Model",
    "PictureSource",
    "Point",
    "Stream",
    "Timings",
    "Usage",
    "load",
    "load_async",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from gguf_vl import api

    found: object = getattr(api, name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
