"""The command starts fast, because it imports nothing heavy before a verb needs it."""

from __future__ import annotations

import subprocess
import sys

from gguf_vl import __version__
from tests.cli.command import gguf_vl

VERBS = ("ask", "pull", "list", "import", "show", "verify", "rm", "doctor")
HEAVY = ("llama_cpp", "textual", "PIL", "fastapi", "huggingface_hub", "numpy", "psutil", "rich", "jinja2", "asyncio")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nsys.argv = ['gguf-vl', '--help']\n"
        "try:\n    from gguf_vl.cli import main; main()\nexcept SystemExit: pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert "ask" in done.stdout
    assert done.stderr.strip() == "[]"


def test_help_comes_by_both_names_and_without_a_verb() -> None:
    for words in (["--help"], ["-h"], []):
        assert b"doctor" in gguf_vl(*words).stdout + gguf_vl(*words).stderr


def test_every_verb_can_be_told_to_stay_offline() -> None:
    refused = (["pull", "2b", "--offline"], ["--offline", "pull", "2b"])
    assert {gguf_vl(*words).returncode for words in refused} == {6}
    for words in (["list"], ["show", "pocket"], ["config", "path"]):
        assert gguf_vl(*words, "--offline").returncode == 0
    for verb in (*VERBS, "bundle create", "bundle verify", "bundle install", "config get", "config set", "config path"):
        shown = gguf_vl(*verb.split(), "--help").stdout
        assert b"--offline" in shown, verb


def test_version_is_printed() -> None:
    assert gguf_vl("--version").stdout.decode() == f"gguf-vl {__version__}\n"
