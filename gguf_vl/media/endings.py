"""What files of pictures, documents and videos are called: for lists and completion. What one is, its bytes say."""

from __future__ import annotations

PICTURES = frozenset(".jpg .jpeg .png .webp .gif .bmp .tif .tiff .avif .heic .heif .pdf".split())
"""Pictures and documents."""

VIDEOS = frozenset(".mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .flv .ogv .wmv".split())
"""A file .ts is TypeScript as often as a video."""
