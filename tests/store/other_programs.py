"""A pair of GGUF files laid out as other programs lay out theirs, and the trouble that such folders hold."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import gguf
import numpy as np

from gguf_vl import paths

POCKET = paths.pocket_dir() / "pocket-F16.gguf"
POCKET_MMPROJ = paths.pocket_dir() / "mmproj-pocket-F16.gguf"


def relabelled(source: Path, target: Path, said: Mapping[str, str], *, more_tensors: tuple[str, ...] = ()) -> Path:
    """A copy of a GGUF file that says this of itself, with the same weights and perhaps some more."""
    reader = gguf.GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(target, architecture)
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture" or field.name in said:
            continue
        kind = field.types[0]
        sub_type = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, sub_type)
    for key, value in said.items():
        writer.add_string(key, value)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    for name in more_tensors:
        writer.add_tensor(name, np.zeros(32, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def pebble(folder: Path) -> tuple[Path, Path]:
    """pocket under another name, so that it is not the model that is always here."""
    said = {"general.name": "pebble"}
    return (
        relabelled(POCKET, folder / "pebble-F16.gguf", said),
        relabelled(POCKET_MMPROJ, folder / "mmproj-pebble-F16.gguf", said),
    )


def hash_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def hugging_face(root: Path, *files: Path, repository: str = "owner/pebble-GGUF", commit: str = "c0ffee") -> None:
    """Into Hugging Face's cache: links in a snapshot, the files in `blobs/` by their hashes."""
    folder = root / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / commit
    for made in (snapshot, folder / "blobs", folder / "refs"):
        made.mkdir(parents=True, exist_ok=True)
    (folder / "refs" / "main").write_text(commit)
    for file in files:
        blob = folder / "blobs" / hash_of(file)
        if not blob.exists():
            shutil.copy(file, blob)
        (snapshot / file.name).symlink_to(Path("../../blobs") / blob.name)


def lm_studio(root: Path, *files: Path) -> None:
    """Into LM Studio's folder: publisher, repository, files."""
    folder = root / "owner" / "pebble-GGUF"
    folder.mkdir(parents=True)
    for file in files:
        shutil.copy(file, folder)


def ollama(root: Path, *files: Path, where: str = "hf.co/owner/pebble-GGUF/F16") -> None:
    """Into Ollama's folder: a manifest, and nameless files beside those of every other model."""
    manifest = root / "manifests" / where
    manifest.parent.mkdir(parents=True, exist_ok=True)
    (root / "blobs").mkdir(exist_ok=True)
    layers = [{"mediaType": "application/vnd.ollama.image.license", "digest": "sha256:" + "0" * 64, "size": 1}]
    for file in files:
        kind = "projector" if "mmproj" in file.name else "model"
        digest = hash_of(file)
        shutil.copy(file, root / "blobs" / f"sha256-{digest}")
        layers.append({"mediaType": f"application/vnd.ollama.image.{kind}", "digest": f"sha256:{digest}", "size": 1})
    manifest.write_text(json.dumps({"schemaVersion": 2, "layers": layers}))


def llama_cpp(root: Path, *files: Path, repository: str = "owner_pebble-GGUF_") -> None:
    """Into llama.cpp's cache: one flat folder, owner and repository before the name."""
    root.mkdir(parents=True, exist_ok=True)
    for file in files:
        shutil.copy(file, root / f"{repository}{file.name}")
        (root / f"{repository}{file.name}.json").write_text("{}")


LAYOUTS: dict[str, tuple[str, Callable[..., None]]] = {
    "Hugging Face": (".cache/huggingface/hub", hugging_face),
    "LM Studio": (".lmstudio/models", lm_studio),
    "older LM Studio": (".cache/lm-studio/models", lm_studio),
    "Ollama": (".ollama/models", ollama),
    "llama.cpp": (".cache/llama.cpp", llama_cpp),
    "llama.cpp on a Mac": ("Library/Caches/llama.cpp", llama_cpp),
}
"""Program → its folder below a person's home, and what lays files out there."""


def state_of(root: Path) -> dict[str, tuple[int, int, str]]:
    """Every file, folder and link below: its mode, when it was changed, and what is in it."""
    found = {}
    for path in sorted(root.rglob("*")):
        about = path.lstat()
        content = os.readlink(path) if path.is_symlink() else hash_of(path) if path.is_file() else ""
        found[str(path.relative_to(root))] = (about.st_mode, about.st_mtime_ns, content)
    return found
