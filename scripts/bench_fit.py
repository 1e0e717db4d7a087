#!/usr/bin/env python3
"""Holds the plan's bytes beside those that llama.cpp allocates, and prints JSON.

    scripts/bench_fit.py --folder DIR          2B, 4B, 8B × Q4_K_M, Q8_0 × contexts × KV types × sequences
    scripts/bench_fit.py --device              no, half and all layers on the first GPU, the projector on either side
    scripts/bench_fit.py … --markdown FILE     and a table of it

Planned: weights and KV by `fit/memory.py`, compute and output as llama.cpp's simulation answers, which is what a plan
uses, and the fitted formula beside it. Real: what llama.cpp says in its log while it loads models with random weights,
made in DIR where they are not there, and removed again unless --keep. A model is loaded once, its contexts one after
the other, in a process of their own. Cells above --most bytes, or above what is free here, are not loaded: their
compute and KV are what llama.cpp computes without allocating (`simulated`), their weights are real where the model
itself could be loaded. All is bytes; `off` is planned / real - 1.

--device needs a llama.cpp with a GPU backend, and loads weights that are all zero. Without a GPU, scripts/setup_vulkan
makes one in software. It takes no tensor above 128 MiB, which a vocabulary as published has:

    GGML_VK_VISIBLE_DEVICES=0 .venv-vulkan/bin/python scripts/bench_fit.py --device --models 2b --vocabulary 32768
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import psutil
from bench_fit_loading import Buffers, Failure, Loader, on_device
from bench_fit_models import Files, hollow, home, pair, write_one_layer
from bench_fit_tables import OFFLOADED, PARTS, apart, compared, markdown, off, worst

from gguf_vl.fit import memory
from gguf_vl.fit.layout import Layout, Setting, Subject
from gguf_vl.gguf import TextShape
from gguf_vl.hardware import simulation
from gguf_vl.types import MAIN, Learnt, Load, PictureLimits, Pool, Reserved

SPARE = 2 << 30
"""Bytes that are left free for others when something is loaded."""


def simulated(path: Path, loads: list[Load]) -> Mapping[Load, Reserved]:
    """llama.cpp's answers, asked anew."""
    with home():
        return simulation.simulate(path, loads, path.name)


def planned(shape: TextShape, load: Load, answer: Reserved) -> Buffers:
    """What a plan says, main memory and devices together."""
    return {
        "model": sum(memory.weights(shape, load.n_gpu_layers)),
        "kv": memory.kv(shape, load.n_ctx, load.kv_type),
        "compute": sum(answer.compute.values()),
        "output": answer.output,
    }


def grid(files: Files, wishes: argparse.Namespace, ask: Loader) -> Iterator[dict[str, Any]]:
    """A row for every context of one model, in main memory."""
    shape = files.shape
    loads = [
        Load(n_ctx=n_ctx, n_batch=wishes.batch, n_seq_max=n_seq_max, kv_type=kv_type, n_gpu_layers=0)
        for n_ctx, kv_type, n_seq_max in product(wishes.ctx, wishes.kv, wishes.sequences)
    ]
    answers = simulated(files.text, loads)
    if len(answers) < len(loads):
        sys.exit(f"scripts/bench_fit.py: the simulation of {files.name} {files.quant} gave no answer.")
    name = {"model": files.name, "quant": files.quant}
    arguments = {"path": str(files.text), "n_gpu_layers": 0}
    of_model, why_not = sum(memory.weights(shape, 0)), ""
    if why := lacking(of_model, wishes.most):
        model, why_not = {"(not loaded)": of_model}, why
    else:
        mapped = ask.ask("load", **arguments, mapped=True)["model"]
        model = ask.ask("load", **arguments, mapped=False)["model"]
        yield name | {"mapped": mapped, "unmapped": model}
    later = []
    for load in loads:
        ours = planned(shape, load, answers[load])
        beside = sum(ours.values()) - ours["model"]
        why = why_not or lacking(beside, wishes.most - of_model)
        if why:
            later.append((load, ours, why))
            continue
        found = ask.ask("context", **settings(load))
        real = {"model": sum(model.values())} | {part: sum(found[part].values()) for part in PARTS[1:]}
        yield name | row(shape, load, ours, real) | {"simulated": None}
    if later:
        ask.ask("load", **arguments, mapped=None)
    for load, ours, why in later:
        found = ask.ask("context", **settings(load))
        real = {"model": sum(model.values()), "kv": found["kv_size"]}
        real |= {part: sum(found[part].values()) for part in ("compute", "output")}
        yield name | row(shape, load, ours, real) | {"simulated": why}
    ask.end()


