"""Where everything goes under given settings: every allocation, on its device, with its reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from gguf_vl.fit import memory
from gguf_vl.gguf import ProjectorShape, TextShape
from gguf_vl.types import MAIN, Allocation, KvType, Learnt, Load, PictureLimits, Pool, sequence_ids

MIB = 1 << 20
PROGRAM = 180 * MIB
"""Python, llama.cpp, the vocabulary and their working memory: 152 MiB after a load, more with a full cache (2B)."""
KEPT_EMBEDDINGS = 32 * MIB
"""Embeddings of pictures that the engine keeps for the next question, at least: one of 1,024 tokens for the 2B."""


@dataclass(frozen=True)
class Subject:
    """What is planned for: a model, its projector if it has one, and the image tokens a picture may take at all."""

    text: TextShape
    projector: ProjectorShape | None
    limits: PictureLimits

    @cached_property
    def all_layers(self) -> int:
        """Layers that can be offloaded; the output counts as the last."""
        return self.text.n_layer + 1

    @cached_property
    def largest_matrix(self) -> int:
        """Bytes of the largest tensor of a layer."""
        return max(tensor.n_bytes for tensor in self.text.tensors if tensor.name.startswith("blk."))

    @cached_property
    def offloaded(self) -> tuple[int, ...]:
        """Bytes of weights on the devices by number of offloaded layers, from none to all."""
        return tuple(memory.weights(self.text, n)[1] for n in range(self.all_layers + 1))

    @cached_property
    def on_host(self) -> tuple[int, ...]:
        """Bytes of weights in main memory by number of offloaded layers."""
        return tuple(memory.weights(self.text, n)[0] for n in range(self.all_layers + 1))


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to load the subject. `n_gpu_layers` is never negative."""

    n_gpu_layers: int
    mmproj_offload: bool
    n_ctx: int
    kv_type: KvType
    image_tokens: int
    n_batch: int
    n_seq_max: int


