"""A GPU that is here and not used, and the command that mends it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gguf_vl import paths
from gguf_vl.hardware.build import rebuild, unused_gpu
from gguf_vl.hardware.recorded import machine_from_json
from gguf_vl.types import Machine
from tests.hardware.recordings import NAMES, Programs, recording


def without_gpu(name: str) -> Machine:
    """The recorded machine with a llama.cpp that was built for the processor alone."""
    machine = machine_from_json(recording(name, "json"))
    return replace(machine, gpu_offload=False, devices=machine.devices[-1:])


@pytest.fixture
def no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.mark.parametrize("name", NAMES)
def test_a_machine_that_uses_its_gpu_needs_no_mending(name: str) -> None:
    assert unused_gpu(machine_from_json(recording(name, "json"))) is None


@pytest.mark.usefixtures("no_compiler")
def test_an_nvidia_card_without_a_compiler_takes_a_prebuilt_wheel() -> None:
    found = unused_gpu(without_gpu("rtx-3060-12gb"))
    assert found is not None
    assert found.what == "NVIDIA GeForce RTX 3060 is here, but llama-cpp-python was built without it."
    assert found.fix == "scripts/setup --prebuilt cu124"


def test_with_a_compiler_it_is_built(programs: Programs) -> None:
    programs.put("nvcc", "")
    found = unused_gpu(without_gpu("rtx-4090-24gb"))
    assert found is not None
    assert found.fix == "scripts/setup --rebuild"


def test_outside_a_checkout_the_command_is_pip_s(
    programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "PACKAGE", tmp_path / "gguf_vl")
    assert "pip install --force-reinstall" in rebuild()
    assert rebuild("vulkan").endswith("--extra-index-url https://abetlen.github.io/llama-cpp-python/whl/vulkan")
    assert rebuild("metal").endswith("llama-cpp-python==0.3.36")
    programs.put("nvcc", "")
    assert rebuild("cuda").startswith("CMAKE_ARGS=-DGGML_CUDA=on ")


def test_a_mac_is_told_to_build_with_metal() -> None:
    found = unused_gpu(without_gpu("macbook-air-m2-8gb"))
    assert found is not None
    assert found.fix == "scripts/setup --rebuild"


def test_a_pc_s_integrated_gpu_is_no_finding_and_an_amd_card_is() -> None:
    laptop = without_gpu("laptop-iris-xe-16gb")
    assert unused_gpu(laptop) is None
    found = unused_gpu(replace(laptop, gpu_seen="AMD GPU (1002:744c)"))
    assert found is not None
    assert found.fix == "scripts/setup --prebuilt vulkan"


def test_a_build_for_a_gpu_that_finds_none_is_told_why() -> None:
    blind = replace(without_gpu("rtx-3060-12gb"), gpu_offload=True)
    found = unused_gpu(blind)
    assert found is not None
    assert "driver" in found.fix
    hidden = unused_gpu(replace(blind, unknown={"devices": "CUDA_VISIBLE_DEVICES is '-1', which may hide the GPU"}))
    assert hidden is not None
    assert "CUDA_VISIBLE_DEVICES is '-1'" in hidden.fix