def settings(load: Load) -> dict[str, Any]:
    """The part of a load that a context is made from."""
    return {name: getattr(load, name) for name in ("n_ctx", "n_batch", "n_seq_max", "kv_type")}


def lacking(n_bytes: int, most: int) -> str:
    """Why so many bytes are not loaded here; empty where they are."""
    if n_bytes > most:
        return "above --most"
    free = psutil.virtual_memory().available
    return f"{free} bytes free" if n_bytes + SPARE > free else ""


def row(shape: TextShape, load: Load, ours: Buffers, real: Buffers) -> dict[str, Any]:
    """One context, compared, with what the formula would have said of its compute buffer."""
    formula = memory.compute(shape, load.n_ctx, min(load.n_batch, load.n_ctx))
    said = {"compute": formula, "off": off(formula, real["compute"])}
    return settings(load) | compared(ours, real) | {"formula": said}


def first_gpu() -> tuple[str, int]:
    """llama.cpp's name of the device that is offloaded to, and the bytes that are free on it."""
    words = [sys.executable, "-P", "-m", "gguf_vl.native.devices"]
    seen = json.loads(subprocess.run(words, check=True, capture_output=True).stdout)["devices"]
    gpus = [each for each in seen if each["kind"] in ("gpu", "igpu")]
    if not gpus:
        sys.exit("scripts/bench_fit.py: llama.cpp sees no GPU here. scripts/setup_vulkan makes one in software.")
    return gpus[0]["name"], gpus[0]["free"]


def laid_out(subject: Subject, load: Load, device: str, learnt: Learnt) -> dict[str, Buffers]:
    """What a plan says of a load with this device, by place and part."""
    pools = [Pool(each, each, 1 << 50, 0, "") for each in (MAIN, device)]
    setting = Setting(load.n_gpu_layers, False, load.n_ctx, load.kv_type, 0, load.n_batch, load.n_seq_max)
    said: dict[str, Buffers] = {MAIN: dict.fromkeys(OFFLOADED, 0), device: dict.fromkeys(OFFLOADED, 0)}
    for each in Layout(subject, setting, pools, learnt).allocations:
        if part := {"weights": "model", "KV": "kv", "compute": "compute"}.get(each.purpose):
            said[each.device][part] += each.n_bytes
    return said


