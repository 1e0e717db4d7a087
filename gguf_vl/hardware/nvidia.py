"""What NVIDIA's driver says of its cards, by `nvidia-smi`."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from gguf_vl.hardware import reading

_MIB = 1024**2
_FIELDS = "pci.bus_id,name,driver_version,memory.total,memory.used,memory.free,display_active,mig.mode.current"
_LOAD_FIELDS = "pci.bus_id,name,utilization.gpu,memory.used,memory.total"

IDLE_BYTES = 64 * _MIB
"""A card that nobody uses reports up to some tens of MiB used, by the driver itself."""

_BANDWIDTHS = {
    "GeForce GTX 1070": 256,
    "GeForce GTX 1080": 320,
    "GeForce GTX 1080 Ti": 484,
    "GeForce GTX 1660": 192,
    "GeForce GTX 1660 SUPER": 336,
    "GeForce GTX 1660 Ti": 288,
    "GeForce RTX 2060": 336,
    "GeForce RTX 2060 SUPER": 448,
    "GeForce RTX 2070": 448,
    "GeForce RTX 2070 SUPER": 448,
    "GeForce RTX 2080": 448,
    "GeForce RTX 2080 SUPER": 496,
    "GeForce RTX 2080 Ti": 616,
    "GeForce RTX 3050": 224,
    "GeForce RTX 3060": 360,
    "GeForce RTX 3060 Laptop GPU": 336,
    "GeForce RTX 3060 Ti": 448,
    "GeForce RTX 3070": 448,
    "GeForce RTX 3070 Ti": 608,
    "GeForce RTX 3080": 760,
    "GeForce RTX 3080 Ti": 912,
    "GeForce RTX 3090": 936,
    "GeForce RTX 3090 Ti": 1008,
    "GeForce RTX 4060": 272,
    "GeForce RTX 4060 Laptop GPU": 256,
    "GeForce RTX 4060 Ti": 288,
    "GeForce RTX 4070": 504,
    "GeForce RTX 4070 Laptop GPU": 256,
    "GeForce RTX 4070 SUPER": 504,
    "GeForce RTX 4070 Ti": 504,
    "GeForce RTX 4070 Ti SUPER": 672,
    "GeForce RTX 4080": 717,
    "GeForce RTX 4080 Laptop GPU": 432,
    "GeForce RTX 4080 SUPER": 736,
    "GeForce RTX 4090": 1008,
    "GeForce RTX 4090 Laptop GPU": 576,
    "GeForce RTX 5060": 448,
    "GeForce RTX 5060 Ti": 448,
    "GeForce RTX 5070": 672,
    "GeForce RTX 5070 Ti": 896,
    "GeForce RTX 5080": 960,
    "GeForce RTX 5090": 1792,
    "RTX A2000": 288,
    "RTX A4000": 448,
    "RTX A5000": 768,
    "RTX A6000": 768,
    "RTX 6000 Ada Generation": 960,
    "Tesla T4": 320,
    "A10": 600,
    "A10G": 600,
    "A40": 696,
    "L4": 300,
    "L40S": 864,
    "A100-SXM4-40GB": 1555,
    "A100-SXM4-80GB": 2039,
    "A100 80GB PCIe": 1935,
    "H100 PCIe": 2000,
    "H100 80GB HBM3": 3350,
    "H200": 4800,
}
"""10⁹ bytes per second, from NVIDIA's product pages and datasheets; where a name has two memories, the usual one's."""


@dataclass(frozen=True, slots=True)
class Card:
    """A card as its driver sees it; bytes. None where it does not say.

    `id` is its address on the PCI bus ("0000:01:00.0"). `used` is by everybody, `mig` whether it is cut into slices.
    """

    id: str
    name: str
    driver: str
    total: int | None
    used: int | None
    free: int | None
    display: bool | None
    mig: bool


@dataclass(frozen=True, slots=True)
class Load:
    """How busy a card is, with everybody's work. `busy` is the share of the last moments in which it computed, 0 to 1;
    `used` and `total` are bytes. None where the driver does not say.
    """

    id: str
    name: str
    busy: float | None
    used: int | None
    total: int | None


def look(root: Path = Path("/")) -> tuple[Card, ...] | None:
    """The cards; None where no NVIDIA driver is installed.

    Raises OSError or ValueError where the driver is there and does not answer; the text is the reason.
    """
    rows = _query(_FIELDS, root)
    return None if rows is None else tuple(map(_card, rows))


def loads(root: Path = Path("/")) -> tuple[Load, ...]:
    """How busy the cards are; none where no NVIDIA driver is installed. Raises like `look`."""
    return tuple(map(_load, _query(_LOAD_FIELDS, root) or ()))


def _query(fields: str, root: Path) -> list[list[str]] | None:
    """What the driver says of these fields, card by card; None where none is installed."""
    smi = shutil.which("nvidia-smi")
    if smi is None:
        on_wsl = root / "usr/lib/wsl/lib/nvidia-smi"  # not on the PATH of every shell there
        if not on_wsl.is_file():
            return None
        smi = str(on_wsl)
    said = reading.answer([smi, f"--query-gpu={fields}", "--format=csv,noheader,nounits"])
    rows = [[part.strip() for part in line.split(",")] for line in said.splitlines() if line.strip()]
    for row in rows:
        if len(row) != fields.count(",") + 1:
            raise ValueError(f"nvidia-smi says: {', '.join(row)}")
    return rows


def bandwidth(name: str) -> float | None:
    """Bytes per second of a card's memory as NVIDIA publishes them; None for one not in the table."""
    known = _BANDWIDTHS.get(name.strip().removeprefix("NVIDIA "))
    return known * 1e9 if known else None


def _card(row: list[str]) -> Card:
    bus, name, driver, total, used, free, display, mig = row
    return Card(
        id=_id(bus),
        name=name,
        driver=driver,
        total=_bytes(total),
        used=_bytes(used),
        free=_bytes(free),
        display={"Enabled": True, "Disabled": False}.get(display),
        mig=mig == "Enabled",
    )


def _load(row: list[str]) -> Load:
    bus, name, percent, used, total = row
    return Load(_id(bus), name, int(percent) / 100 if percent.isdigit() else None, _bytes(used), _bytes(total))


def _id(bus: str) -> str:
    """llama.cpp writes four digits of the domain, nvidia-smi eight."""
    domain, _, rest = bus.lower().partition(":")
    return f"{domain[-4:]}:{rest}"


def _bytes(mib: str) -> int | None:
    return int(mib) * _MIB if mib.isdigit() else None  # "[N/A]", "[Not Supported]"
