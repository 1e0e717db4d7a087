"""Whatever a person gives becomes the file's bytes, its upright size and a name; what is broken is known at once."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest
from PIL import Image

from gguf_vl.errors import InvalidPicture, OfflineError
from gguf_vl.media import fetching
from gguf_vl.media.given import Given, given
from gguf_vl.media.pictures import load_picture
from gguf_vl.types import PictureLimits

from .documents import pdf
from .drawn import BLUE, RED, WIDE, encoded, quarters

PNG = encoded(quarters(), "PNG")
HEIC = (Path(__file__).parent / "quarters_turned.heic").read_bytes()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a cat é.png"
    path.write_bytes(PNG)
    return path


def test_a_file_is_its_bytes_and_its_name(file: Path) -> None:
    expected = Given("a cat é.png", PNG, (96, 64))
    assert [given(source) for source in (file, str(file), file.as_uri())] == [expected] * 3


def test_home_is_understood(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(file.parent))
    assert given(f"~/{file.name}").data == PNG


def test_bytes_are_called_as_they_are_told_to_be() -> None:
    assert given(PNG, name="clipboard.png") == Given("clipboard.png", PNG, (96, 64))
    assert given(f"data:image/png;base64,{base64.b64encode(PNG).decode()}") == Given("picture", PNG, (96, 64))


def test_the_size_is_that_of_the_upright_picture() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert given(encoded(quarters(), "JPEG", exif=exif)).size == (64, 96)
    pytest.importorskip("pi_heif")
    assert given(HEIC).size == load_picture(HEIC, WIDE).original_size


def test_a_page_of_a_document_is_a_picture_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "report.pdf"
    path.write_bytes(pdf((RED, BLUE)))
    found = given(f"{path}#2")
    assert found.name == "report.pdf#2"
    picture = Image.open(io.BytesIO(found.data))
    assert (picture.format, picture.size) == ("PNG", found.size)
    assert load_picture(found.data, WIDE).original_size == found.size
    small = given(f"{path}#2", limits=PictureLimits(1, 64))
    assert small.size[0] < found.size[0]


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("nowhere.png", "no file nowhere.png"),
        ("file:///nowhere.png", "no file /nowhere.png"),
        ("file://elsewhere.test/a.png", "no file of this machine"),
        (b"", "empty"),
        (b"hello", "not a picture"),
        (PNG[: len(PNG) // 2], "cut off"),
        (pdf(), "PDF"),
    ],
    ids=["no file", "no file of a URL", "of another machine", "empty", "words", "half", "document"],
)
def test_what_is_no_picture_is_refused_when_it_is_given(source: str | bytes, what: str) -> None:
    with pytest.raises(InvalidPicture) as caught:
        given(source)
    assert what in caught.value.what


def test_limits_hold(file: Path) -> None:
    for limits in ({"max_bytes": 10}, {"max_pixels": 10}):
        with pytest.raises(InvalidPicture):
            given(file, **limits)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """What each URL leads to, without a network."""
    found: dict[str, bytes] = {}

    def fetch(url: str, *, offline: bool, max_bytes: int) -> bytes:
        return found[url]

    monkeypatch.setattr(fetching, "fetch", fetch)
    return found


def test_a_url_is_fetched_and_called_by_its_last_part(answers: dict[str, bytes]) -> None:
    answers["https://pictures.test/a/a%20cat.png?size=2"] = PNG
    answers["HTTP://pictures.test"] = PNG
    assert given("https://pictures.test/a/a%20cat.png?size=2#top") == Given("a cat.png", PNG, (96, 64))
    assert given("HTTP://pictures.test").name == "picture"


def test_what_is_no_url_is_refused() -> None:
    for url in ("http://[", "https://", "http://a b/cat.png"):
        with pytest.raises(InvalidPicture, match="could not be fetched"):
            given(url)


def test_a_page_of_a_document_may_be_fetched(answers: dict[str, bytes]) -> None:
    answers["https://pictures.test/report.pdf"] = pdf((RED, BLUE))
    assert given("https://pictures.test/report.pdf#2").name == "report.pdf#2"
    with pytest.raises(InvalidPicture, match="has 2 pages"):
        given("https://pictures.test/report.pdf")


def test_a_page_instead_of_a_picture_is_called_one(answers: dict[str, bytes]) -> None:
    answers["https://pictures.test/cat"] = b"<!doctype html><html>"
    with pytest.raises(InvalidPicture, match="cat is a web page"):
        given("https://pictures.test/cat")


def test_offline_a_url_is_refused_and_a_file_is_not(file: Path) -> None:
    with pytest.raises(OfflineError):
        given("https://pictures.test/cat.png", offline=True)
    assert given(file, offline=True).data == PNG
