"""What macOS says of its chip, memory and GPU, by `sysctl`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from gguf_vl.hardware import reading
from gguf_vl.types import MemoryPressure

_NAMES = (
    "machdep.cpu.brand_string",
    "hw.perflevel0.physicalcpu",
    "iogpu.wired_limit_mb",
    "kern.memorystatus_vm_pressure_level",
)
_PRESSURES: dict[int, MemoryPressure] = {1: "normal", 2: "warning", 4: "critical"}
"""`kern.memorystatus_vm_pressure_level`, as in xnu's `DISPATCH_MEMORYPRESSURE_*`."""

_BANDWIDTHS: dict[str, float | dict[int, float]] = {
    "Apple M1": 68.25e9,
    "Apple M1 Pro": 200e9,
    "Apple M1 Max": 400e9,
    "Apple M1 Ultra": 800e9,
    "Apple M2": 100e9,
    "Apple M2 Pro": 200e9,
    "Apple M2 Max": 400e9,
    "Apple M2 Ultra": 800e9,
    "Apple M3": 100e9,
    "Apple M3 Pro": 150e9,
    "Apple M3 Max": {10: 300e9, 12: 400e9},
    "Apple M3 Ultra": 819e9,
    "Apple M4": 120e9,
    "Apple M4 Pro": 273e9,
    "Apple M4 Max": {10: 410e9, 12: 546e9},
    "Apple M5": 153e9,
}
"""Bytes per second of unified memory, from Apple's technical specifications of the Macs with these chips. The Max chips
of M3 and M4 come in two widths, told apart by their performance cores."""


@dataclass(frozen=True, slots=True)
class Apple:
    """A Mac's own account; None where it says nothing. `wired_limit` is bytes, None where macOS decides."""

    chip: str | None
    performance_cores: int | None
    wired_limit: int | None
    pressure: MemoryPressure | None
    unknown: dict[str, str] = field(default_factory=dict)

    @property
    def bandwidth(self) -> float | None:
        """Bytes per second of main memory as Apple publishes them; None for a chip not in the table."""
        known = _BANDWIDTHS.get(self.chip or "")
        return known.get(self.performance_cores or 0) if isinstance(known, dict) else known


def look() -> Apple:
    """Ask `sysctl`; what it does not say is in `unknown`, with the reason."""
    try:
        said = reading.answer(["sysctl", *_NAMES])
    except OSError as error:
        return Apple(None, None, None, None, {name: str(error) for name in ("chip", "memory_pressure")})
    values = dict(re.findall(r"^([\w.]+): (.*)$", said, re.MULTILINE))  # names that a macOS lacks are left out

    def number(name: str) -> int | None:
        value = values.get(name, "").strip()
        return int(value) if value.isdigit() else None

    wired = number("iogpu.wired_limit_mb")
    found = Apple(
        chip=values.get("machdep.cpu.brand_string", "").strip() or None,
        performance_cores=number("hw.perflevel0.physicalcpu"),
        wired_limit=wired * 1024**2 if wired else None,
        pressure=_PRESSURES.get(number("kern.memorystatus_vm_pressure_level") or 0),
    )
    for what, value, name in (
        ("chip", found.chip, "machdep.cpu.brand_string"),
        ("performance_cores", found.performance_cores, "hw.perflevel0.physicalcpu"),
        ("memory_pressure", found.pressure, "kern.memorystatus_vm_pressure_level"),
        ("gpu_wired_limit", wired, "iogpu.wired_limit_mb"),
    ):
        if value is None:
            found.unknown[what] = f"sysctl does not tell {name}"
    return found
