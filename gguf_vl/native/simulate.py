"""What llama.cpp would allocate to compute with a model: `python -m gguf_vl.native.simulate`, in a process of its own.

Reads a JSON object from standard input, `{"model": PATH, "n_gpu_layers": N, "split": […], "contexts": [{…}, …]}`, and
prints a list with one object per context: `{"compute": {"CPU": BYTES, …}, "output": BYTES}`, or `{"failure": REASON}`.
llama.cpp loads the file without its weights (`no_alloc`) and reserves the graphs as it would for real, which takes
milliseconds; what it reserved stands in its log alone, to a hundredth of a MiB.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from llama_cpp import llama_cpp as llama

from gguf_vl.errors import InvalidModelFile
from gguf_vl.native import log, model
from gguf_vl.native.context import parameters

MIB = 1 << 20


def simulate(path: Path, n_gpu_layers: int, split: list[int], contexts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What each context would take. Raises `InvalidModelFile` when llama.cpp does not read the file."""
    heard = log.listen()
    llama.llama_backend_init()
    params, _split = model.parameters(n_gpu_layers=n_gpu_layers, split=split, map_weights=False)
    params.no_alloc = True
    loaded = llama.llama_model_load_from_file(os.fsencode(path), params)
    if not loaded:
        reason = log.last_complaint() or "llama.cpp gave no reason"
        raise InvalidModelFile(f"{path.name} cannot be read by llama.cpp: {reason}", "Fetch it again.")
    return [_context(loaded, settings | {"offload": n_gpu_layers != 0}, heard) for settings in contexts]


def _context(loaded: Any, settings: dict[str, Any], heard: log.Heard) -> dict[str, Any]:
    heard.taken()
    context = llama.llama_init_from_model(loaded, parameters(**settings))
    if not context:
        return {"failure": log.last_complaint() or "llama.cpp gave no reason"}
    llama.llama_free(context)
    text = "\n".join(heard.taken())
    compute = {name: round(float(size) * MIB) for name, size in log.COMPUTE.findall(text)}
    return {"compute": compute, "output": round(sum(float(size) for _, size in log.OUTPUT.findall(text)) * MIB)}


if __name__ == "__main__":
    wanted = json.load(sys.stdin)
    print(json.dumps(simulate(Path(wanted["model"]), wanted["n_gpu_layers"], wanted["split"], wanted["contexts"])))
