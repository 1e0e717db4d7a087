"""The README's few lines for each client, run as they stand there against a served `pocket`."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.server.conftest import Serve

ROOT = Path(__file__).parents[2]
CLIENTS = Path(sys.prefix) / "clients" / "bin"
"""Programs that do not go together with what gguf-vl needs; `scripts/setup --test` puts them there."""
SNIPPETS = [
    (kind, text)
    for kind, text in re.findall(
        r"^```(\w+)\n(.*?)^```$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S
    )
    if "127.0.0.1:8080" in text
]


def run(words: list[str], tmp_path: Path) -> str:
    done = subprocess.run(
        words,
        cwd=ROOT,
        env=os.environ | {"LLM_USER_PATH": str(tmp_path), "PATH": f"{CLIENTS}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_every_client_has_its_lines() -> None:
    clients = "curl", "openai", "anthropic", "ollama", "litellm", "llm"
    assert [name for name in clients for _, text in SNIPPETS if re.search(rf"^(from )?{name} ", text, re.M)] == [
        *clients
    ]


@pytest.mark.parametrize(("kind", "text"), SNIPPETS, ids=range(len(SNIPPETS)))
def test_it_says_what_the_picture_shows(server: Serve, tmp_path: Path, kind: str, text: str) -> None:
    if text.startswith("curl") and not shutil.which("curl"):
        pytest.skip("curl is not here")
    python = CLIENTS / "python" if "litellm" in text else sys.executable
    lines = text.replace("http://127.0.0.1:8080", server.url)
    said = run([str(python), "-c", lines] if kind == "python" else ["sh", "-ec", lines], tmp_path)
    assert (json.loads(said)["answer"] if said.startswith("{") else said) == "red"
