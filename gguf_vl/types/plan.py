"""How a model is loaded, and what that takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from gguf_vl.types.talk import PictureLimits

KvType = Literal["f16", "q8_0", "q4_0"]
MAIN = "RAM"
"""The name of main memory among the pools of a plan."""
Purpose = Literal["weights", "KV", "compute", "projector", "encode", "embeddings", "program"]


@dataclass(frozen=True, slots=True)
class Allocation:
    """Bytes that one thing takes on one device (`MAIN` for main memory), and why so many or how that is known."""

    device: str
    purpose: Purpose
    n_bytes: int
    why: str


@dataclass(frozen=True, slots=True)
class Load:
    """The settings of a load that llama.cpp's buffers depend on.

    `n_batch` is what one `llama_decode` computes at once; `n_gpu_layers` counts the output as one more layer, and
    `split` says how many of them each GPU gets, in llama.cpp's order; empty where there is one GPU or none.
    """

    n_ctx: int
    n_batch: int
    n_seq_max: int
    kv_type: KvType
    n_gpu_layers: int
    split: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Reserved:
    """What llama.cpp says it reserves for a load: bytes to compute by device ("CPU", "CUDA0"), and of the outputs."""

    compute: Mapping[str, int]
    output: int


@dataclass(frozen=True, slots=True)
class Learnt:
    """What was asked or measured, to plan with instead of formulas.

    `reserved` is llama.cpp's own answer for a load. `encode` is bytes on a device that encoding a picture of so many
    image tokens took, by (device, image tokens). `missing` is bytes of a device that are free by its own word, and
    could not be had.
    """

    reserved: Mapping[Load, Reserved] = field(default_factory=dict)
    encode: Mapping[tuple[str, int], int] = field(default_factory=dict)
    missing: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a person has set; None leaves it to the plan. A plan keeps every wish, or says which does not fit.

    `n_ctx` and `image_max_tokens` are tokens, `n_gpu_layers` -1 is all. `reserve` is the bytes to be left free on each
    GPU, or in main memory where there is none, in place of the usual margin.
    """

    n_ctx: int | None = None
    kv_type: KvType | None = None
    n_gpu_layers: int | None = None
    image_max_tokens: int | None = None
    mmproj_offload: bool | None = None
    n_threads: int | None = None
    n_seq_max: int | None = None
    reserve: int | None = None


@dataclass(frozen=True, slots=True)
class Pool:
    """Memory that a plan draws on. `free` is what is there now, `margin` what is left alone, in bytes.

    What is allocated on a device `within` another pool counts there too: unified memory. One that `maps` computes from
    the pages of a mapped file: what main memory has mapped of it too stands there once.
    """

    device: str
    description: str
    free: int
    margin: int
    margin_why: str
    within: str | None = None
    maps: bool = False

    @property
    def usable(self) -> int:
        """Bytes that may be taken."""
        return max(0, self.free - self.margin)


@dataclass(frozen=True, slots=True)
class Choice:
    """A setting as a plan chose it, in words: what, and why."""

    name: str
    value: str
    why: str


@dataclass(frozen=True, slots=True)
class Plan:
    """How a model is loaded here, and what that takes.

    `limits` are the image tokens of a picture; without a projector they mean nothing. `map_weights` leaves the weights
    in the file and maps it. `embedding_budget` is the bytes of pictures' embeddings that may be kept. `gave_way` says
    what was lowered for it to fit, in order. `decode_tps` is the expected tokens per second of one answer, None where
    the memory's bandwidth is unknown.
    """

    load: Load
    limits: PictureLimits
    mmproj_offload: bool
    map_weights: bool
    embedding_budget: int
    n_threads: int
    pools: tuple[Pool, ...]
    allocations: tuple[Allocation, ...]
    choices: tuple[Choice, ...]
    gave_way: tuple[str, ...]
    decode_tps: float | None

    def taken(self, device: str, purpose: Purpose | None = None) -> int:
        """Bytes taken on a device, for everything or one purpose, what lies within its memory included."""
        parts = {device} | {pool.device for pool in self.pools if pool.within == device}
        return sum(
            each.n_bytes for each in self.allocations if each.device in parts and purpose in (None, each.purpose)
        )
