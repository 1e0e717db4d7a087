"""A plan in words: what each setting is, why, and what had to be lowered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gguf_vl.fit.layout import Layout, Setting, Subject
from gguf_vl.fit.search import CONTEXT, LARGEST_CONTEXT
from gguf_vl.types import Choice, Learnt, Machine, Pool, Wishes

MIB = 1 << 20
GIB = 1 << 30


def size(n_bytes: float) -> str:
    """Bytes as a person reads them."""
    return f"{n_bytes / GIB:.1f} GiB" if n_bytes >= GIB else f"{n_bytes / MIB:.0f} MiB"


def gave_way(
    subject: Subject, chosen: Setting, ideal: Setting, pools: Sequence[Pool], learnt: Learnt
) -> tuple[str, ...]:
    """A line for every setting that is lower than it would be with memory to spare, and what is lacking for more."""
    lines = []
    for name, words in _LOWERED.items():
        if getattr(chosen, name) == getattr(ideal, name) or (name == "n_ctx" and chosen.n_ctx > ideal.n_ctx):
            continue
        more = _one_more(subject, name, chosen, ideal)
        lacking = Layout(subject, more, pools, learnt).overdrawn(pools)
        line = words.format(chosen=_shown(chosen, name), more=_shown(more, name))
        if lacking:
            line += f": {lacking[0].device} lacks {size(lacking[1])}"
        elif name == "image_tokens":
            line += ": that is half of the context"
        lines.append(line)
    return tuple(lines)


_LOWERED = {
    "image_tokens": "pictures take at most {chosen} image tokens, not {more}",
    "kv_type": "the KV cache is {chosen}, not {more}",
    "n_ctx": "the context is {chosen} tokens, not {more}",
    "mmproj_offload": "the projector stays in main memory, not on the GPU",
    "n_gpu_layers": "{chosen} layers are on the GPU, not {more}",
}
"""In the order of giving way."""


def _one_more(subject: Subject, name: str, chosen: Setting, ideal: Setting) -> Setting:
    """The chosen setting, with one thing better by what a step is."""
    value = chosen.n_gpu_layers + 1 if name == "n_gpu_layers" else getattr(ideal, name)
    better: Setting = replace(chosen, **{name: value})  # type: ignore[arg-type]
    return better


def _shown(setting: Setting, name: str) -> str:
    value = getattr(setting, name)
    return f"{value:,}" if isinstance(value, int) else str(value)


def choices(
    subject: Subject,
    setting: Setting,
    layout: Layout,
    machine: Machine,
    wishes: Wishes,
    n_threads: int,
    *,
    map_weights: bool,
) -> tuple[Choice, ...]:
    """A line for every setting: what it is, and why."""
    found = [_layers(subject, setting, layout, machine, wishes)]
    if subject.projector:
        found.append(_projector(setting, layout, wishes))
    found.append(_context(subject, setting, wishes))
    asked = "as asked: --kv-type"
    kv_why = {
        "f16": "exact",
        "q8_0": "half the bytes, hardly a difference",
        "q4_0": "the smallest, a little less exact",
    }
    found.append(Choice("KV cache", setting.kv_type, asked if wishes.kv_type else kv_why[setting.kv_type]))
    if subject.projector:
        found.append(_pictures(subject, setting, wishes))
    found.append(Choice("batch", f"{setting.n_batch} tokens", "larger ones take more memory and bring little"))
    found.append(_parallel(setting, wishes))
    found.append(Choice("threads", str(n_threads), _why_threads(n_threads, machine, wishes)))
    found.append(_weights(setting, map_weights=map_weights))
    return tuple(found)


def _layers(subject: Subject, setting: Setting, layout: Layout, machine: Machine, wishes: Wishes) -> Choice:
    n, all_layers = setting.n_gpu_layers, subject.all_layers
    if not layout.split:
        wished = wishes.n_gpu_layers not in (None, 0, -1)
        why = "no GPU that llama.cpp can use" + (f", {wishes.n_gpu_layers} were asked for" if wished else "")
        if machine.gpu_seen and not machine.gpu_offload:
            why = f"llama-cpp-python was built without a GPU backend, though {machine.gpu_seen} is here"
        return Choice("GPU layers", "none", why)
    value = "all" if n == all_layers else "none" if not n else f"{n} of {all_layers}"
    if len(layout.split) > 1 and n:
        value += f" ({' + '.join(map(str, layout.split))})"
    if wishes.n_gpu_layers is not None:
        return Choice("GPU layers", value, "as asked: --gpu-layers")
    return Choice("GPU layers", value, "they fit" if n == all_layers else "more do not fit")


def _projector(setting: Setting, layout: Layout, wishes: Wishes) -> Choice:
    value = "on the GPU" if setting.mmproj_offload else "in main memory"
    if wishes.mmproj_offload and not layout.split:
        return Choice("projector", value, "it was asked onto a GPU, and llama.cpp can use none here")
    if not layout.split or (wishes.n_gpu_layers == 0 and not setting.mmproj_offload):
        return Choice("projector", value, "with the layers")
    if wishes.mmproj_offload is not None:
        return Choice("projector", value, f"as asked: --{'' if wishes.mmproj_offload else 'no-'}mmproj-offload")
    why = "a picture is encoded fastest there" if setting.mmproj_offload else "there is no room for it on the GPU"
    return Choice("projector", value, why)


def _context(subject: Subject, setting: Setting, wishes: Wishes) -> Choice:
    value = f"{setting.n_ctx:,} tokens"
    if wishes.n_ctx:
        beyond = f", beyond the {subject.text.n_ctx_train:,} it was trained with"
        return Choice("context", value, "as asked: --ctx" + (beyond if wishes.n_ctx > subject.text.n_ctx_train else ""))
    if setting.n_ctx == subject.text.n_ctx_train:
        return Choice("context", value, "as much as it was trained with")
    if setting.n_ctx == CONTEXT:
        return Choice("context", value, "room for the largest picture and a long talk")
    if setting.n_ctx == 2 * (wishes.image_max_tokens or 0):
        return Choice("context", value, "the largest picture and as much beside it")
    if setting.n_ctx == LARGEST_CONTEXT * (wishes.n_seq_max or 1):
        return Choice("context", value, "more is taken only when asked for: --ctx")
    return Choice("context", value, "what the memory left over allows")


def _parallel(setting: Setting, wishes: Wishes) -> Choice:
    shared = "requests at once share the context" if setting.n_seq_max > 1 else "one request at a time"
    why = f"as asked: --parallel; {shared}" if wishes.n_seq_max else shared
    return Choice("parallel", str(setting.n_seq_max), why)


def _pictures(subject: Subject, setting: Setting, wishes: Wishes) -> Choice:
    side = round(setting.image_tokens**0.5) * 32
    value = f"{setting.image_tokens:,} image tokens"
    if wishes.image_max_tokens:
        beyond = f", beyond the {subject.limits.max_tokens:,} it was made for"
        is_beyond = setting.image_tokens > subject.limits.max_tokens
        return Choice("pictures", value, f"as asked: --image-max-tokens{beyond if is_beyond else ''}")
    if setting.image_tokens == subject.limits.max_tokens:
        return Choice("pictures", value, f"some {side}×{side} pixels, as much as the model takes")
    return Choice("pictures", value, f"some {side}×{side} pixels; larger ones are shrunk")


def _weights(setting: Setting, *, map_weights: bool) -> Choice:
    if map_weights:
        return Choice("weights", "mapped", "main memory keeps the token embeddings alone")
    if setting.n_gpu_layers:
        return Choice("weights", "read into memory", "what is on the GPU takes no main memory then")
    return Choice("weights", "read into memory", "mapped, they would stand there twice: once more repacked")


def _why_threads(n_threads: int, machine: Machine, wishes: Wishes) -> str:
    if wishes.n_threads:
        return "as asked: --threads"
    if n_threads == 1 != machine.cores:
        return "a model this small answers fastest on one"
    if machine.performance_cores and machine.performance_cores < machine.cores:
        return f"the fast ones of {machine.cores} cores"
    return "one for each core; more only wait for each other"
