"""Fonts for labels in any script: Pillow's own for Latin, else the first of the system's that has the letters."""

from __future__ import annotations

import math
import os
import unicodedata
from functools import cache, lru_cache

from PIL import ImageFont

_SYSTEM = (
    # macOS
    "/System/Library/Fonts/PingFang.ttc",
    "/System/Library/Fonts/Hiragino Sans GB.ttc",
    "/System/Library/Fonts/ヒラギノ角ゴシック W3.ttc",
    "/System/Library/Fonts/STHeiti Medium.ttc",
    "/System/Library/Fonts/AppleSDGothicNeo.ttc",
    "/System/Library/Fonts/Supplemental/Arial Unicode.ttf",
    # Linux
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/noto-cjk/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/google-noto-cjk/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/google-noto-sans-cjk-fonts/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/google-noto-sans-cjk-vf-fonts/NotoSansCJK-VF.ttc",
    "/usr/share/fonts/adobe-source-han-sans/SourceHanSansCN-Regular.otf",
    "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc",
    "/usr/share/fonts/truetype/wqy/wqy-zenhei.ttc",
    "/usr/share/fonts/wenquanyi/wqy-microhei/wqy-microhei.ttc",
    "/usr/share/fonts/wqy-microhei/wqy-microhei.ttc",
    "/usr/share/fonts/truetype/droid/DroidSansFallbackFull.ttf",
    # Windows
    *(
        os.path.join(os.environ.get("SYSTEMROOT", r"C:\Windows"), "Fonts", name)
        for name in ("msyh.ttc", "simsun.ttc", "YuGothM.ttc", "msgothic.ttc", "malgun.ttf", "segoeui.ttf")
    ),
    # Other scripts than Chinese, Japanese and Korean
    "/usr/share/fonts/truetype/noto/NotoSans-Regular.ttf",
    "/usr/share/fonts/noto/NotoSans-Regular.ttf",
    "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",
    "/usr/share/fonts/TTF/DejaVuSans.ttf",
    "/usr/share/fonts/dejavu-sans-fonts/DejaVuSans.ttf",
)
_LONGEST = 200
"""Letters of a label that are looked at."""
_NOWHERE = "\uffff"
"""No character, so that every font draws it as what it has not."""


class Lettering:
    """Text of one `size`, in pixels of a letter's body. Fonts are opened when a label needs them."""

    def __init__(self, size: int) -> None:
        self.size = size
        own = ImageFont.load_default(size)
        assert isinstance(own, ImageFont.FreeTypeFont)  # another kind only where Pillow was built without FreeType
        self._own = own

    @property
    def height(self) -> int:
        """Pixels of a line, with room for what hangs below it."""
        return math.ceil(self.size * 1.2)

    @property
    def baseline(self) -> int:
        """Pixels from a line's top to what letters stand on. A font's own ascent may leave much above (Chinese)."""
        return round(self.size * 0.92)

    def font(self, text: str) -> ImageFont.FreeTypeFont:
        """The font that has most of the letters of `text`; of equals, the first."""
        if all(_has(self._own, letter) for letter in text):
            return self._own
        fonts = [self._own, *(font for path in _SYSTEM if (font := _opened(path, self.size)))]
        return max(fonts, key=lambda font: sum(_has(font, letter) for letter in text))

    def writable(self, text: str) -> str:
        """`text` on one line, as far as a font here has its letters: an é may lose its accent, an emoji is left out."""
        text = " ".join(text[:_LONGEST].split())
        font = self.font(text)
        letters = (letter if _has(font, letter) else unicodedata.normalize("NFKD", letter)[:1] for letter in text)
        return " ".join("".join(letter for letter in letters if _has(font, letter)).split())

    def width(self, text: str) -> int:
        """Pixels that `text` takes."""
        return math.ceil(self.font(text).getlength(text))

    def shortened(self, text: str, width: int) -> str:
        """`text`, or as much of it as goes into `width` pixels with dots behind it; at least its first letter."""
        if self.width(text) <= width:
            return text
        fitting = (text[:length] + ".." for length in range(len(text) - 1, 0, -1))
        return next((short for short in fitting if self.width(short) <= width), text[:1])


@cache
def _opened(path: str, size: int) -> ImageFont.FreeTypeFont | None:
    try:
        return ImageFont.truetype(path, size)
    except OSError:  # not on this system
        return None


@lru_cache(4096)
def _has(font: ImageFont.FreeTypeFont, letter: str) -> bool:
    """Whether it draws the letter as anything but the mark of a missing one."""
    if letter == " ":
        return True
    drawn, missing = font.getmask(letter), font.getmask(_NOWHERE)
    return (drawn.size, bytes(drawn)) != (missing.size, bytes(missing))
