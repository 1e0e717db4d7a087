"""Recorded machines, their /proc and /sys laid out as folders, and programs that print what was recorded."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

MACHINES = Path(__file__).parent / "machines"
NAMES = sorted(path.stem for path in MACHINES.glob("*.json"))


def recording(name: str, kind: str) -> str:
    """A recorded text; empty where the machine has none of this kind."""
    path = MACHINES / f"{name}.{kind}"
    return path.read_text(encoding="utf-8") if path.exists() else ""


def lay_out(tree: str, root: Path) -> Path:
    """Make the files and links that the lines of `tree` name."""
    for line in tree.splitlines():
        if line.startswith("#"):
            continue
        path, arrow, target = line.partition(" -> ")
        if arrow:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).symlink_to(target)
            continue
        # A path may hold colons: what is between it and its line is a colon and a space.
        path, _, content = line.partition(": ")
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        with (root / path).open("a", encoding="utf-8") as file:
            file.write(f"{content}\n")
    return root


class Programs:
    """A folder that is all of PATH, with programs that print a text."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._patch = monkeypatch
        folder.mkdir()
        monkeypatch.setenv("PATH", str(folder))

    def put(self, name: str, prints: str, *, complains: str = "", exits: int = 0) -> Path:
        """A program that notes that it was run, prints, complains on stderr and exits."""
        (self.folder / f"{name}.out").write_text(prints)
        (self.folder / f"{name}.err").write_text(complains)
        program = self.folder / name
        place = f"{self.folder}/{name}"
        program.write_text(
            f'#!/bin/sh\necho "$@" >>{place}.runs\n/bin/cat {place}.out\n/bin/cat {place}.err >&2\nexit {exits}\n'
        )
        program.chmod(0o755)
        return program

    def runs(self, name: str) -> int:
        """How often it was run."""
        noted = self.folder / f"{name}.runs"
        return len(noted.read_text().splitlines()) if noted.exists() else 0

    def put_llama_cpp(self, devices: list[dict[str, object]], *, gpu_offload: bool = True) -> None:
        """In place of the child that asks llama.cpp: its Python becomes a program that prints these devices."""
        said = {"llama_cpp_python": "0.3.36", "gpu_offload": gpu_offload, "devices": devices}
        self._patch.setattr(sys, "executable", str(self.put("python", json.dumps(said))))
