"""The worker's resident memory, as the system tells it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from bench_memory import mapped, numbers, picture

SMAPS = """
7f00-7f10 r--s 00000000 fe:00 12 /home/me/models/Qwen 3/model.gguf
Size:                 64 kB
Rss:                  48 kB
7f10-7f20 r--s 00010000 fe:00 12 /home/me/models/Qwen 3/model.gguf
Rss:                   4 kB
7f20-7f30 rw-p 00000000 00:00 0
Rss:                 100 kB
7f30-7f40 r--p 00000000 fe:00 13 /home/me/models/Qwen 3/mmproj-model.gguf.txt
Rss:                 200 kB
""".strip()


def test_a_file_s_resident_pages_are_those_of_all_its_mappings() -> None:
    assert mapped(SMAPS, Path("/home/me/models/Qwen 3/model.gguf")) == 52 * 1024
    assert mapped(SMAPS, Path("/home/me/other/model.gguf")) == 0


def test_kilobytes_become_bytes_and_other_lines_are_left_out() -> None:
    assert numbers("Name:\tpython\nVmHWM:\t  12 kB\nThreads:\t3\n") == {"VmHWM": 12 * 1024}


@pytest.mark.parametrize("tokens", [64, 256, 1024, 2116, 4096, 30])
def test_a_picture_has_exactly_as_many_tokens_as_asked(tokens: int) -> None:
    seen = picture(tokens)
    assert seen.tokens == tokens
    assert len(seen.rgb) == 3 * seen.width * seen.height
