"""Documents: the pages that are meant, in order, as sharp as there is room for, and a line about what is left out."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from gguf_vl.errors import InvalidPicture, UsageError
from gguf_vl.media.documents import Pages, load_pages, open_document
from gguf_vl.media.given import given, pages_of
from gguf_vl.media.pictures import load_picture
from gguf_vl.media.shown import room, show
from gguf_vl.types import Picture, PictureLimits

from .documents import pdf
from .drawn import BLUE, GREEN, RED, WIDE, YELLOW, Colour, encoded, near, pixel, quarters

COLOURS = (RED, GREEN, BLUE, YELLOW)
A4 = (595, 842)
PLENTY = 1_000_000


@pytest.fixture(params=["pdf", "tif"])
def document(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Four pages: red, green, blue and yellow."""
    return put(tmp_path, request.param)


def put(folder: Path, kind: str, colours: tuple[Colour, ...] = COLOURS, size: tuple[int, int] = (96, 128)) -> Path:
    path = folder / f"scan.{kind}"
    path.write_bytes(pdf(colours, size) if kind == "pdf" else tiff(colours, size))
    return path


def tiff(colours: tuple[Colour, ...], size: tuple[int, int] = (96, 128)) -> bytes:
    first, *others = [Image.new("RGB", size, colour) for colour in colours]
    return encoded(first, "TIFF", save_all=True, append_images=others, compression="tiff_deflate")


def loaded(source: object, limits: PictureLimits = WIDE, budget: int = PLENTY) -> Pages:
    found = open_document(source)  # type: ignore[arg-type]
    assert found is not None
    return load_pages(found, limits, budget)


