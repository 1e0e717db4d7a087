"""Pages that stand alone: one file, light and dark, no script, and nothing fetched from anywhere."""

from __future__ import annotations

from html import escape
from pathlib import Path

_POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"


def head(title: str, style: Path) -> str:
    """All of a page that is before its body, with the style sheet in that file."""
    return f"""<!DOCTYPE html>
<html>
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="referrer" content="no-referrer">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<style>
{style.read_text(encoding="utf-8")}</style>
</head>
"""