def offloaded(files: Files, wishes: argparse.Namespace, ask: Loader) -> Iterator[dict[str, Any]]:
    """A row for 0, half and all layers on the device, and the projector with pictures of several sizes on each side."""
    shape, projector = files.shape, files.projector
    device, free = first_gpu()
    subject = Subject(shape, None, PictureLimits(1, 1))
    name = {"model": files.name, "quant": files.quant, "device": device}
    for n_gpu_layers in (0, (shape.n_layer + 1) // 2, shape.n_layer + 1):
        loads = [
            Load(n_ctx=n_ctx, n_batch=wishes.batch, n_seq_max=n_seq_max, kv_type=kv_type, n_gpu_layers=n_gpu_layers)
            for n_ctx, kv_type, n_seq_max in product(wishes.ctx, wishes.kv, wishes.sequences)
        ]
        learnt = Learnt(simulated(files.text, loads))
        model: Buffers = {}
        for load in loads:
            each = name | {"n_gpu_layers": n_gpu_layers} | settings(load) | {"answered": load in learnt.reserved}
            ours = laid_out(subject, load, device, learnt)
            if sum(ours[device].values()) > free:
                yield each | {"planned": ours, "failure": f"more than the {free >> 20:,} MiB of {device}"}
                continue
            try:
                model = model or ask.ask("load", path=str(files.text), n_gpu_layers=n_gpu_layers, mapped=False)["model"]
                found = {"model": model} | ask.ask("context", **settings(load))
            except Failure as error:
                model = {}
                yield each | {"failure": str(error)}
                continue
            real: dict[str, Buffers] = {MAIN: {}, device: {}}
            for part in OFFLOADED:
                real[device][part] = on_device(found[part])
                real[MAIN][part] = sum(found[part].values()) - real[device][part]
            real[MAIN]["compute"] += sum(found["output"].values())
            yield each | {
                "buffers": {part: found[part] for part in PARTS},
                "real": real,
                "planned": ours,
                "off": apart(ours, real),
                "formula": {"planned": (said := laid_out(subject, load, device, Learnt())), "off": apart(said, real)},
            }
    of_one_layer = {"path": str(files.text.with_name("one-layer.gguf")), "n_gpu_layers": 0, "mapped": True}
    write_one_layer(files.name, Path(str(of_one_layer["path"])))
    ask.ask("load", **of_one_layer)
    for use_gpu, side in product((False, True), wishes.sides):
        try:
            found = ask.ask("encode", path=str(files.mmproj), use_gpu=use_gpu, columns=side, rows=side)
        except Failure as error:
            yield name | {"projector_on_device": use_gpu, "image_tokens": side**2, "failure": str(error)}
            ask.load_again(**of_one_layer)
            continue
        said = {"projector": projector.n_bytes, "encode": memory.encode_buffer(projector, side**2, on_gpu=use_gpu)}
        there = on_device(found["encode"])
        taken = {"projector": sum(found["projector"].values()), "encode": there or sum(found["encode"].values())}
        yield name | {
            "projector_on_device": use_gpu,
            "image_tokens": side**2,
            "buffers": found["encode"],
            "planned": said,
            "real": taken,
            "in_main_memory": sum(found["encode"].values()) - there if there else 0,
            "off": {part: off(said[part], taken[part]) for part in said},
        }
    ask.end()


def _bytes(text: str) -> int:
    return round(float(text.removesuffix("G")) * (1 << 30))


def main() -> None:
    parser = argparse.ArgumentParser(description="Holds the plan's bytes beside those that llama.cpp allocates.")
    parser.add_argument("--folder", type=Path, default=Path("build"), help="where models are, or are made; 10 GB free")
    parser.add_argument("--models", nargs="+", default=["2b", "4b", "8b"], choices=("2b", "4b", "8b"))
    parser.add_argument("--quants", nargs="+", default=None, choices=("Q4_K_M", "Q8_0"))
    parser.add_argument("--ctx", nargs="+", type=int, help="tokens; 4096 32768 131072, 4096 with --device")
    parser.add_argument("--kv", nargs="+", default=["f16", "q8_0"], choices=("f16", "q8_0", "q4_0"))
    parser.add_argument("--sequences", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--batch", type=int, default=512, help="tokens computed at once")
    parser.add_argument("--most", type=_bytes, default=16 << 30, help="16G: larger loads are simulated")
    parser.add_argument("--device", action="store_true", help="offloaded to the first GPU, in place of the table")
    parser.add_argument("--vocabulary", type=int, help="tokens in it, with --device; as published by default")
    parser.add_argument("--mmproj", default="F16", choices=("F16", "Q8_0"), help="of the projector, with --device")
    parser.add_argument("--sides", nargs="+", type=int, default=[8, 16, 32, 46, 64], help="of pictures, tokens")
    parser.add_argument("--keep", action="store_true", help="the models that were made")
    parser.add_argument("--markdown", type=Path, help="a table goes here")
    wishes = parser.parse_args()
    wishes.ctx = wishes.ctx or ([4096] if wishes.device else [4096, 32768, 131072])
    wishes.quants = wishes.quants or (["Q4_K_M"] if wishes.device else ["Q4_K_M", "Q8_0"])
    wishes.folder.mkdir(parents=True, exist_ok=True)
    rows = []
    ask = Loader()
    for name, quant in product(wishes.models, wishes.quants):
        made = (
            hollow(name, quant, wishes.mmproj, wishes.vocabulary)
            if wishes.device
            else pair(name, quant, wishes.mmproj, wishes.folder, keep=wishes.keep)
        )
        with made as files:
            for each in (offloaded if wishes.device else grid)(files, wishes, ask):
                print(json.dumps(each), file=sys.stderr)
                rows.append(each)
    report = {"llama_cpp_python": version("llama-cpp-python"), "worst": worst(rows), "rows": rows}
    if wishes.markdown:
        wishes.markdown.write_text(markdown(report), encoding="utf-8")
    json.dump(report, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
