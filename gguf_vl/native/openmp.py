"""The threads that OpenMP keeps for a thread that has computed.

libgomp lets a barrier spin only while all threads it keeps are no more than the cores. One thread that has computed and
now waits, like the loop while a picture is encoded, makes every barrier of the other a sleep.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

_SOFT = 1
"""`omp_pause_soft`: nothing but threads is given up."""
_MAPS = Path("/proc/self/maps")


def rest() -> None:
    """End those of the calling thread. They are made again when it computes."""
    _pause()(_SOFT)


@cache
def _pause() -> Callable[[int], object]:
    """libgomp's own function, of the copy that llama.cpp has loaded; where there is none there is nothing to end."""
    try:
        path = re.search(r"/\S*/libgomp[-.]\S*", _MAPS.read_text())
        if path:
            function: Callable[[int], object] = ctypes.CDLL(path[0]).omp_pause_resource_all
            return function
    except (OSError, AttributeError):
        pass
    return lambda _: None