class Layout:
    """The subject under one setting, over these pools: the first is main memory, the others are GPUs."""

    def __init__(self, subject: Subject, setting: Setting, pools: Sequence[Pool], learnt: Learnt) -> None:
        self._subject = subject
        self._setting = setting
        self._gpus = pools[1:]
        self._learnt = learnt
        self.split = self._split_layers()
        self.load = Load(
            setting.n_ctx,
            setting.n_batch,
            setting.n_seq_max,
            setting.kv_type,
            setting.n_gpu_layers,
            self.split if len(self._gpus) > 1 else (),
        )
        self.allocations = tuple(each for each in self._allocations() if each.n_bytes)

    def overdrawn(self, pools: Sequence[Pool]) -> tuple[Pool, int] | None:
        """The pool that lacks most, and how many bytes; None when everything fits."""
        lacking = [(pool, taken - pool.free + pool.margin) for pool in pools if (taken := self._taken(pool, pools))]
        pool, n_bytes = max(lacking, key=lambda each: each[1])
        return (pool, n_bytes) if n_bytes > 0 else None

    def _taken(self, pool: Pool, pools: Sequence[Pool]) -> int:
        parts = {pool.device, *(each.device for each in pools if each.within == pool.device)}
        return sum(each.n_bytes for each in self.allocations if each.device in parts)

    @property
    def _n_layers_on_host(self) -> int:
        return min(self._subject.text.n_layer, self._subject.all_layers - self._setting.n_gpu_layers)

    def _split_layers(self) -> tuple[int, ...]:
        """Offloaded layers on each GPU: all on the first that holds them; else the first takes what it can, then the
        next, and the last takes all that is left.
        """
        subject, setting = self._subject, self._setting
        if len(self._gpus) < 2:
            return (setting.n_gpu_layers,) if self._gpus else ()
        sizes = [b - a for a, b in zip(subject.offloaded, subject.offloaded[1:], strict=False)]
        offloaded = sizes[: setting.n_gpu_layers]
        sizes = offloaded[1:][::-1] + offloaded[:1]  # layers from first to last, then the output
        layer = memory.kv(subject.text, setting.n_ctx, setting.kv_type, 0, 1)
        compute = memory.device_compute(subject.text, setting.n_ctx, setting.n_batch) + self._borrowed
        rooms = [pool.usable - compute for pool in self._gpus]
        rooms[0] -= sum(each.n_bytes for each in self._vision() if each.device == self._gpus[0].device)
        whole = sum(sizes) + layer * (len(sizes) - 1)
        alone = next((place for place, room in enumerate(rooms) if whole <= room), None)
        if alone is not None:
            return tuple(len(sizes) if place == alone else 0 for place in range(len(rooms)))
        counts = [0] * len(rooms)
        for place, room in enumerate(rooms):
            left = room
            while sizes and (place == len(rooms) - 1 or sizes[0] + layer <= left):
                left -= sizes.pop(0) + layer
                counts[place] += 1
        return tuple(counts)

    def _allocations(self) -> Iterator[Allocation]:
        yield from self._weights()
        yield from self._kv()
        yield from self._compute()
        yield from self._vision()
        yield Allocation(MAIN, "program", PROGRAM, "Python, llama.cpp and the vocabulary")

    def _weights(self) -> Iterator[Allocation]:
        subject, n = self._subject, self._setting.n_gpu_layers
        on_host = self._n_layers_on_host
        held = f"{on_host} of {subject.text.n_layer} layers and the token embeddings" if on_host else "token embeddings"
        if not (n == subject.all_layers and subject.text.tied_embeddings and any(pool.maps for pool in self._gpus)):
            yield Allocation(MAIN, "weights", subject.on_host[n], f"{held}, by the file's own list of tensors")
        for pool, first, last in self._spans():
            n_bytes = subject.offloaded[last] - subject.offloaded[first]
            why = f"{last - first} layers, the output counted as one, by the file's own list of tensors"
            yield Allocation(pool.device, "weights", n_bytes, why)

    def _spans(self) -> Iterator[tuple[Pool, int, int]]:
        """(GPU, a, b): it holds what the step from `a` to `b` offloaded layers adds. The last layers go first."""
        at = self._setting.n_gpu_layers
        for pool, count in zip(self._gpus, self.split, strict=True):
            if count:
                yield pool, at - count, at
                at -= count

    def _kv(self) -> Iterator[Allocation]:
        setting, text = self._setting, self._subject.text
        per_token = memory.kv(text, memory.CELLS, setting.kv_type) / memory.CELLS / 1024
        why = f"{setting.n_ctx:,} tokens of {per_token:.1f} KiB in {setting.kv_type}"
        on_host = memory.kv(text, setting.n_ctx, setting.kv_type, 0, self._n_layers_on_host)
        yield Allocation(MAIN, "KV", on_host, why)
        for pool, first, last in self._spans():
            layers = text.n_layer + 1 - last, text.n_layer + 1 - max(1, first)
            yield Allocation(pool.device, "KV", memory.kv(text, setting.n_ctx, setting.kv_type, *layers), why)

    def _compute(self) -> Iterator[Allocation]:
        setting, text = self._setting, self._subject.text
        reserved = self._learnt.reserved.get(self.load)
        if reserved:
            why = f"llama.cpp's own answer for batches of {setting.n_batch}"
            gpus = {pool.device for pool in self._gpus}
            host = sum(n for device, n in reserved.compute.items() if device not in gpus)
            yield Allocation(MAIN, "compute", host + reserved.output, why)
            for pool in self._gpus:
                yield Allocation(pool.device, "compute", reserved.compute.get(pool.device, 0), why)
            return
        sizes = text, setting.n_ctx, setting.n_batch
        on_gpu = list(self._spans())
        host = memory.inputs(*sizes) if on_gpu else memory.compute(*sizes)
        why = f"batches of {setting.n_batch}, by a formula that is within 1 % of llama.cpp"
        yield Allocation(MAIN, "compute", host + memory.output(text, sequence_ids(setting.n_seq_max)), why)
        for pool, _, _ in on_gpu:
            yield Allocation(pool.device, "compute", memory.device_compute(*sizes) + self._borrowed, why)

    @property
    def _borrowed(self) -> int:
        """What a GPU needs to compute layers that are in main memory: a matrix of theirs, and a cache."""
        if not self._n_layers_on_host:
            return 0
        setting = self._setting
        kv = memory.kv(self._subject.text, setting.n_ctx, setting.kv_type, 0, 1)
        return self._subject.largest_matrix + kv

    def _vision(self) -> Iterator[Allocation]:
        projector, setting = self._subject.projector, self._setting
        if projector is None:
            return
        device = self._gpus[0].device if setting.mmproj_offload else MAIN
        yield Allocation(device, "projector", projector.n_bytes, "its file's own list of tensors")
        tokens = setting.image_tokens
        why = f"the largest picture, {tokens:,} image tokens"
        measured = self._learnt.encode.get((device, tokens))
        how = "by a formula" if measured is None else "as it was measured"
        if measured is not None:
            encode = measured
        elif device == MAIN:
            encode = memory.encode(projector, tokens)
        else:
            encode = memory.encode_buffer(projector, tokens, on_gpu=True)
        yield Allocation(device, "encode", encode, f"{why}, {how}")
        if device != MAIN:
            beside = memory.beside_encode(projector, tokens)
            yield Allocation(MAIN, "encode", beside, f"{why}: its pixels and embeddings")
        yield Allocation(MAIN, "embeddings", KEPT_EMBEDDINGS, "pictures kept for the next question")
