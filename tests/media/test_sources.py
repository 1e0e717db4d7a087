"""The same picture, however it is handed over; and what cannot be handed over."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gguf_vl.errors import InvalidPicture
from gguf_vl.media.pictures import load_picture
from gguf_vl.media.sources import decode_data_uri

from .drawn import WIDE, encoded, quarters

PNG = encoded(quarters(), "PNG")
BASE64 = base64.b64encode(PNG).decode()


class Pipe(io.RawIOBase):
    """A stream like stdin's: it cannot seek, and gives a few bytes at a time."""

    def __init__(self, data: bytes, name: str = "<stdin>") -> None:
        self.rest = data
        self.name = name

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        assert size > 0, "an endless stream must not be read to its end"
        given, self.rest = self.rest[: min(size, 100)], self.rest[min(size, 100) :]
        return given


def refusal(source: object, **options: int) -> InvalidPicture:
    """The refusal of `source`, whose two lines are lines indeed."""
    with pytest.raises(InvalidPicture) as caught:
        load_picture(source, WIDE, **options)  # type: ignore[arg-type]
    for line in (caught.value.what, caught.value.fix):
        assert line
        assert len(line.splitlines()) == 1
    return caught.value


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a picture é.png"
    path.write_bytes(PNG)
    return path


def test_the_digest_is_one_whatever_the_source(file: Path) -> None:
    sources = [
        file,
        str(file),
        PNG,
        io.BytesIO(PNG),
        Pipe(PNG),
        f"data:image/png;base64,{BASE64}",
        encoded(quarters(), "BMP"),
    ]
    assert len({load_picture(source, WIDE) for source in sources}) == 1  # type: ignore[arg-type]


def test_the_digest_tells_other_pixels_and_another_shape() -> None:
    pictures = [encoded(quarters((64, 32)).transpose(turn), "PNG") for turn in (0, 1, 2)]  # type: ignore[arg-type]
    pictures += [encoded(quarters((64, 32)).resize(size), "PNG") for size in ((32, 64), (64, 64))]
    assert len({load_picture(data, WIDE).digest for data in pictures}) == len(pictures)


def test_the_digest_tells_two_shapes_of_the_same_pixel_bytes() -> None:
    flat = [encoded(quarters((64, 32)).resize(size).point(lambda _: 7), "PNG") for size in ((64, 32), (32, 64))]
    wide, tall = (load_picture(data, WIDE) for data in flat)
    assert wide.rgb == tall.rgb
    assert wide.digest != tall.digest


@pytest.mark.parametrize(
    "uri",
    [
        f"data:image/png;base64,{BASE64}",
        f"DATA:image/png;BASE64,{BASE64}",
        f"data:;base64,{BASE64.rstrip('=')}",
        f"data:image/jpeg;charset=utf-8;base64,{BASE64}",
        f"data:image/png;base64,{base64.urlsafe_b64encode(PNG).decode()}",
        "data:image/png;base64," + "\r\n".join(BASE64[at : at + 76] for at in range(0, len(BASE64), 76)) + "\n",
        f"data:image/png;base64,{BASE64.replace('+', '%2B').replace('=', '%3D')}",
        f"data:image/png,{quote_from_bytes(PNG)}",
    ],
    ids=["plain", "capitals", "no padding", "wrong type", "URL-safe", "line breaks", "escaped", "no base64"],
)
def test_a_data_uri_is_read_in_all_the_ways_that_clients_write_it(uri: str) -> None:
    assert load_picture(uri, WIDE) == load_picture(PNG, WIDE)


@given(st.binary(max_size=200))
def test_a_data_uri_carries_any_bytes(data: bytes) -> None:
    assert decode_data_uri(f"data:;base64,{base64.b64encode(data).decode()}", 200) == data
    assert decode_data_uri(f"data:,{quote_from_bytes(data)}", 200) == data


@pytest.mark.parametrize(
    "uri", ["data:image/png;base64,abcde", "data:;base64,ab*d", "data:;base64,é", "data:;base64,a=bc"]
)
def test_broken_base64_is_refused(uri: str) -> None:
    error = refusal(uri)
    assert "broken base64" in error.what
    assert "base64" in error.fix


