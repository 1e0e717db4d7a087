"""How fast main memory is, by copying some of it."""

from __future__ import annotations

import ctypes
import mmap
import time
from concurrent.futures import ThreadPoolExecutor

_BYTES = 64 * 1024**2
"""Written and read in all: more than most processors cache, and touched within 50 ms."""
_PASSES = 3
_MOST_THREADS = 4


def bandwidth(cores: int) -> float:
    """Bytes per second, read and written, of the best of three copies by up to four threads. Takes some 50 ms.

    A lower bound: other programs slow it, and a machine with many memory channels needs more threads to fill them.
    Raises OSError without 64 MiB to spare.
    """
    threads = min(cores, _MOST_THREADS)
    size = _BYTES // (2 * threads)
    pairs = [(mmap.mmap(-1, size), mmap.mmap(-1, size)) for _ in range(threads)]
    buffers = [tuple((ctypes.c_char * size).from_buffer(each) for each in pair) for pair in pairs]

    def touch(pair: tuple[ctypes.Array[ctypes.c_char], ...]) -> None:
        for each in pair:
            ctypes.memset(each, 1, size)

    def copy(pair: tuple[ctypes.Array[ctypes.c_char], ...]) -> None:
        ctypes.memmove(pair[0], pair[1], size)

    best = float("inf")
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(touch, buffers))
        for _ in range(_PASSES):
            start = time.perf_counter()
            list(pool.map(copy, buffers))
            best = min(best, time.perf_counter() - start)
    return 2 * size * threads / best
