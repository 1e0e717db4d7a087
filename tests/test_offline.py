"""Offline means no socket to anywhere and no name looked up, for every command: system calls are traced."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gguf_vl.store.bundle.create import create
from gguf_vl.store.progress import Silent
from tests.cli.command import SHAPES, gguf_vl
from tests.store.bundles import PROJECTOR, TEXT, install_model

STRACE, UNSHARE = shutil.which("strace"), shutil.which("unshare")
COMMANDS = (
    ("ask", SHAPES, "What colour is the circle?"),
    ("ask", "--json", "Hello!"),
    ("pull", "2b"),
    ("pull", "hf:owner/repo"),
    ("pull",),
    ("list",),
    ("show", "2b"),
    ("verify",),
    ("import", "--scan", "--dry-run"),
    ("rm", "carried", "--yes"),
    ("bundle", "create", "carried", "-o", "new.tar"),
    ("bundle", "create", "pocket", "-o", "new.tar", "--with-packages"),
    ("bundle", "verify", "carried.tar"),
    ("bundle", "install", "carried.tar"),
    ("doctor",),
    ("config", "get"),
)
NETWORK = re.compile(r"\b(?:socket\(AF_INET6?|connect\([^)]*AF_INET6?|sendto\([^)]*AF_INET6?)")
NEED_THE_NETWORK = ("pull", "--with-packages")
LOOKUPS = ("/etc/resolv.conf", "/etc/hosts", "nscd")


@pytest.mark.skipif(not STRACE, reason="strace is not here")
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_no_command_opens_a_socket_or_looks_up_a_name(words: tuple[str, ...], tmp_path: Path) -> None:
    folder = install_model("carried", TEXT, PROJECTOR)
    create(["carried"], tmp_path / "carried.tar", Silent())
    if "install" in words:
        shutil.rmtree(folder)
    trace = tmp_path / "trace"
    calls = "trace=socket,connect,sendto,sendmsg,bind,open,openat"
    done = subprocess.run(
        [str(STRACE), "-f", "-qq", "-e", calls, "-o", trace, sys.executable, "-P", "-m", "gguf_vl", *words],
        env=os.environ | {"GGUF_VL_OFFLINE": "1", "HOME": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        cwd=tmp_path,
        timeout=120,
    )
    assert done.returncode == (6 if any(word in words for word in NEED_THE_NETWORK) else 0), done.stderr
    seen = trace.read_text(errors="replace")
    assert "openat(" in seen
    assert NETWORK.findall(seen) == []
    assert [name for name in LOOKUPS if name in seen] == []


@pytest.mark.skipif(not STRACE, reason="strace is not here")
def test_the_trace_sees_what_a_pull_does_online(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    subprocess.run(
        [str(STRACE), "-fqqe", "trace=socket", "-o", trace, sys.executable, "-P", "-m", "gguf_vl", "pull", "2b"],
        env=os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "MODELSCOPE_DOMAIN": "http://127.0.0.1:9"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
    )
    assert NETWORK.findall(trace.read_text(errors="replace"))


def _namespaces_work() -> bool:
    return bool(UNSHARE) and subprocess.run([str(UNSHARE), "-rn", "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not _namespaces_work(), reason="this system gives no network namespace to an ordinary user")
def test_without_any_network_interface_it_answers_and_says_how_to_get_models() -> None:
    def alone(*words: str) -> subprocess.CompletedProcess[bytes]:
        command = [str(UNSHARE), "-rn", sys.executable, "-P", "-m", "gguf_vl", *words]
        return subprocess.run(command, capture_output=True, timeout=120)

    assert alone("ask", SHAPES, "What colour is the circle?").stdout == b"red\n"
    done = alone("pull", "2b")
    assert done.returncode == 1
    assert b"cannot be reached" in done.stderr
    assert b"gguf-vl bundle" in done.stderr


def test_the_flag_is_the_variable() -> None:
    assert gguf_vl("pull", "--offline", "2b").returncode == 6
    assert gguf_vl("ask", "--offline", SHAPES, "What colour is the circle?").stdout == b"red\n"
