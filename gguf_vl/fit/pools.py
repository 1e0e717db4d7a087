"""The memory a plan may draw on: main memory and the GPUs, each less a margin for what nobody can foresee."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from gguf_vl.types import MAIN, Device, Machine, Pool

MIB = 1 << 20
GIB = 1 << 30
MAIN_MEMORY = "main memory"
_NOTHING: Mapping[str, int] = MappingProxyType({})


def pools_of(machine: Machine, reserve: int | None = None, missing: Mapping[str, int] = _NOTHING) -> tuple[Pool, ...]:
    """Main memory, then every GPU that llama.cpp would offload to, in its order.

    `reserve` bytes are kept free on each GPU, or in main memory where there is none, in place of the usual margin.
    `missing` bytes of a device are not counted as free.
    """
    gpus = offloadable(machine)
    margin, why = _host_margin(machine)
    if reserve is not None and not gpus:
        margin, why = reserve, "as asked: --reserve"
    main = Pool(MAIN, machine.memory_limit or MAIN_MEMORY, machine.memory_available, margin, why)
    pools = (main, *(_pool(device, machine, reserve) for device in gpus))
    return tuple(replace(pool, free=max(0, pool.free - missing.get(pool.device, 0))) for pool in pools)


def offloadable(machine: Machine) -> list[Device]:
    """The GPUs that llama.cpp offloads to: integrated ones only where there is no other."""
    known = [device for device in machine.devices if device.kind in ("gpu", "igpu") and device.free is not None]
    return [device for device in known if device.kind == "gpu"] or known


def _pool(device: Device, machine: Machine, reserve: int | None) -> Pool:
    free = device.free or 0
    if device.unified:
        free = min(free, machine.memory_available)
    margin, why = _gpu_margin(device, free)
    if reserve is not None:
        margin, why = reserve, "as asked: --reserve"
    within = MAIN if device.unified else None
    maps = device.unified and device.backend in ("MTL", "Metal")
    return Pool(device.name, device.description, free, margin, why, within, maps)


def _host_margin(machine: Machine) -> tuple[int, str]:
    if machine.memory_limit:
        return 64 * MIB + machine.memory_available // 20, "what else counts against the limit: a twentieth and 64 MiB"
    margin = min(2 * GIB, 128 * MIB + machine.memory_available // 10)
    return margin, "other programs: a tenth and 128 MiB, 2 GiB at most"


def _gpu_margin(device: Device, free: int) -> tuple[int, str]:
    if device.unified:  # of what is free: a share of what programs already hold would be left alone twice
        return 128 * MIB + free // 20, "its memory is everybody's: a twentieth and 128 MiB"
    total = device.total or free
    if device.shared:
        return max(768 * MIB, total // 20), "a display or other programs use it: a twentieth, 768 MiB at least"
    if device.shared is None:
        return 384 * MIB + total // 50, "whether others use it is unknown: 2 % and 384 MiB"
    return 256 * MIB + total // 50, "nobody else uses it: 2 % and 256 MiB"
