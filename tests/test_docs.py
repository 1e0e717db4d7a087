"""What the documents say is so."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_command_line_reference_is_up_to_date() -> None:
    path = ROOT / "scripts" / "make_cli_reference.py"
    spec = importlib.util.spec_from_file_location("make_cli_reference", path)
    assert spec
    assert spec.loader
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    assert maker.REFERENCE.read_text(encoding="utf-8") == maker.reference(), f"run {path.relative_to(ROOT)}"
