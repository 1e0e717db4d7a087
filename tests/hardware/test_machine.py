"""A look at the machine gives plain facts, and survives a native library that does not run."""

from __future__ import annotations

import subprocess
import sys

import psutil
import pytest

from gguf_vl.hardware import machine


def test_the_machine_tells_its_memory_cores_and_devices() -> None:
    here = machine.probe()
    assert here.memory_total == psutil.virtual_memory().total
    assert 0 < here.memory_available <= here.memory_total
    assert 1 <= here.cores <= (psutil.cpu_count() or 1)
    assert here.trouble is None
    assert "cpu" in {device.kind for device in here.devices}


def test_looking_at_the_machine_loads_no_native_library() -> None:
    look = "import sys; from gguf_vl.hardware import machine; machine.probe(); sys.exit('llama_cpp' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", look], timeout=60).returncode == 0


def test_a_native_library_that_dies_is_told_and_takes_nothing_down(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setenv("LLAMA_CPP_LIB_PATH", str(tmp_path))
    here = machine.probe()
    assert here.llama_cpp_python is None
    assert here.trouble
    assert "llama-cpp-python does not run here" in here.trouble
