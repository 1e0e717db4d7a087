"""Progress as a person sees it on a terminal, and as a log has it."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from gguf_vl import paths
from gguf_vl.cli.bars import Bars, PictureBar
from gguf_vl.cli.progress import Lines
from gguf_vl.store.verify import verify

FILES = ("Qwen3VL-8B-Thinking-Q4_K_M.gguf", "mmproj-Qwen3VL-8B-Thinking-F16.gguf")


def rows_of(written: io.StringIO) -> list[str]:
    return re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", written.getvalue()).splitlines()


@pytest.mark.parametrize("width", [80, 60, 200])
def test_each_file_has_one_row_of_a_terminal_with_its_quantisation(width: int) -> None:
    written = io.StringIO()
    console = Console(file=written, width=width, force_terminal=True, color_system=None, legacy_windows=False)
    with Bars("Fetching", console) as bars:
        for file in FILES:
            bars.start(file, 5_030_000_000)
            bars.at(file, 2_030_000_000)
            bars.start(f"{file}: verifying", 5_030_000_000)
            bars.at(f"{file}: verifying", 5_030_000_000)
    rows = rows_of(written)[-4:]
    assert [row.split()[0] for row in rows] == ["Fetching", "Verifying"] * 2
    assert all(len(row) <= width for row in rows)
    assert all(f"{file[-9:]} " in row for file, row in zip((FILES[0], FILES[0], FILES[1], FILES[1]), rows, strict=True))
    assert all("2.0/5.0 GB" in row and "40%" in row for row in rows[::2])


@pytest.mark.parametrize("width", [80, 60])
def test_a_projector_and_its_model_are_told_apart_where_their_names_are_cut(width: int) -> None:
    written = io.StringIO()
    console = Console(file=written, width=width, force_terminal=True, color_system=None, legacy_windows=False)
    text = "Some-Very-Long-Name-Of-A-Model-Q4_K_M.gguf"
    with Bars("Fetching", console) as bars:
        for file in (text, f"mmproj-{text}"):
            bars.start(file, 5_030_000_000)
    names = [row.split()[1] for row in rows_of(written)[-2:]]
    assert [(name[:6], name[-11:]) for name in names] == [("Some-V", "Q4_K_M.gguf"), ("mmproj", "Q4_K_M.gguf")]
    assert all("…" in name for name in names)


def test_a_file_begun_anew_keeps_its_row_and_a_second_of_its_name_has_its_own() -> None:
    written = io.StringIO()
    console = Console(file=written, width=80, force_terminal=True, color_system=None, legacy_windows=False)
    with Bars("Fetching", console) as bars:
        for done in (1_000_000, 4_000_000, 2_000_000):
            bars.start("mmproj-F16.gguf", 4_000_000)
            bars.at("mmproj-F16.gguf", done)
            bars.end("mmproj-F16.gguf")
    assert [row.split()[3] for row in rows_of(written)[-2:]] == ["100%", "50%"]


def test_a_batch_has_one_row_and_what_went_wrong_above_it() -> None:
    written = io.StringIO()
    console = Console(file=written, width=80, force_terminal=True, color_system=None, legacy_windows=False)
    with PictureBar(3, 1, console) as bar:
        bar.status("Loading …")
        bar.step()
        bar.more(2)
        bar.note("\x1b[2Jgone.png: There is no such file.")
    rows = rows_of(written)
    assert "gone.png: There is no such file." in "\n".join(rows)
    assert "\x1b[2J" not in written.getvalue()
    assert rows[-1].split()[0] == "Pictures"
    assert "2/5" in rows[-1]


def test_lines_say_what_is_done_and_where_it_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines("Fetching")
    lines.start(FILES[0], 4_000_000, 1_000_000)
    lines.end(FILES[0])
    lines.start(f"{FILES[0]}: verifying", 4_000_000)
    assert capsys.readouterr().err.splitlines() == [
        f"Fetching {FILES[0]}: 25 % of 4.0 MB from here on",
        f"Fetching {FILES[0]}: 25 % of 4.0 MB",
        f"Verifying {FILES[0]}: 0 % of 4.0 MB",
    ]


def test_files_of_two_models_with_one_name_have_a_row_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines("Verifying")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.gguf").hardlink_to(paths.pocket_dir() / "pocket-F16.gguf")
        verify(tmp_path / name, lines)
    said = [line.partition(":")[0] for line in capsys.readouterr().err.splitlines()]
    assert said == ["Verifying one/model.gguf"] * 2 + ["Verifying two/model.gguf"] * 2
