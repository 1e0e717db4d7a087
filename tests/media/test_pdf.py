"""Pages of PDF documents: the page that is named, as sharp as it is wanted, and nothing from a document that lies."""

from __future__ import annotations

import io
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from gguf_vl.errors import InvalidPicture
from gguf_vl.media import apart
from gguf_vl.media.given import pages_of
from gguf_vl.media.pdf import page, page_count
from gguf_vl.media.pictures import load_picture
from gguf_vl.types import PictureLimits

from .documents import drawn_pdf, encrypted_pdf, pdf
from .drawn import BLUE, GREEN, RED, WIDE, Colour, encoded, near, pixel, quarters

COLOURS = (RED, GREEN, BLUE)


@pytest.fixture
def document(tmp_path: Path) -> Path:
    """Three pages: red, green and blue."""
    return put(tmp_path, pdf(COLOURS))


def put(folder: Path, data: bytes, name: str = "report.pdf") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def opened(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png))


def middle(picture: Image.Image) -> Colour:
    red, green, blue = picture.getpixel((picture.width // 2, picture.height // 2))  # type: ignore[misc]
    return red, green, blue


def refusal(source: object) -> InvalidPicture:
    with pytest.raises(InvalidPicture) as caught:
        load_picture(source, WIDE)  # type: ignore[arg-type]
    for line in (caught.value.what, caught.value.fix):
        assert len(line.splitlines()) == 1
    return caught.value


def test_pages_are_counted(document: Path, tmp_path: Path) -> None:
    assert page_count(document) == pages_of(document) == 3
    assert pages_of(put(tmp_path, encoded(quarters(), "PNG"), "a.png")) == 1


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_page_is_the_one_of_that_number(document: Path, number: int) -> None:
    assert near(middle(opened(page(document, number))), COLOURS[number - 1])
    picture = load_picture(f"{document}#{number}", WIDE)
    assert near(pixel(picture, picture.width // 2, picture.height // 2), COLOURS[number - 1])
    assert load_picture(Path(f"{document}#{number}"), WIDE) == picture


@pytest.mark.parametrize("number", [0, 4, 99])
def test_a_page_that_is_not_there_is_refused_with_how_many_there_are(document: Path, number: int) -> None:
    error = refusal(f"{document}#{number}")
    assert f"3 pages, and no page {number}" in error.what
    assert "report.pdf#3" in error.fix


def test_a_document_of_one_page_is_that_page(tmp_path: Path) -> None:
    path = put(tmp_path, pdf((GREEN,)))
    picture = load_picture(path, WIDE)
    assert near(pixel(picture, 10, 10), GREEN)
    assert load_picture(str(path), WIDE) == load_picture(f"{path}#1", WIDE) == picture
    assert "1 page, and no page 2" in refusal(f"{path}#2").what


def test_of_several_pages_none_is_guessed(document: Path) -> None:
    error = refusal(document)
    assert "has 3 pages" in error.what
    assert "report.pdf#1" in error.fix


def test_a_file_that_has_a_number_in_its_name_is_itself(tmp_path: Path) -> None:
    put(tmp_path, pdf((RED, RED)))
    path = put(tmp_path, pdf((GREEN,)), "report.pdf#1")
    assert near(pixel(load_picture(path, WIDE), 10, 10), GREEN)


def test_a_picture_has_no_pages_to_be_named(tmp_path: Path) -> None:
    path = put(tmp_path, encoded(quarters(), "PNG"), "cat.png")
    error = refusal(f"{path}#2")
    assert "no document" in error.what
    assert "There is no file nowhere.pdf#2" in refusal("nowhere.pdf#2").what


def test_what_was_sent_as_bytes_is_not_drawn() -> None:
    for source in (pdf(), io.BytesIO(pdf())):
        assert "file.pdf#2" in refusal(source).fix


def test_a_page_has_as_many_pixels_as_the_limits_want_and_no_finer_ones_than_help(tmp_path: Path) -> None:
    poster = put(tmp_path, drawn_pdf(b"", "0 0 1200 600"))
    for tokens in (64, 256, 1024):
        width, height = opened(page(poster, 1, PictureLimits(1, tokens))).size
        assert 0.9 < width * height / (tokens * 1024) < 1.02
        assert abs(width / height - 2) < 0.05
    small = put(tmp_path, drawn_pdf(b"", "0 0 72 144"), "receipt.pdf")
    assert opened(page(small, 1)).size == (200, 400)


def test_a_page_is_upright_and_on_white(tmp_path: Path) -> None:
    red_at_left = b"1 0 0 rg 0 0 100 100 re f"
    turned = opened(page(put(tmp_path, drawn_pdf(red_at_left, more=b"/Rotate 90 ")), 1))
    assert turned.width < turned.height
    assert near(turned.getpixel((5, 5)), (255, 0, 0))  # type: ignore[arg-type]
    assert turned.getpixel((5, turned.height - 5)) == (255, 255, 255)


def test_an_encrypted_document_is_told_from_a_damaged_one(tmp_path: Path) -> None:
    assert "password" in refusal(put(tmp_path, encrypted_pdf())).what
    for data in (b"%PDF-1.7\n%\xe2\xe3", pdf()[:300], b"junk %PDF-1.4 and no more"):
        error = refusal(put(tmp_path, data))
        assert "cut off or damaged" in error.what
        assert "again" in error.fix


def test_a_page_without_bounds_costs_no_memory_without_bounds(tmp_path: Path) -> None:
    for box in ("0 0 1e9 1e9", "0 0 1e7 0.001", "0 0 0 0", "0 0 -5 5", "nan inf 1 1"):
        width, height = opened(page(put(tmp_path, drawn_pdf(b"", box)), 1, PictureLimits(1, 256))).size
        assert width * height < 2 * 256 * 1024


def test_a_reader_that_crashes_costs_its_own_process_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crashing = tmp_path / "python"
    crashing.write_text("#!/bin/sh\nkill -SEGV $$\n")
    crashing.chmod(0o755)
    monkeypatch.setattr(apart.sys, "executable", str(crashing))
    assert "damaged PDF file" in refusal(put(tmp_path, pdf())).what


def test_the_reader_stays_out_of_this_process(document: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from gguf_vl.media.pdf import page;"
        f"page(Path({str(document)!r}), 1); sys.exit('pypdfium2' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("seed", range(6))
def test_damaged_documents_are_refused_or_drawn_and_nothing_else(document: Path, seed: int) -> None:
    data = bytearray(document.read_bytes())
    for at in range(seed, len(data), 97 + seed):
        data[at] ^= 1 << seed
    data[:5] = b"%PDF-"
    document.write_bytes(data)
    with suppress(InvalidPicture):
        load_picture(f"{document}#1", WIDE)
