"""PDF documents for the tests of this room."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image

from .drawn import RED, Colour


def pdf(colours: Sequence[Colour] = (RED,), size: tuple[int, int] = (100, 200)) -> bytes:
    """A document with a page of `size` points for each colour, filled with it."""
    pages = [Image.new("RGB", size, colour) for colour in colours]
    file = io.BytesIO()
    pages[0].save(file, "PDF", save_all=True, append_images=pages[1:], resolution=72)
    return file.getvalue()


def drawn_pdf(content: bytes, box: str = "0 0 200 100", more: bytes = b"", trailer: bytes = b"") -> bytes:
    """A page of vectors, written by hand: `content` in PDF's own operators."""
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        f"<< /Type /Page /Parent 2 0 R /MediaBox [{box}] /Contents 4 0 R ".encode() + more + b">>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content),
    ]
    file, places = b"%PDF-1.4\n", []
    for number, each in enumerate(objects, 1):
        places.append(len(file))
        file += b"%d 0 obj\n%s\nendobj\n" % (number, each)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    start = len(file)
    file += b"xref\n0 %d\n0000000000 65535 f \n%s" % (len(objects) + 1, table)
    file += b"trailer << /Size %d /Root 1 0 R %s >>\n" % (len(objects) + 1, trailer)
    return file + b"startxref\n%d\n%%%%EOF\n" % start


def encrypted_pdf() -> bytes:
    """One that opens with a password only, which nobody knows."""
    secret = b"<" + b"41" * 32 + b">"
    lock = b"/ID [<41> <41>] /Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O %s /U %s >>" % (secret, secret)
    return drawn_pdf(b"", trailer=lock)
