"""What a model takes, in bytes: weights and KV cache exactly, buffers by formulas fitted to llama.cpp 0c1e57098.

Where llama.cpp has been asked itself, its answer stands instead of a formula.
"""

from __future__ import annotations

from gguf_vl.gguf import ProjectorShape, TextShape
from gguf_vl.types import KvType

CELLS = 256
"""llama.cpp rounds a context up to a multiple of these cells."""
KV_BLOCK: dict[KvType, tuple[int, int]] = {"f16": (1, 2), "q8_0": (32, 34), "q4_0": (32, 18)}
"""Elements of a block, and its bytes."""
_INPUT_BYTES = {"F16": 2.0, "Q8_0": 34 / 32}
"""Bytes of a number that a CPU multiplies with weights of this type."""


def cells(n_ctx: int) -> int:
    """Cells of a KV cache for `n_ctx` tokens."""
    return -(-n_ctx // CELLS) * CELLS


def kv(text: TextShape, n_ctx: int, kv_type: KvType, first: int = 0, end: int | None = None) -> int:
    """Bytes of the keys and values of layers `first` to `end` (not included), of all by default.

    All sequences share the cells.
    """
    block, block_bytes = KV_BLOCK[kv_type]
    elements = sum(text.n_head_kv[first:end]) * (text.head_dim_k + text.head_dim_v)
    return elements * block_bytes // block * cells(n_ctx)


def weights(text: TextShape, n_gpu_layers: int) -> tuple[int, int]:
    """Bytes of weights in main memory, and on the devices, with that many layers offloaded, the last ones first.

    llama.cpp counts the output as one more layer behind the last. The token embeddings always stay in main memory;
    where they are the output as well (tied), a device that has the output gets a copy of them.
    """
    n = text.n_layer + 1 if n_gpu_layers < 0 else min(n_gpu_layers, text.n_layer + 1)
    embeddings = text.other_bytes["token_embd.weight"]
    output = sum(text.other_bytes.values()) - embeddings
    offloaded = sum(text.layer_bytes[text.n_layer - (n - 1) :]) if n else 0
    host = embeddings + sum(text.layer_bytes) - offloaded
    if not n:
        return host + output, 0
    return host, offloaded + output + (embeddings if text.tied_embeddings else 0)


def compute(text: TextShape, n_ctx: int, n_batch: int) -> int:
    """Bytes of the buffer in which a processor computes a batch, with one output for each sequence.

    Per token of the batch: its embedding with those for DeepStack, six vectors of the model's width, three of the
    feed-forward's, and a row of the attention mask in float16. llama.cpp reserves the same for Qwen3-VL 2B, 4B and 8B
    on a CPU at 2,048 to 262,144 tokens of context and batches of 64 to 2,048, within 0.2 MB.
    """
    return _buffer(text, n_ctx, n_batch, n_embd=1 + text.n_deepstack + 6, n_ff=3)


def device_compute(text: TextShape, n_ctx: int, n_batch: int) -> int:
    """The same on a GPU that has all layers; exact on Vulkan. The batch's embeddings stay in main memory.

    With some layers in main memory it computes those too, and takes at most one of their matrices and one of their
    caches more.
    """
    return _buffer(text, n_ctx, n_batch, n_embd=6, n_ff=3)


def inputs(text: TextShape, n_ctx: int, n_batch: int) -> int:
    """Bytes that stay in main memory when a GPU computes: the batch's embeddings and its attention mask."""
    return _buffer(text, n_ctx, n_batch, n_embd=2 + text.n_deepstack, n_ff=0)


def _buffer(text: TextShape, n_ctx: int, n_batch: int, *, n_embd: int, n_ff: int) -> int:
    """So many float32 vectors of each width per token, and its row of the attention mask."""
    return n_batch * (4 * (n_embd * text.n_embd + n_ff * text.n_ff) + 2 * cells(n_ctx)) + (128 << 10)


def output(text: TextShape, n_outputs: int) -> int:
    """Bytes of the logits that are handed out. llama.cpp has room for those of every sequence."""
    return 4 * text.n_vocab * n_outputs


def encode_buffer(projector: ProjectorShape, image_tokens: int, *, on_gpu: bool) -> int:
    """Bytes of the buffer in which a picture is encoded: float32 vectors of the tower's width for each patch.

    With flash attention, so it grows with the picture and not with its square. On a CPU llama.cpp reserves 9.75 vectors
    for the 2B's and the 4B's tower and 10.0 for the 8B's, on Vulkan 10.75 and 10.4: at most 4 % less than said here.
    """
    quarters = 43 if on_gpu else 40
    return quarters * projector.n_embd * projector.spatial_merge**2 * image_tokens


def encode(projector: ProjectorShape, image_tokens: int) -> int:
    """Bytes that encoding a picture takes on a CPU in its worst moment.

    Beside the buffer a matrix product needs its input once more, in the weights' type; there are the embeddings, 24
    bytes for each pixel, and what malloc keeps of freed blocks. Measured with the 2B at 64 to 4,096 image tokens.
    """
    product = _INPUT_BYTES.get(projector.quantisation, 2.0) * projector.n_ff * projector.spatial_merge**2 * image_tokens
    freed = min(64 << 20, (48 << 10) * image_tokens)
    beside = round(product) + embeddings(projector, image_tokens) + 24 * _pixels(projector, image_tokens) + freed
    return encode_buffer(projector, image_tokens, on_gpu=False) + beside


def beside_encode(projector: ProjectorShape, image_tokens: int) -> int:
    """Bytes in main memory while a GPU encodes a picture: its pixels as bytes and as numbers, its embeddings twice."""
    return 15 * _pixels(projector, image_tokens) + 2 * embeddings(projector, image_tokens)


def _pixels(projector: ProjectorShape, image_tokens: int) -> int:
    return (projector.patch * projector.spatial_merge) ** 2 * image_tokens


def embeddings(projector: ProjectorShape, image_tokens: int) -> int:
    """Bytes of one picture's embeddings in float32."""
    return 4 * projector.embedding_width * image_tokens
