"""Every piece of docs/library.md does what its comments say, in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import gguf_vl

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"^## (.+?)$|^```python\n(.*?)^```$", PAGE, re.M | re.S)


def snippets() -> Iterator[tuple[str, str]]:
    """(heading, code) of each piece."""
    heading = "The library"
    for found, code in SNIPPETS:
        heading = found or heading
        if code:
            yield heading, code


def promised(code: str) -> list[str]:
    """What it prints: the comments behind its prints, and those on the lines below one."""
    lines: list[str] = []
    behind_print = False
    for line in code.splitlines():
        alone = re.fullmatch(r" *# (.*)", line)
        if alone and behind_print:
            lines.append(alone[1])
            continue
        behind_print = "print(" in line
        if behind_print and (comment := re.search(r"  # (.*)$", line)):
            lines.append(comment[1])
    return lines


@pytest.fixture(scope="module")
def one_home(new_home: Callable[[], Path]) -> Path:
    """What is learnt of the machine in one piece is known in the next."""
    return new_home()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a piece runs: the page's pictures are there as in the checkout, and what it writes is nobody's."""
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    return tmp_path


@pytest.mark.parametrize(("heading", "code"), list(snippets()), ids=[heading for heading, _ in snippets()])
def test_it_prints_what_it_says(heading: str, code: str, one_home: Path, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", code],
        cwd=folder,
        env=os.environ | {"GGUF_VL_HOME": str(one_home), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    printed, expected = done.stdout.splitlines(), promised(code)
    assert expected
    if "model.batch(" in code and len(expected) > 1 and "async" not in code:
        printed.sort()  # results come as they finish
    assert printed == expected


def test_the_table_of_names_has_all_of_them_and_no_other() -> None:
    table = PAGE.partition("## The names")[2]
    named = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (.*?) \|", table, re.M)[1:]))
    assert sorted(set(named)) == sorted(gguf_vl.__all__)


def test_each_part_of_the_library_has_a_piece() -> None:
    code = "".join(code for _, code in snippets())
    for call in ("ask", "stream", "chat", "locate", "batch", "run"):
        assert f"model.{call}(" in code
