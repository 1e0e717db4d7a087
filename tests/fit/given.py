"""Models of real shapes and machines of any size, to plan with."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from gguf_vl import catalogue, paths
from gguf_vl.fit.layout import Subject
from gguf_vl.gguf import projector_shape, read_header, text_shape
from gguf_vl.hardware.recorded import machine_from_json
from gguf_vl.store.blueprint import projector_skeleton, text_skeleton
from gguf_vl.types import Device, Machine, Plan
from tests.hardware.recordings import recording

MIB = 1 << 20
GIB = 1 << 30


@cache
def subject(name: str) -> Subject:
    """What the catalogue knows by that name: the published shape, or the embedded model itself."""
    model, variant = catalogue.find(name)
    projector = next(each for each in model.projectors if each.file == variant.mmproj)
    if model.embedded:
        files = [paths.pocket_dir() / variant.file.name, paths.pocket_dir() / projector.file.name]
    else:
        files = [text_skeleton(model, variant), projector_skeleton(model, projector)]
    text, vision = map(read_header, files)
    return Subject(text_shape(text), projector_shape(vision), model.picture_limits)


def without_projector(name: str) -> Subject:
    """The same model from a publisher who left the projector out."""
    return replace(subject(name), projector=None)


def recorded(name: str) -> Machine:
    """One of the recorded machines."""
    return machine_from_json(recording(name, "json"))


def machine(
    available: int, *gpus: Device, bandwidth: float | None = None, cores: int = 8, performance_cores: int | None = None
) -> Machine:
    """A machine with so many bytes of main memory available, and these GPUs."""
    cpu = Device("CPU", "a processor", "CPU", "cpu", None, available, bandwidth=bandwidth)
    return Machine(
        system="Linux",
        chip=None,
        cores=cores,
        performance_cores=performance_cores,
        memory_total=available,
        memory_available=available,
        memory_limit=None,
        swap_free=0,
        bandwidth=bandwidth,
        devices=(*gpus, cpu),
        gpu_seen=gpus[0].description if gpus else None,
        gpu_offload=bool(gpus),
        llama_cpp_python="0.3.36",
        trouble=None,
    )


def card(free: int, number: int = 0, *, shared: bool | None = False, bandwidth: float | None = None) -> Device:
    """A graphics card with memory of its own, all of it free."""
    return Device(f"CUDA{number}", f"card {number}", "CUDA", "gpu", free, free, shared=shared, bandwidth=bandwidth)


def apple_gpu(working_set: int, bandwidth: float | None = None) -> Device:
    """A GPU that computes in main memory and may hold so many bytes of it."""
    return Device(
        "MTL0", "Apple", "Metal", "gpu", working_set, working_set, unified=True, shared=True, bandwidth=bandwidth
    )


def on(plan: Plan, device: str, *purposes: str) -> int:
    """Bytes allocated on a device, for these purposes or for all."""
    found = (each for each in plan.allocations if each.device == device)
    return sum(each.n_bytes for each in found if not purposes or each.purpose in purposes)


def with_bandwidth(where: Machine, bandwidth: float) -> Machine:
    """The machine with memory, its own and that of its GPUs, that gives so many bytes a second."""
    devices = tuple(replace(device, bandwidth=bandwidth) for device in where.devices)
    return replace(where, bandwidth=bandwidth, devices=devices)
