"""Bytes that mean harm: whatever comes in, a `Picture` or an `InvalidPicture` comes out, without a word on stderr."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gguf_vl.errors import InvalidPicture
from gguf_vl.media.apart import decode_apart
from gguf_vl.media.pictures import load_picture
from gguf_vl.types import Picture, PictureLimits

from .drawn import encoded, quarters
from .test_refused import HEIC

LIMITS = PictureLimits(1, 64)
SMALL = quarters((40, 24))
REAL = {
    "JPEG": encoded(SMALL, "JPEG"),
    "JPEG progressive, EXIF": encoded(
        SMALL, "JPEG", progressive=True, exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0" + b"\1" * 16
    ),
    "PNG": encoded(SMALL, "PNG"),
    "PNG 16 bit": encoded(SMALL.convert("I;16"), "PNG"),
    "PNG palette": encoded(SMALL.quantize(4), "PNG", transparency=b"\0\x80"),
    "WebP": encoded(SMALL, "WEBP"),
    "WebP lossless, frames": encoded(SMALL, "WEBP", lossless=True, save_all=True, append_images=[SMALL.rotate(180)]),
    "GIF": encoded(SMALL, "GIF", save_all=True, append_images=[SMALL.rotate(180)], transparency=0),
    "BMP": encoded(SMALL, "BMP"),
    "TIFF": encoded(SMALL, "TIFF"),
    "TIFF LZW": encoded(SMALL, "TIFF", compression="tiff_lzw"),
    "TIFF JPEG": encoded(SMALL, "TIFF", compression="jpeg"),
    "TIFF float": encoded(SMALL.convert("F"), "TIFF"),
    "AVIF": encoded(SMALL, "AVIF", speed=10),
}
MAGIC = sorted(
    {data[:12] for data in [*REAL.values(), HEIC]}
    | {b"%PDF-1.", b"<svg ", b"<?xml", b"\0\0\0\x18ftyp", b"II+\0", b"MM\0*"}
)

CRASH = 176
"""The byte in HEIC that, set to 0x80, crashes libheif 1.23 (found by fuzzing)."""

hostile = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def assert_picture_or_refusal(data: bytes) -> None:
    try:
        picture = load_picture(data, LIMITS, max_pixels=200_000)
    except InvalidPicture as error:
        for line in (error.what, error.fix):
            assert line.isprintable()
            assert 0 < len(line) < 300
    else:
        assert isinstance(picture, Picture)
        assert len(picture.rgb) == picture.width * picture.height * 3
        assert LIMITS.min_tokens <= picture.tokens <= LIMITS.max_tokens


@hostile
@given(st.binary(max_size=300))
def test_random_bytes(data: bytes) -> None:
    assert_picture_or_refusal(data)


@hostile
@given(st.sampled_from(MAGIC), st.binary(max_size=300))
def test_random_bytes_behind_a_true_beginning(magic: bytes, data: bytes) -> None:
    assert_picture_or_refusal(magic + data)


@pytest.mark.parametrize("name", REAL)
@hostile
@given(st.data())
def test_a_real_file_cut_anywhere(name: str, data: st.DataObject) -> None:
    whole = REAL[name]
    assert_picture_or_refusal(whole[: data.draw(st.integers(1, len(whole) - 1))])


@pytest.mark.parametrize("name", REAL)
@hostile
@given(st.data())
def test_a_real_file_with_bytes_changed(name: str, data: st.DataObject) -> None:
    changed = bytearray(REAL[name])
    places = st.one_of(st.integers(0, min(200, len(changed) - 1)), st.integers(0, len(changed) - 1))
    for _ in range(data.draw(st.integers(1, 6))):
        changed[data.draw(places)] = data.draw(st.one_of(st.sampled_from([0, 1, 127, 128, 255]), st.integers(0, 255)))
    assert_picture_or_refusal(bytes(changed))


def test_nothing_is_said_on_stderr_about_broken_files(capfd: pytest.CaptureFixture[str]) -> None:
    for name, whole in REAL.items():
        if name == "TIFF JPEG":
            continue  # libtiff writes its JPEG errors to stderr itself, and Pillow gives no way to stop it
        for cut in range(1, 8):
            assert_picture_or_refusal(whole[: len(whole) * cut // 8])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("cut", [30, 200, 500, 700])
def test_a_heic_file_cut_off_is_refused_or_read(cut: int) -> None:
    assert_picture_or_refusal(HEIC[:cut])


@pytest.mark.parametrize("lost", [b"hvcC", b"ispe", b"irot", b"mdat"])
def test_a_heic_file_that_lost_a_part_is_refused_or_read(lost: bytes) -> None:
    assert lost in HEIC
    assert_picture_or_refusal(HEIC.replace(lost, b"\1xxx"))


def test_a_heic_file_that_crashes_libheif_leaves_this_process_alive() -> None:
    pytest.importorskip("pi_heif")
    crashing = bytearray(HEIC)
    crashing[CRASH] = 0x80
    with pytest.raises(InvalidPicture, match=r"its reader crashed|cannot be read"):  # the second once libheif is mended
        load_picture(bytes(crashing), LIMITS)


def test_a_reader_that_crashes_is_told_as_that_with_its_last_words_as_the_cause() -> None:
    with pytest.raises(InvalidPicture, match="its reader crashed") as caught:
        decode_apart(b"", "no such kind", "photo.heic", LIMITS, 1000)
    assert "KeyError" in str(caught.value.__cause__)


def test_a_reader_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gguf_vl.media.apart.TIMEOUT_S", 0.0)
    with pytest.raises(InvalidPicture, match="takes longer than"):
        load_picture(HEIC, LIMITS)