def middle(picture: Picture) -> Colour:
    return pixel(picture, picture.width // 2, picture.height // 2)


def colours(pages: Pages) -> list[Colour]:
    """Of each page the drawn colour that it has."""
    found = [middle(picture) for _, picture in pages.shown]
    return [next(colour for colour in COLOURS if near(each, colour)) for each in found]


def test_a_document_without_more_words_is_all_its_pages(document: Path) -> None:
    pages = loaded(document)
    assert colours(pages) == list(COLOURS)
    assert [caption for caption, _ in pages.shown] == ["Page 1:", "Page 2:", "Page 3:", "Page 4:"]
    assert pages.note == ""


@pytest.mark.parametrize(
    ("asked", "numbers"),
    [("2", [2]), ("2-3", [2, 3]), ("3-", [3, 4]), ("4,1", [4, 1]), ("2-3,1,2", [2, 3, 1]), ("1-1,4-", [1, 4])],
)
def test_pages_are_asked_for_by_ranges(document: Path, asked: str, numbers: list[int]) -> None:
    pages = loaded(f"{document}#{asked}")
    assert colours(pages) == [COLOURS[number - 1] for number in numbers]
    several = [f"Page {number}:" for number in numbers]
    assert [caption for caption, _ in pages.shown] == (several if len(numbers) > 1 else [""])


@pytest.mark.parametrize("asked", ["0", "5", "2-5", "9-", "1,7"])
def test_a_page_that_is_not_there_is_refused_with_how_many_there_are(document: Path, asked: str) -> None:
    with pytest.raises(InvalidPicture, match="4 pages, and no page") as caught:
        open_document(f"{document}#{asked}")
    assert "#4" in caught.value.fix


def test_pages_that_count_backwards_are_wrong_usage(document: Path) -> None:
    with pytest.raises(UsageError) as caught:
        open_document(f"{document}#3-2")
    assert "#2-3" in caught.value.fix


@pytest.mark.parametrize("asked", ["x", "-3", "1-2-3", "1,,2", "", "1;2", "²"])
def test_what_is_no_range_belongs_to_the_name(document: Path, asked: str) -> None:
    with pytest.raises(InvalidPicture, match="no file"):
        open_document(f"{document}#{asked}")


def test_one_picture_is_never_several_pages(document: Path) -> None:
    with pytest.raises(InvalidPicture, match="several pages"):
        load_picture(f"{document}#2-3", WIDE)


def test_a_page_of_a_tiff_is_a_picture_of_its_own(tmp_path: Path) -> None:
    path = put(tmp_path, "tif")
    assert pages_of(path) == 4
    picture = load_picture(f"{path}#3", WIDE)
    assert near(middle(picture), BLUE)
    assert picture.original_size == (96, 128)
    found = given(f"{path}#3")
    assert (found.name, found.size) == ("scan.tif#3", (96, 128))
    assert load_picture(found.data, WIDE) == picture


def test_pages_of_a_scan_have_each_their_own_size_and_turn(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "scan.tif"
    wide, high = Image.new("RGB", (128, 64), RED), Image.new("RGB", (64, 96), GREEN)
    path.write_bytes(encoded(wide, "TIFF", save_all=True, append_images=[high], exif=exif))
    (_, first), (_, second) = loaded(path).shown
    assert first.original_size == (64, 128)
    assert second.original_size in [(64, 96), (96, 64)]  # a writer may turn the first page alone


def test_small_copies_of_a_page_are_no_pages(tmp_path: Path) -> None:
    path = put(tmp_path, "tif", (RED, GREEN, BLUE))
    assert pages_of(path) == 3
    first, second = Image.new("RGB", (64, 64), RED), Image.new("RGB", (32, 32), GREEN)
    second.encoderinfo = {"tiffinfo": {254: 1}}
    path.write_bytes(encoded(first, "TIFF", save_all=True, append_images=[second]))
    assert pages_of(path) == 1


def test_a_scan_that_is_cut_off_is_refused_or_shorter(tmp_path: Path) -> None:
    path = put(tmp_path, "tif", size=(600, 600))
    path.write_bytes(path.read_bytes()[:900])
    with suppress(InvalidPicture):
        assert 1 <= len(loaded(path).shown) < 4


def test_what_is_no_document_is_left_to_others(tmp_path: Path) -> None:
    assert open_document(encoded(quarters(), "PNG")) is None


def test_pages_are_as_sharp_as_the_room_allows_and_then_fewer(tmp_path: Path) -> None:
    path = put(tmp_path, "pdf", COLOURS, A4)
    limits = PictureLimits(16, 1024)

    def tokens(budget: int) -> list[int]:
        return [picture.tokens for _, picture in loaded(path, limits, budget).shown]

    assert all(900 < each <= 1024 for each in tokens(PLENTY))
    for budget in (2048 + 600, 3000, 3500):
        found = tokens(budget)
        assert len(found) == 4
        assert all(512 * 0.9 < each <= budget // 4 for each in found)
        assert sum(found) + 8 * 4 <= budget
    assert [len(tokens(budget)) for budget in (2000, 1300, 600, 0)] == [3, 2, 1, 1]
    assert loaded(path, PictureLimits(16, 256), 1100).note == ""  # --detail low wants no more than it gets


def test_what_is_left_out_or_shrunk_is_said_in_one_line(tmp_path: Path) -> None:
    path = put(tmp_path, "pdf", COLOURS, A4)
    limits = PictureLimits(16, 1024)
    assert loaded(path, limits, PLENTY).note == ""
    shrunk = loaded(path, limits, 3000).note
    assert shrunk.startswith("scan.pdf: its 4 pages are drawn with 742 tokens each")
    left = loaded(f"{path}#1,3-4", limits, 600).note
    assert left == (
        "scan.pdf: page 1 of 4 fits the context, 3-4 are left out. Ask about scan.pdf#3-4 too, or give a larger --ctx."
    )
    small = put(tmp_path, "tif")
    assert loaded(small, limits, 3000).note == ""  # no page wants that much


def test_pictures_and_documents_share_the_room_in_their_order(tmp_path: Path) -> None:
    document, picture = put(tmp_path, "pdf", COLOURS, A4), encoded(Image.new("RGB", (320, 320), RED), "PNG")
    shown = show([picture, str(document), str(document)], PictureLimits(16, 1024), 100 + 16 + 2 * 1100)
    assert [part for part in shown.content if isinstance(part, str)] == ["Page 1:", "Page 2:"] * 2
    assert [picture.tokens > 400 for picture in shown.pictures] == [False, True, True, True, True]
    assert len(shown.notes) == 2
    assert sum(each.tokens for each in shown.pictures) <= 100 + 2 * 1100


def test_room_is_what_question_and_answer_leave() -> None:
    assert room(8192, ()) == 8192 - 2048 - 64
    assert room(8192, ("x" * 1000,), max_tokens=100) == 8192 - 100 - 64 - 500
