"""The frozen dataclasses that rooms pass to each other. No behaviour beyond what a value knows of itself."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]
KvType = Literal["f16", "q8_0", "q4_0"]
Detail = Literal["low", "auto", "high"]
Stage = Literal["load", "queue", "encode", "prefill"]
DeviceKind = Literal["cpu", "gpu", "igpu", "accel"]
DiskKind = Literal["nvme", "ssd", "hdd"]
MemoryPressure = Literal["normal", "warning", "critical"]
FinishReason = Literal["stop", "length", "loop", "cancelled"]

Proof = Literal["none", "reserve", "encode"]

ToolChoice = Literal["none", "auto", "required"] | str
"""No call, the model's own decision, at least one call, or one call of the tool of that name."""

MAIN = "RAM"
"""The name of main memory among the pools of a plan."""
PATCH = 32
"""Pixels of a picture's side that one image token covers (patch 16 × spatial merge 2, Qwen3-VL)."""


def sequence_ids(n_seq_max: int) -> int:
    """llama.cpp's sequences in an engine that answers so many at once: as many at least are kept for later, and share
    its cells. A power of two, since llama.cpp fills its batches up to a multiple of them.
    """
    return max(16, 2 << (n_seq_max - 1).bit_length())


@dataclass(frozen=True, slots=True)
class PictureLimits:
    """How many image tokens one picture may take."""

    min_tokens: int
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture exactly as the model will see it.

    `rgb` is [height, width, 3] uint8 in row order; both sides are multiples of `PATCH`. `original_size` is
    (width, height) in pixels after EXIF orientation, the frame that boxes are mapped back to. `digest` is the
    SHA-256 of size and pixels: two pictures with one digest give the same embeddings.
    """

    rgb: bytes = field(repr=False)
    width: int
    height: int
    original_size: tuple[int, int]
    digest: str

    @property
    def tokens(self) -> int:
        """Image tokens (cells of the KV cache) this picture takes."""
        return (self.width // PATCH) * (self.height // PATCH)


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `content` holds text and pictures in the order the model reads them."""

    role: Role
    content: tuple[str | Picture, ...]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen.

    temperature 0 is greedy. `top_k` 0 and `top_p` 1 switch those off. The penalties count the tokens of the answer,
    not of the prompt. `logit_bias` is added to the logits of tokens, by their ids. `seed` None draws a new one for
    every request. `max_tokens` None means as far as the context reaches.
    """

    temperature: float = 0.7
    top_k: int = 20
    top_p: float = 0.8
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    logit_bias: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call. `parameters` is the JSON schema of its arguments, None where it has none."""

    name: str
    parameters: Any = None
    description: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """A conversation to be continued by the model. `id` names it to `Engine.cancel` and in logs.

    One that is too long for the context is refused, or with `drop_oldest` answered without its oldest turns. An answer
    may be held to a `grammar` (GBNF) or a JSON `schema`, and may call `tools`: none, as the model likes, at least one,
    or that one. `n_likely` asks for the likelihood of each token and of so many others. `thinking_budget` is the most
    tokens of reasoning. With `loop_guard` an answer that only repeats itself ends.
    """

    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()
    drop_oldest: bool = False
    grammar: str | None = None
    schema: Any = None
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = "auto"
    n_likely: int | None = None
    thinking_budget: int | None = None
    loop_guard: bool = True
    id: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass(frozen=True, slots=True)
class Progress:
    """Work before the first token: image tokens encoded or prompt tokens prefilled so far.

    In the stage "queue", `done` is the place in the queue of `total` requests, 1 for the next.
    """

    stage: Stage
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the answer: whole characters only."""

    text: str


@dataclass(frozen=True, slots=True)
class Thinking:
    """A piece of a Thinking model's reasoning, without its `<think>` tags."""

    text: str


@dataclass(frozen=True, slots=True)
class CallStarted:
    """The model calls a function. `index` counts the calls of an answer from 0, `id` is new for each."""

    index: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class CallArguments:
    """The next piece of the JSON text of a call's arguments."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class CallEnded:
    """A call is over. `complete` says that all pieces of its arguments together are a JSON object."""

    index: int
    complete: bool


@dataclass(frozen=True, slots=True)
class Likely:
    """A token of the answer as (its bytes, natural logarithm of its probability), and the likeliest at its place."""

    token: tuple[bytes, float]
    others: tuple[tuple[bytes, float], ...]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request. `image_tokens` are part of `prompt_tokens`."""

    prompt_tokens: int
    image_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Embedding:
    """A text of `n_tokens` as one vector of length 1: the hidden state behind its last token, [n_embd]."""

    values: tuple[float, ...]
    n_tokens: int


@dataclass(frozen=True, slots=True)
class Timings:
    """Where one request's time went.

    `encode_s` and `prefill_s` are seconds for pictures and prompt; `ttft_s` is seconds from the request's arrival at
    the engine to its first token; `decode_tps` is tokens per second after the first, None with fewer than two.
    `queue_s` is seconds until it was begun, `tokens_reused` how much of the prompt was computed before.
    """

    encode_s: float
    prefill_s: float
    ttft_s: float
    decode_tps: float | None
    queue_s: float = 0.0
    tokens_reused: int = 0


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event of every answer that did not fail.

    `dropped_messages` is how many of the request's oldest messages the model has not seen, for want of context.
    """

    finish_reason: FinishReason
    usage: Usage
    timings: Timings
    dropped_messages: int = 0


CallEvent = CallStarted | CallArguments | CallEnded
Event = Progress | Text | Thinking | CallEvent | Likely | Finished


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Everything the worker needs to load a model and hold it.

    `n_ctx` and `n_batch` are tokens; `n_seq_max` requests are answered at once; `n_gpu_layers` -1 offloads all layers,
    `split` says how many of them each GPU gets, empty leaves it to llama.cpp; `embedding_budget` and `disk_budget` are
    the bytes that may be kept of pictures' embeddings in memory, and on disk of those and of computed sequences. These
    are written when nothing was asked for `spill_after_s` seconds, where computing them again would take longer than
    `spill_s`. `n_threads` serve encoding and decoding; `limits` are the pictures' image tokens that are accepted.
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
    speculate: bool = True
    proof: Proof = "none"


Purpose = Literal["weights", "KV", "compute", "projector", "encode", "embeddings", "program"]


@dataclass(frozen=True, slots=True)
class Allocation:
    """Bytes that one thing takes on one device (`MAIN` for main memory), and why so many or how that is known."""

    device: str
    purpose: Purpose
    n_bytes: int
    why: str


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

    `running` requests are being answered, `waiting` are not begun. `tokens` were computed and `tokens_reused` were not,
    since kept sequences had them; `kept_sequences` are those. `embedding_bytes` is memory held by kept picture
    embeddings. `preempted` counts requests that had to be begun again for want of cells, `spilled` and `restored`
    sequences that were written to disk and read. Of the tokens
    `drafted` by speculation so many were `accepted`. `stuck_s` is how many seconds native code has got no further.
    """

    requests: int
    running: int
    waiting: int
    pictures_encoded: int
    pictures_reused: int
    embedding_bytes: int
    tokens: int = 0
    tokens_reused: int = 0
    kept_sequences: int = 0
    preempted: int = 0
    spilled: int = 0
    restored: int = 0
    drafted: int = 0
    accepted: int = 0
    stuck_s: float = 0.0


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