def test_a_data_uri_without_data_is_refused() -> None:
    assert "no comma" in refusal("data:image/png;base64").what
    assert "empty" in refusal("data:image/png;base64,").what


@pytest.mark.parametrize("url", ["http://example.org/cat.png", "HTTPS://example.org/cat.png"])
def test_a_url_is_not_fetched_and_the_person_is_told_what_to_do(url: str) -> None:
    error = refusal(url)
    assert url in error.what
    assert "Download it first" in error.fix


def test_a_missing_file_is_named() -> None:
    assert "There is no file nowhere/cat.png" in refusal("nowhere/cat.png").what
    assert "There is no file nowhere/cat.png" in refusal(Path("nowhere/cat.png")).what


def test_a_folder_is_no_picture(tmp_path: Path) -> None:
    assert "is a folder" in refusal(tmp_path).what


def test_a_file_without_permission_says_so(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)  # chmod stops nobody who runs the tests as root
    assert "permission denied" in refusal(file).what


@pytest.mark.parametrize("name", ["a\0b.png", "x" * 5000, "line\nbreak\x1b[31m.png", "\udcff.png"])
def test_a_name_that_no_file_can_have_is_shown_on_one_short_line(name: str) -> None:
    error = refusal(name)
    assert len(error.what) < 200
    error.what.encode()
    assert "\x1b" not in error.what


@pytest.mark.parametrize("of", [bytes, io.BytesIO, Pipe], ids=["bytes", "stream", "stdin"])
def test_empty_input_is_refused(of: Callable[[bytes], object]) -> None:
    assert "is empty" in refusal(of(b"")).what


def test_an_empty_file_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    assert "empty.png is empty" in refusal(tmp_path / "empty.png").what


def test_messages_call_stdin_by_its_name() -> None:
    assert refusal(Pipe(b"hello")).what.startswith("Standard input ")
    assert refusal(Pipe(b"hello", name="scan.png")).what.startswith("scan.png ")
    assert refusal(io.BytesIO(b"hello")).what.startswith("The picture data ")


@pytest.mark.parametrize("kind", ["path", "bytes", "base64", "percent", "stream"])
def test_one_byte_too_many_is_refused_and_the_limit_itself_is_not(kind: str, file: Path) -> None:
    sources: dict[str, Callable[[], object]] = {
        "path": lambda: file,
        "bytes": lambda: PNG,
        "base64": lambda: f"data:;base64,{BASE64}",
        "percent": lambda: f"data:,{quote_from_bytes(PNG)}",
        "stream": lambda: Pipe(PNG),
    }
    source = sources[kind]
    load_picture(source(), WIDE, max_bytes=len(PNG))  # type: ignore[arg-type]
    assert "larger than" in refusal(source(), max_bytes=len(PNG) - 1).what


def test_a_file_that_is_too_large_is_refused_without_being_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "huge.png"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse: a terabyte that takes no room
    monkeypatch.setattr("gguf_vl.media.sources._read_stream", lambda *_: pytest.fail("the file was read"))
    assert "larger than the 128 MiB" in refusal(path).what


def test_an_endless_stream_is_left_soon_after_the_limit() -> None:
    class Endless(io.RawIOBase):
        given = 0

        def read(self, size: int = -1) -> bytes:
            self.given += size
            return bytes(size)

    stream = Endless()
    assert "larger than" in refusal(stream, max_bytes=5_000_000).what
    assert stream.given == 5_000_001


@pytest.mark.skipif(not os.path.exists("/dev/fd"), reason="there are no paths of open pipes here")
def test_a_path_that_leads_to_a_pipe_is_read_like_a_file() -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as pipe:
        pipe.write(PNG)  # smaller than a pipe's buffer
    try:
        assert load_picture(f"/dev/fd/{reading}", WIDE) == load_picture(PNG, WIDE)
    finally:
        os.close(reading)


def test_a_stream_that_fails_is_refused_with_its_reason() -> None:
    class Failing(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise OSError(5, "Input/output error")

    assert "Input/output error" in refusal(Failing()).what
