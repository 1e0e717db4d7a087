"""What Linux shows of the processor, the GPUs on the PCI bus, their screens and the disks; `root` as in `limits`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from gguf_vl.hardware import reading
from gguf_vl.types import DiskKind

_MAKERS = {"0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel"}
_OWN_MEMORY = 2 * 1024**3
"""An AMD GPU with less memory of its own shares the processor's: firmware sets aside up to 1 GiB by itself."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU on the PCI bus. `id` is its address, `model` its maker's numbers ("10de:2504")."""

    id: str
    maker: str
    model: str
    integrated: bool

    @property
    def name(self) -> str:
        """For the person."""
        return f"{self.maker} {'integrated GPU' if self.integrated else 'GPU'} ({self.model})"


def chip(root: Path = Path("/")) -> str | None:
    """The processor's or the board's name."""
    found = re.search(r"^model name\s*: *(.+)$", reading.text(root / "proc/cpuinfo") or "", re.MULTILINE)
    if found:
        return found[1].strip()
    return (reading.text(root / "proc/device-tree/model") or "").strip("\0 ") or None


def gpus(root: Path = Path("/")) -> list[Gpu]:
    """NVIDIA's, AMD's and Intel's GPUs, those with memory of their own first."""
    found = []
    for folder in _listed(root / "sys/bus/pci/devices"):
        maker = _MAKERS.get(reading.text(folder / "vendor") or "")
        if maker is None or not (reading.text(folder / "class") or "").startswith("0x03"):  # a display controller
            continue
        model = f"{reading.text(folder / 'vendor')}:{reading.text(folder / 'device')}".replace("0x", "")
        integrated = {
            "NVIDIA": False,
            "AMD": (reading.number(folder / "mem_info_vram_total") or 0) < _OWN_MEMORY,
            "Intel": folder.name.endswith(":00:02.0"),  # where Intel's processors have had theirs since 2004
        }[maker]
        found.append(Gpu(folder.name, maker, model, integrated))
    return sorted(found, key=lambda gpu: gpu.integrated)


def drives_display(gpu_id: str, root: Path = Path("/")) -> bool | None:
    """Whether a screen is on at the GPU with this PCI address; None where Linux does not say."""
    entries = _listed(root / "sys/class/drm")
    cards = {entry.name for entry in entries if (entry / "device").resolve().name == gpu_id}
    if not cards:
        return None
    outlets = [entry for entry in entries if entry.name.partition("-")[0] in cards]  # "card0-HDMI-A-1"
    return any(reading.text(outlet / "enabled") == "enabled" for outlet in outlets)


def disk(folder: Path, root: Path = Path("/")) -> DiskKind:
    """The kind of disk that a folder lies on. Raises ValueError where Linux does not say."""
    device = os.stat(folder).st_dev
    return disk_kind(os.major(device), os.minor(device), root)


def disk_kind(major: int, minor: int, root: Path = Path("/")) -> DiskKind:
    """The kind of the disk with these numbers. Raises ValueError where Linux does not say."""
    block = (root / f"sys/dev/block/{major}:{minor}").resolve()
    whole = block.parent if (block / "partition").exists() else block
    rotates = reading.number(whole / "queue/rotational")
    if rotates is None:
        raise ValueError("the file system lies on no disk that /sys shows")
    if re.match(r"(vd|xvd)[a-z]", whole.name):
        raise ValueError(f"{whole.name} is a virtual disk, which does not tell what is below it")
    if rotates:
        return "hdd"
    return "nvme" if whole.name.startswith("nvme") else "ssd"


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []
