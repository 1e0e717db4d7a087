"""A look at the machine gives plain facts, fails on nothing, and remembers what does not change."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest

from gguf_vl import paths
from gguf_vl.hardware import machine
from gguf_vl.hardware.recorded import machine_from_json
from gguf_vl.types import Device
from tests.hardware.recordings import NAMES, Programs, lay_out, recording

MIB = 1024**2


def llama_cpp_says(device: Device, **also: object) -> dict[str, object]:
    """A device as the child that asks llama.cpp prints it."""
    said = {
        name: getattr(device, name) for name in ("name", "description", "backend", "kind", "free", "total", "unified")
    }
    return said | {"id": None} | also


def put_3060(programs: Programs, root: Path, **also: object) -> None:
    """The recorded desktop, whose card llama.cpp sees with 11,485 MiB free and its driver with 11,630."""
    lay_out(recording("rtx-3060-12gb", "tree"), root)
    programs.put("nvidia-smi", recording("rtx-3060-12gb", "nvidia-smi"))
    card = machine_from_json(recording("rtx-3060-12gb", "json")).devices[0]
    programs.put_llama_cpp([llama_cpp_says(card, id="0000:06:00.0") | also])


def test_the_machine_tells_its_memory_cores_and_devices() -> None:
    here = machine.probe()
    assert here.memory_total == psutil.virtual_memory().total
    assert 0 < here.memory_available <= here.memory_total
    assert 1 <= here.cores <= (psutil.cpu_count() or 1)
    assert here.trouble is None
    assert "cpu" in {device.kind for device in here.devices}
    assert {device.backend for device in here.devices if device.kind == "cpu"} == {"CPU"}
    assert here.bandwidth is None or here.bandwidth > 1e8


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


@pytest.mark.parametrize("name", [name for name in NAMES if recording(name, "tree")])
def test_a_recorded_machine_is_seen_as_it_is_recorded(programs: Programs, tmp_path: Path, name: str) -> None:
    recorded = machine_from_json(recording(name, "json"))
    if recording(name, "nvidia-smi"):
        programs.put("nvidia-smi", recording(name, "nvidia-smi"))
    lay_out(recording(name, "tree"), tmp_path / "root")
    buses = [line.split(",")[0].lower()[4:] for line in recording(name, "nvidia-smi").splitlines()] or ["0000:00:02.0"]
    gpu, *rest = [llama_cpp_says(device) for device in recorded.devices]
    programs.put_llama_cpp([gpu | {"id": buses[0]} if rest else gpu, *rest], gpu_offload=recorded.gpu_offload)

    seen = machine.probe(tmp_path / "root")

    for what in ("chip", "cores", "performance_cores", "gpu_seen", "gpu_offload", "trouble"):
        assert getattr(seen, what) == getattr(recorded, what), what
    if recorded.memory_limit:
        assert (seen.memory_limit, seen.memory_available) == (recorded.memory_limit, recorded.memory_available)
    for got, expected in zip(seen.devices, recorded.devices, strict=True):
        measured = expected.kind == "cpu" or expected.unified
        assert asdict(got) | {"bandwidth": None} == asdict(expected) | {"bandwidth": None}
        assert measured or got.bandwidth == expected.bandwidth


@pytest.mark.parametrize("name", ["macbook-air-m2-8gb", "macbook-pro-m3-max-36gb"])
def test_a_recorded_mac_is_seen_as_it_is_recorded(
    programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    recorded = machine_from_json(recording(name, "json"))
    programs.put("sysctl", recording(name, "sysctl"))
    programs.put_llama_cpp([llama_cpp_says(device) for device in recorded.devices])
    for _ in range(2):
        seen = machine.probe(tmp_path)
        for what in ("chip", "performance_cores", "bandwidth", "devices", "gpu_seen", "memory_pressure", "disk"):
            assert getattr(seen, what) == getattr(recorded, what), what
    assert programs.runs("python") == 1


def test_free_memory_of_a_card_is_read_anew_and_the_rest_is_remembered(programs: Programs, tmp_path: Path) -> None:
    root = tmp_path / "root"
    put_3060(programs, root)
    [first] = machine.probe(root).devices
    assert first.free == 11485 * MIB
    busier = recording("rtx-3060-12gb", "nvidia-smi").replace("412, 11630", "1412, 10630")
    programs.put("nvidia-smi", busier)
    [second] = machine.probe(root).devices
    assert second.free == 10485 * MIB
    assert second.others == 1412 * MIB
    assert programs.runs("python") == 1


@pytest.mark.parametrize("change", ["boot", "environment", "another card", "cache"])
def test_what_was_remembered_is_forgotten_when_it_may_have_changed(
    programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    root = tmp_path / "root"
    put_3060(programs, root)
    machine.probe(root)
    match change:
        case "boot":
            (root / "proc/sys/kernel/random/boot_id").write_text("another")
        case "environment":
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
        case "another card":
            programs.put("nvidia-smi", recording("rtx-4090-24gb", "nvidia-smi"))
        case "cache":
            (paths.cache_dir() / "machine.json").write_text('{"key":')
    machine.probe(root)
    assert programs.runs("python") == 2


def test_devices_whose_free_memory_only_llama_cpp_knows_are_asked_every_time(
    programs: Programs, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    put_3060(programs, root, backend="Vulkan", name="Vulkan0")
    for _ in range(2):
        [card] = machine.probe(root).devices
        assert card.free == 11485 * MIB
    assert programs.runs("python") == 2


def test_a_slice_of_a_card_is_not_taken_for_the_card(programs: Programs, tmp_path: Path) -> None:
    root = tmp_path / "root"
    put_3060(programs, root, description="NVIDIA A100-SXM4-40GB MIG 1g.5gb", free=4800 * MIB, total=4864 * MIB)
    said = "00000000:06:00.0, NVIDIA A100-SXM4-40GB, 535.183.01, 40960, 20000, 20326, Disabled, Enabled\n"
    programs.put("nvidia-smi", said)
    for _ in range(2):
        here = machine.probe(root)
        [part] = here.devices
        assert (part.free, part.others, part.bandwidth) == (4800 * MIB, None, None)
        assert "slice" in here.unknown["bandwidth of CUDA0"]
    assert programs.runs("python") == 2


def test_the_variables_that_choose_gpus_reach_llama_cpp_and_are_told_when_they_hide_all(
    programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    programs.put_llama_cpp([])
    script = Path(sys.executable)
    script.write_text(
        script.read_text().replace("/bin/cat", f'echo "$CUDA_VISIBLE_DEVICES" >{tmp_path}/seen; /bin/cat', 1)
    )
    assert "CUDA_VISIBLE_DEVICES is '-1'" in machine.probe(tmp_path).unknown["devices"]
    assert (tmp_path / "seen").read_text() == "-1\n"


@pytest.mark.parametrize(
    ("used", "display", "shared"),
    [
        ("1", "Disabled", False),
        ("1", "Enabled", True),
        ("900", "Disabled", True),
        ("900", "[N/A]", True),
        ("1", "[N/A]", None),
        ("[N/A]", "Disabled", None),
    ],
)
def test_a_card_is_shared_when_a_display_or_another_program_uses_it(
    programs: Programs, tmp_path: Path, used: str, display: str, shared: bool | None
) -> None:
    put_3060(programs, tmp_path / "root")
    said = recording("rtx-3060-12gb", "nvidia-smi").replace(" 412,", f" {used},").replace("Enabled", display)
    programs.put("nvidia-smi", said)
    here = machine.probe(tmp_path / "root")
    assert here.devices[0].shared is shared
    assert ("shared use of CUDA0" in here.unknown) == (shared is None)


def test_a_driver_that_is_broken_is_unknown_with_its_reason(programs: Programs, tmp_path: Path) -> None:
    programs.put(
        "nvidia-smi", "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n", exits=9
    )
    lay_out(recording("rtx-3060-12gb", "tree"), tmp_path / "root")
    here = machine.probe(tmp_path / "root")
    assert "couldn't communicate" in here.unknown["nvidia-smi"]
    assert here.gpu_seen == "NVIDIA GPU (10de:2504)"
    assert here.trouble is None


def test_what_a_driver_prints_into_the_answer_does_not_hide_the_devices(programs: Programs, tmp_path: Path) -> None:
    put_3060(programs, tmp_path / "root")
    python = Path(sys.executable)
    honest = python.read_text()
    python.write_text(honest.replace("/bin/cat", "echo '# driver ready'; /bin/cat", 1))
    assert [device.name for device in machine.probe(tmp_path / "root").devices] == ["CUDA0"]
    paths.cache_dir().joinpath("machine.json").unlink()
    python.write_text("#!/bin/sh\necho gone wrong\n")
    assert "gone wrong" in (machine.probe(tmp_path / "root").trouble or "")


def test_nothing_that_linux_shows_is_needed(tmp_path: Path) -> None:
    here = machine.probe(tmp_path)
    assert {"performance_cores", "disk"} <= here.unknown.keys()
    assert here.memory_available > 0


def test_a_cache_folder_that_cannot_be_written_costs_nothing_but_time(home: Path) -> None:
    home.joinpath("cache").write_text("a file where the folder belongs")
    assert machine.probe().trouble is None


def test_a_second_look_takes_less_than_the_three_hundred_milliseconds_that_a_person_may_wait() -> None:
    machine.probe()
    start = time.perf_counter()
    machine.probe()
    assert time.perf_counter() - start < 0.3
    assert json.loads((paths.cache_dir() / "machine.json").read_text())
