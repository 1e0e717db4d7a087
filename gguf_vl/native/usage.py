"""What is really allocated: read off llama.cpp's log, the devices and the system."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from gguf_vl.native import log
from gguf_vl.native.devices import free_bytes
from gguf_vl.types import MAIN, Allocation, Purpose, Used

MIB = 1 << 20
_LINES: tuple[tuple[Purpose, re.Pattern[str]], ...] = (
    ("weights", re.compile(r"load_tensors:\s+(\S+) model buffer size = +([\d.]+) MiB")),
    ("KV", re.compile(r"llama_kv_cache:\s+(\S+) KV buffer size = +([\d.]+) MiB")),
    ("compute", log.COMPUTE),
    ("compute", log.OUTPUT),
)
"""Lines of llama.cpp's log with a buffer's place and size, and what it is for."""
_PROJECTOR_PLACE = re.compile(r"clip_ctx: CLIP using (\S+) backend")
_PROJECTOR = re.compile(r"load_hparams: model size: +([\d.]+) MiB")


class Meter(logging.Handler):
    """Listens to llama.cpp's log and looks at the GPUs, from entering it to leaving it."""

    def __init__(self) -> None:
        super().__init__()
        self._before = free_bytes()
        self._buffers: list[Allocation] = []
        self._projector_place = ""
        self._encode: int | None = None

    def __enter__(self) -> Self:
        log.logger.addHandler(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        log.logger.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        for purpose, pattern in _LINES:
            if found := pattern.match(line):
                self._add(found[1], purpose, round(float(found[2]) * MIB))
        if found := _PROJECTOR_PLACE.match(line):
            self._projector_place = found[1]
        if found := _PROJECTOR.match(line):
            self._add(self._projector_place, "projector", round(float(found[1]) * MIB))

    def _add(self, buffer: str, purpose: Purpose, n_bytes: int) -> None:
        device = buffer if buffer in self._before else MAIN
        if n_bytes:
            self._buffers.append(Allocation(device, purpose, n_bytes, f"{buffer}, in llama.cpp's log"))

    @contextmanager
    def encoding(self) -> Iterator[None]:
        """Look at what encoding a picture takes, inside."""
        before = free_bytes().get(self._projector_place)
        resident = _forget_peak()
        yield
        if before is not None:
            self._encode = before - free_bytes().get(self._projector_place, before)
        elif resident is not None:
            self._encode = max(0, _peak() - resident)

    def used(self) -> Used:
        """What was taken since."""
        now = free_bytes()
        devices = {name: max(0, before - now.get(name, before)) for name, before in self._before.items()}
        return Used(tuple(self._buffers), devices, self._encode, psutil.Process().memory_info().rss)


def _forget_peak() -> int | None:
    """Bytes resident now, where the most that ever were can be counted anew from here on: Linux alone lets us."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return psutil.Process().memory_info().rss


def _peak() -> int:
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0
