"""A decoded picture, whatever its mode and orientation, to upright 8-bit RGB on white."""

from __future__ import annotations

import math

from PIL import Image

_ORIENTATION = 0x0112  # EXIF and TIFF tag
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # TIFF 6.0
_WHITE = (255, 255, 255)


def upright(picture: Image.Image) -> Image.Image:
    """The picture turned and mirrored as its EXIF orientation says; unreadable EXIF counts as none.

    Call it with the picture decoded: some formats keep their EXIF behind the pixels, and TIFF is turned while decoding.
    """
    try:
        orientation = picture.getexif().get(_ORIENTATION)
    except (SyntaxError, ValueError, EOFError):  # what Pillow raises for damaged EXIF; the picture itself is whole
        return picture
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return picture if turn is None else picture.transpose(turn)


def rgb_on_white(picture: Image.Image) -> Image.Image:
    """The picture in mode RGB, its transparent parts on white.

    Grey of more than 8 bits is scaled by its format's range where that is known (12 and 16 bits), else by the range
    that its values suggest. Raises ValueError for floating-point grey that holds no finite range.
    """
    if picture.mode.startswith("I") or picture.mode == "F":
        picture = _grey_to_8_bits(picture)
    key = picture.info.get("transparency")
    if picture.mode == "RGB" and isinstance(key, tuple) and max(key) > 255:
        # Pillow gives the key of a 16-bit PNG in 16 bits beside pixels already cut to their high byte
        picture.info["transparency"] = tuple(value >> 8 for value in key)
    if not picture.has_transparency_data:
        return picture if picture.mode == "RGB" else picture.convert("RGB")
    see_through = picture.convert("RGBA")
    flat = Image.new("RGB", picture.size, _WHITE)
    flat.paste(see_through, mask=see_through)
    return flat


def _grey_to_8_bits(picture: Image.Image) -> Image.Image:
    """Mode L from modes I;16, I and F, which Pillow's own conversion would clip at 255."""
    tags = getattr(picture, "tag_v2", {})
    low, high = _value_range(picture, tags.get(_BITS_PER_SAMPLE))
    scale = 255 / (high - low)
    offset = -low * scale
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:  # Pillow inverts such TIFFs up to 8 bits only
        scale, offset = -scale, 255 - offset
    values = picture if picture.mode == "F" else picture.convert("F")
    grey = values.point(lambda value: value * scale + (offset + 0.5)).convert("L")  # convert cuts the fraction off
    key = picture.info.get("transparency")
    if isinstance(key, int):
        grey.info["transparency"] = min(max(int(key * scale + offset + 0.5), 0), 255)
    return grey


def _value_range(picture: Image.Image, bits_per_sample: tuple[int, ...] | None) -> tuple[float, float]:
    """The values that become black and white."""
    if picture.mode.startswith("I;16"):
        return 0, 4095 if bits_per_sample == (12,) else 65535
    extrema = picture.getextrema()
    low, high = float(extrema[0]), float(extrema[1])  # type: ignore[arg-type]  # one band: two numbers
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("its grey values are not finite numbers")
    for usual in (1.0, 255.0, 65535.0) if picture.mode == "F" else (255.0, 65535.0):
        if low >= 0 and high <= usual:
            return 0, usual
    return low, high if high > low else low + 1
