"""`bundle`, as the person who carries the stick runs it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gguf_vl import paths
from tests.cli.command import gguf_vl
from tests.store.bundles import install_model


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    install_model("a")
    done = gguf_vl("bundle", "create", "a", "pocket", "-o", str(tmp_path / "a.tar"))
    assert done.returncode == 0
    assert done.stdout.decode() == f"{tmp_path / 'a.tar'}\n"
    return tmp_path / "a.tar"


def test_a_model_is_packed_verified_carried_and_used(bundle: Path) -> None:
    shutil.rmtree(paths.models_dir())
    verified = gguf_vl("bundle", "verify", str(bundle))
    assert verified.returncode == 0
    assert b"Every byte is right. Not signed." in verified.stdout
    installed = gguf_vl("bundle", "install", str(bundle))
    assert installed.returncode == 0
    assert b"a installed" in installed.stdout
    assert b"pocket is inside gguf-vl already" in installed.stdout
    assert b"a was already here" in gguf_vl("bundle", "install", str(bundle)).stdout
    rows = {row["name"]: row for row in json.loads(gguf_vl("list", "--json").stdout)}
    assert Path(rows["a"]["model"]).is_relative_to(paths.models_dir())


def test_scripts_get_json_and_nothing_else_on_standard_output(bundle: Path) -> None:
    found = json.loads(gguf_vl("bundle", "verify", "--json", str(bundle)).stdout)
    assert [model["name"] for model in found["models"]] == ["a", "pocket"]
    assert (found["signed"], found["signed_by"], found["bytes"]) == (False, None, bundle.stat().st_size)
    done = json.loads(gguf_vl("bundle", "install", "--json", str(bundle)).stdout)
    assert [model["state"] for model in done["models"]] == ["already here", "embedded"]


def test_a_damaged_bundle_ends_with_5_and_the_files_name(bundle: Path) -> None:
    data = bytearray(bundle.read_bytes())
    data[1_000_000] ^= 1
    bundle.write_bytes(data)
    for verb in ("verify", "install"):
        done = gguf_vl("bundle", verb, str(bundle), "--json")
        assert done.returncode == 5
        assert b"a.tar is damaged in models/a/pocket-F16.gguf" in done.stderr
        if verb == "verify":  # what is wrong is what was asked for
            assert "models/a/pocket-F16.gguf" in json.loads(done.stdout)["trouble"]
        else:
            assert done.stdout == b""


def test_parts_for_a_fat_stick(bundle: Path, tmp_path: Path) -> None:
    done = gguf_vl("bundle", "create", "pocket", "-o", str(tmp_path / "p.tar"), "--split", "3M")
    assert done.stdout.decode().split() == [str(tmp_path / f"p.tar.00{number}") for number in (1, 2, 3)]
    assert gguf_vl("bundle", "verify", str(tmp_path / "p.tar.001")).returncode == 0


@pytest.mark.skipif(os.name != "posix", reason="ulimit is a POSIX shell's")
def test_a_file_system_that_takes_no_large_files_is_told_and_packing_goes_on_elsewhere(tmp_path: Path) -> None:
    out = str(tmp_path / "p.tar")
    command = f"ulimit -f 4096; exec {shlex.quote(sys.executable)} -P -m gguf_vl bundle create pocket -o {out}"
    done = subprocess.run(["sh", "-c", command], capture_output=True)
    assert done.returncode == 1
    assert b"--split 4G" in done.stderr
    assert b"p.tar.part" in done.stderr
    assert gguf_vl("bundle", "create", "pocket", "-o", out).returncode == 0


def test_wrong_usage_and_what_is_missing_have_their_exit_codes(bundle: Path, tmp_path: Path) -> None:
    new = str(tmp_path / "new.tar")
    assert gguf_vl("bundle", "create", "pocket", "-o", str(bundle)).returncode == 2
    assert gguf_vl("bundle", "create", "pocket", "-o", new, "--split", "big").returncode == 2
    assert gguf_vl("bundle", "create", "pocket", "-o", new, "--wheel", "x.whl").returncode == 2
    assert gguf_vl("bundle", "create", "pocket").returncode == 2
    assert gguf_vl("bundle", "create", "8b", "-o", new).returncode == 3
    assert gguf_vl("bundle", "verify", new).returncode == 3
    assert gguf_vl("bundle", "verify", str(bundle), "--trust", str(tmp_path / "key.pub")).returncode == 5
    offline = {"GGUF_VL_OFFLINE": "1"}
    assert gguf_vl("bundle", "create", "pocket", "-o", new, "--with-packages", environment=offline).returncode == 6
    assert gguf_vl("bundle", "create", "pocket", "-o", new, "--with-packages", "--offline").returncode == 6
    assert gguf_vl("bundle", "verify", str(bundle), environment=offline).returncode == 0
    assert not list(tmp_path.glob("new*"))
