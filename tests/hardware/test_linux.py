"""What /proc and /sys show of processors, GPUs, screens and disks, from recorded and made-up trees."""

from __future__ import annotations

from pathlib import Path

import pytest

from gguf_vl.hardware import linux
from tests.hardware.recordings import lay_out, recording


@pytest.mark.parametrize(
    ("name", "gpus"),
    [
        ("rtx-3060-12gb", ["NVIDIA GPU (10de:2504)"]),
        ("rtx-4090-24gb", ["NVIDIA GPU (10de:2684)", "Intel integrated GPU (8086:a780)"]),
        ("a10g-24gb", ["NVIDIA GPU (10de:2237)"]),
        ("laptop-iris-xe-16gb", ["Intel integrated GPU (8086:46a6)"]),
        ("wsl2-rtx-4060-laptop-8gb", []),
        ("container-4gb", []),
    ],
)
def test_gpus_on_the_bus_are_named_and_other_things_are_not(tmp_path: Path, name: str, gpus: list[str]) -> None:
    root = lay_out(recording(name, "tree"), tmp_path)
    assert [gpu.name for gpu in linux.gpus(root)] == gpus


@pytest.mark.parametrize(("memory", "name"), [(536870912, "AMD integrated GPU"), (25753026560, "AMD GPU")])
def test_an_amd_gpu_is_integrated_when_it_has_hardly_memory_of_its_own(tmp_path: Path, memory: int, name: str) -> None:
    folder = "sys/bus/pci/devices/0000:c1:00.0"
    tree = f"{folder}/class: 0x030000\n{folder}/vendor: 0x1002\n{folder}/device: 0x744c\n"
    [gpu] = linux.gpus(lay_out(f"{tree}{folder}/mem_info_vram_total: {memory}", tmp_path))
    assert gpu.name.startswith(name)


def test_a_gpu_with_a_screen_on_drives_a_display(tmp_path: Path) -> None:
    tree = recording("laptop-iris-xe-16gb", "tree")
    assert linux.drives_display("0000:00:02.0", lay_out(tree, tmp_path / "on")) is True
    dark = tree.replace("enabled: enabled", "enabled: disabled")
    assert linux.drives_display("0000:00:02.0", lay_out(dark, tmp_path / "off")) is False
    assert linux.drives_display("0000:01:00.0", tmp_path / "on") is None


@pytest.mark.parametrize(
    ("disk", "rotates", "kind"), [("nvme0n1", 0, "nvme"), ("sda", 0, "ssd"), ("sda", 1, "hdd"), ("dm-0", 0, "ssd")]
)
def test_a_disk_tells_its_kind(tmp_path: Path, disk: str, rotates: int, kind: str) -> None:
    tree = f"sys/devices/{disk}/queue/rotational: {rotates}\nsys/dev/block/8:0 -> ../../devices/{disk}"
    assert linux.disk_kind(8, 0, lay_out(tree, tmp_path)) == kind


def test_a_partition_is_as_its_disk(tmp_path: Path) -> None:
    assert linux.disk_kind(259, 1, lay_out(recording("a10g-24gb", "tree"), tmp_path)) == "nvme"


def test_a_virtual_disk_and_none_at_all_do_not_tell(tmp_path: Path) -> None:
    lay_out("sys/devices/vda/queue/rotational: 1\nsys/dev/block/254:0 -> ../../devices/vda", tmp_path)
    with pytest.raises(ValueError, match="virtual disk"):
        linux.disk_kind(254, 0, tmp_path)
    with pytest.raises(ValueError, match="no disk"):
        linux.disk_kind(0, 45, tmp_path)


def test_boards_without_a_processor_s_name_are_named_themselves(tmp_path: Path) -> None:
    lay_out("proc/cpuinfo: processor\t: 0\nproc/device-tree/model: Raspberry Pi 5 Model B Rev 1.0\0", tmp_path)
    assert linux.chip(tmp_path) == "Raspberry Pi 5 Model B Rev 1.0"
    assert linux.chip(tmp_path / "nowhere") is None
