"""What a machine has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

DeviceKind = Literal["cpu", "gpu", "igpu", "accel"]
DiskKind = Literal["nvme", "ssd", "hdd"]
MemoryPressure = Literal["normal", "warning", "critical"]


@dataclass(frozen=True, slots=True)
class Device:
    """A device llama.cpp can compute on. Bytes are None where unknown.

    `name` is llama.cpp's ("CUDA0"), `backend` its library ("CUDA"). A `unified` device computes in main memory, so what
    it holds is taken from there too; its `total` is the most it may hold (Apple's working set). `shared` says that a
    display or other programs use it beside us. `bandwidth` is bytes per second of its memory, as its maker publishes.
    `driver` is its driver's version, `others` the bytes that other programs hold on it.
    """

    name: str
    description: str
    backend: str
    kind: DeviceKind
    free: int | None
    total: int | None
    unified: bool = False
    shared: bool | None = None
    bandwidth: float | None = None
    driver: str | None = None
    others: int | None = None


@dataclass(frozen=True, slots=True)
class Machine:
    """What this machine has, in plain numbers. Bytes for memory; None is unknown, and `unknown` says why.

    `memory_available` is what a process may still take: the system's figure, or less where a container or a limit of
    this process says so; `memory_limit` names that limit, None where nothing but the hardware limits. `gpu_seen` names
    a GPU that the system shows, whether or not llama.cpp can use it. `cores` are those this process may use, without
    hyper-threads and never more than a container's share of processor time; `performance_cores` are the fast ones
    among them. `bandwidth` is bytes per second of main memory: its maker's figure for Apple's chips, elsewhere measured
    by a short copy, which a busy or many-channelled machine exceeds. `gpu_offload`: llama.cpp was built with a GPU
    backend, whether or not it finds a device. `llama_cpp_python` is None when it cannot be run, and `trouble` says why.
    `memory_pressure` and `gpu_wired_limit` are macOS's: how short of memory it is, and the bytes a person let the GPU
    hold (`iogpu.wired_limit_mb`, None where macOS decides). `disk` is what the models' folder lies on.
    """

    system: str
    chip: str | None
    cores: int
    performance_cores: int | None
    memory_total: int
    memory_available: int
    memory_limit: str | None
    swap_free: int | None
    bandwidth: float | None
    devices: tuple[Device, ...]
    gpu_seen: str | None
    gpu_offload: bool
    llama_cpp_python: str | None
    trouble: str | None
    unknown: Mapping[str, str] = field(default_factory=dict)
    memory_pressure: MemoryPressure | None = None
    gpu_wired_limit: int | None = None
    disk: DiskKind | None = None
