"""Holds an exported pair in llama.cpp against the same weights in transformers in float32.

    python compare.py FOLDER

Prints, per picture size and after gguf_vl's own resizing: the largest difference of the picture's embeddings (with
DeepStack), and that of the batched tower used in training; whether the prompt's tokens agree; the largest difference of
the logits after the whole prompt, and whether both choose the same token. Needs gguf_vl installed beside the
requirements.
"""

from __future__ import annotations

import argparse
import ctypes
import json
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as llama
import llama_cpp.mtmd_cpp as mtmd
import numpy as np
import torch
from PIL import Image
from transformers import Qwen3VLForConditionalGeneration

from draw import draw_scene
from evaluate import as_seen
from export import PROJECTOR_FILE, TEXT_FILE, load_pair
from model import MERGE, PATCH, normalise, patches
from tower import see
from vocabulary import encode

SIZES = ((128, 128), (64, 256), (90, 200), (256, 256), (300, 333), (500, 377), (1023, 250), (1200, 1600))
"""Pixels of the drawn pictures, which gguf_vl then resizes as it does any."""
_PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"
_MARKER = "<__media__>"


def prompt(question: str) -> str:
    """The chat template's text for a picture and a question."""
    return f"<|im_start|>user\n{_PICTURE}{question}<|im_end|>\n<|im_start|>assistant\n"


class Native:
    """A pair loaded by llama.cpp on the CPU."""

    def __init__(self, folder: Path, n_ctx: int = 4096) -> None:
        self._silence = llama.llama_log_callback(lambda level, text, data: None)
        llama.llama_log_set(self._silence, ctypes.c_void_p(0))
        mtmd.mtmd_helper_log_set(self._silence, ctypes.c_void_p(0))
        llama.llama_backend_init()
        self.model = llama.llama_model_load_from_file(
            str(folder / TEXT_FILE).encode(), llama.llama_model_default_params()
        )
        context = llama.llama_context_default_params()
        context.n_ctx = context.n_batch = n_ctx
        self.context = llama.llama_init_from_model(self.model, context)
        params = mtmd.mtmd_context_params_default()
        params.use_gpu = params.print_timings = params.warmup = False
        self.vision = mtmd.mtmd_init_from_file(str(folder / PROJECTOR_FILE).encode(), self.model, params)
        if not (self.model and self.context and self.vision):
            raise RuntimeError(f"{folder}: llama.cpp did not load this pair")
        self.width = llama.llama_model_n_embd_inp(self.model)
        self.n_vocab = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self.model))
        self.n_ctx = n_ctx

    def run(self, text: str, picture: Image.Image) -> tuple[list[int], np.ndarray, np.ndarray]:
        """Evaluates a prompt with one picture.

        Returns its text tokens, the picture's embeddings [tokens, width * (1 + DeepStack layers)] and the last logits
        [vocabulary].
        """
        pixels = np.ascontiguousarray(np.asarray(picture.convert("RGB"), np.uint8))
        data = pixels.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        bitmap = mtmd.mtmd_bitmap_init(picture.width, picture.height, data)
        chunks = mtmd.mtmd_input_chunks_init()
        raw = text.replace(_PICTURE, _MARKER).encode()
        given = mtmd.mtmd_input_text(raw, len(raw), False, True)
        bitmaps = (mtmd.mtmd_bitmap_p_ctypes * 1)(bitmap)
        if mtmd.mtmd_tokenize(self.vision, chunks, ctypes.byref(given), bitmaps, 1):
            raise RuntimeError("mtmd_tokenize failed")
        llama.llama_memory_clear(llama.llama_get_memory(self.context), True)
        tokens: list[int] = []
        embeddings = np.zeros((0, self.width), np.float32)
        past = llama.llama_pos(0)
        for index in range(mtmd.mtmd_input_chunks_size(chunks)):
            chunk = mtmd.mtmd_input_chunks_get(chunks, index)
            failed = mtmd.mtmd_helper_eval_chunk_single(
                self.vision, self.context, chunk, past, 0, self.n_ctx, True, ctypes.byref(past)
            )
            if failed:
                raise RuntimeError(f"chunk {index} failed: {failed}")
            if mtmd.mtmd_input_chunk_get_type(chunk) == mtmd.MTMD_INPUT_CHUNK_TYPE_TEXT:
                count = ctypes.c_size_t()
                ids: Any = mtmd.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(count))
                tokens += ids[: count.value]
            else:
                rows = mtmd.mtmd_input_chunk_get_n_tokens(chunk)
                out: Any = mtmd.mtmd_get_output_embd(self.vision)
                embeddings = np.ctypeslib.as_array(out, (rows, self.width)).copy()
        logits = np.ctypeslib.as_array(llama.llama_get_logits_ith(self.context, -1), (self.n_vocab,)).copy()
        mtmd.mtmd_input_chunks_free(chunks)
        mtmd.mtmd_bitmap_free(bitmap)
        return tokens, embeddings, logits


@torch.no_grad()
def run_transformers(
    model: Qwen3VLForConditionalGeneration, text: str, picture: Image.Image
) -> tuple[list[int], np.ndarray, np.ndarray]:
    """As `Native.run`, in transformers' own forward pass."""
    cut = normalise(torch.from_numpy(patches(picture)))
    pixels = cut.view(-1, 3, 1, PATCH, PATCH).expand(-1, -1, 2, -1, -1).reshape(len(cut), -1)
    grid = torch.tensor([[1, picture.height // PATCH, picture.width // PATCH]])
    image = model.config.image_token_id
    ids = list(encode(text))
    at = ids.index(image)
    n_tokens = len(cut) // MERGE**2
    full = torch.tensor([ids[:at] + [image] * n_tokens + ids[at + 1 :]])
    seen = model.model.visual(pixels, grid_thw=grid)
    embeddings = torch.cat([seen.pooler_output, *seen.deepstack_features], dim=1).numpy()
    model.model.rope_deltas = None
    out = model(input_ids=full, pixel_values=pixels, image_grid_thw=grid, mm_token_type_ids=(full == image).int())
    return ids[:at] + ids[at + 1 :], embeddings, out.logits[0, -1].numpy()


def compare(folder: Path) -> list[dict[str, Any]]:
    """One row per picture size."""
    native, model = Native(folder), load_pair(folder).eval()
    rows = []
    for number, size in enumerate(SIZES):
        picture = as_seen(draw_scene(9_000_000 + number, size=size).picture)
        text = prompt("What colour is the circle? 蓝色三角形在哪里？")
        our_tokens, our_embeddings, our_logits = run_transformers(model, text, picture)
        tokens, embeddings, logits = native.run(text, picture)
        trained = see(model, torch.from_numpy(patches(picture))[None], picture.height // PATCH, picture.width // PATCH)
        of_training = torch.cat([trained.tokens[0], *(part[0] for part in trained.deepstack)], dim=1).detach().numpy()
        rows.append(
            {
                "size": list(size),
                "image_tokens": len(embeddings),
                "embeddings": float(np.abs(embeddings - our_embeddings).max()),
                "embeddings_largest": float(np.abs(our_embeddings).max()),
                "embeddings_in_training": float(np.abs(of_training - our_embeddings).max()),
                "tokens_equal": tokens == our_tokens,
                "logits": float(np.abs(logits - our_logits).max()),
                "logits_largest": float(np.abs(our_logits).max()),
                "same_choice": int(logits.argmax()) == int(our_logits.argmax()),
            }
        )
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    for row in compare(parser.parse_args().folder):
        print(json.dumps(row))
