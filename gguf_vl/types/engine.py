"""An engine: what it is told when it is made, and what it tells of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gguf_vl.types.plan import Allocation, KvType
from gguf_vl.types.talk import PictureLimits

Proof = Literal["none", "reserve", "encode"]


def sequence_ids(n_seq_max: int) -> int:
    """llama.cpp's sequences in an engine that answers so many at once: as many at least are kept for later, and share
    its cells. A power of two, since llama.cpp fills its batches up to a multiple of them.
    """
    return max(16, 2 << (n_seq_max - 1).bit_length())


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Everything the worker needs to load a model and hold it.

    `n_ctx` and `n_batch` are tokens; `n_seq_max` requests are answered at once; `n_gpu_layers` -1 offloads all layers,
    `split` says how many of them each GPU gets, empty leaves it to llama.cpp; `embedding_budget` and `disk_budget` are
    the bytes that may be kept of pictures' embeddings in memory, and on disk of those and of computed sequences. These
    are written when nothing was asked for `spill_after_s` seconds, where computing them again would take longer than
    `spill_s`. `n_threads` serve decoding, and as many encoding, on `n_cores` cores; `limits` are the pictures' image
    tokens that are accepted.
    `map_weights` maps the file instead of reading it. With `speculate`, tokens are guessed from what stood behind the
    same words before. `proof` is what is done with a picture of the largest size before the model counts as loaded:
    what encoding it takes is allocated, or it is encoded.
    """

    model: Path
    mmproj: Path | None
    limits: PictureLimits
    n_ctx: int = 8192
    n_batch: int = 512
    n_seq_max: int = 1
    n_gpu_layers: int = -1
    split: tuple[int, ...] = ()
    mmproj_offload: bool = True
    map_weights: bool = True
    kv_type: KvType = "f16"
    embedding_budget: int = 256 * 1024**2
    disk_budget: int = 4 * 1024**3
    spill_s: float = 1.0
    spill_after_s: float = 3.0
    n_threads: int = 1
    n_cores: int = 1
    speculate: bool = True
    proof: Proof = "none"


@dataclass(frozen=True, slots=True)
class Used:
    """What a loaded model really takes, in bytes.

    `buffers` are what llama.cpp says it allocated, in its log; `devices` is how much less is free on each GPU since
    before the load; `encode` is what encoding the largest picture took on the projector's device, None where none was
    encoded; `resident` is the worker's part of main memory.
    """

    buffers: tuple[Allocation, ...]
    devices: Mapping[str, int]
    encode: int | None
    resident: int


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What the worker says of the model it has loaded. `n_ctx` is tokens, `load_s` seconds."""

    n_ctx: int
    sees_pictures: bool
    load_s: float
    used: Used


@dataclass(frozen=True, slots=True)
class EngineStats:
    """The engine's counters since its worker started, and what it holds now.

    Of `seats`, `running` requests are being answered; `waiting` are not begun. Of the cells of prompts `prompt_tokens`
    were computed, in `prefill_s` seconds, and `tokens_reused` were not, since kept sequences had them; `kept_sequences`
    are those, with `kept_cells` of `cells`, shared ones counted for each. Of the `sequence_ids` these are taken, those
    of running requests too, and the others `free_sequences`. Answers took `decode_s` for `answer_tokens`; a step that
    computes both counts for both. Of the pictures so many were encoded, in `encode_s`, found in memory
    (`pictures_reused`), and found on disk. `embedding_bytes` is memory held by kept embeddings, `disk_bytes` the disk
    that those and sequences take; so many sequences were `spilled` there and `restored`. `preempted` counts requests
    that had to be begun again for want of cells. Of the tokens `drafted` by speculation so many were `accepted`.
    `stuck_s` is how many seconds native code has got no further.
    """

    requests: int
    running: int
    waiting: int
    pictures_encoded: int
    pictures_reused: int
    embedding_bytes: int
    pictures_from_disk: int = 0
    seats: int = 0
    cells: int = 0
    kept_cells: int = 0
    kept_sequences: int = 0
    free_sequences: int = 0
    prompt_tokens: int = 0
    tokens_reused: int = 0
    answer_tokens: int = 0
    encode_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    disk_bytes: int = 0
    preempted: int = 0
    spilled: int = 0
    restored: int = 0
    drafted: int = 0
    accepted: int = 0
    stuck_s: float = 0.0
