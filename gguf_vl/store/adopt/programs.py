"""Where other programs keep their models, and how each of them lays out its files."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gguf_vl.store.known import published_files

from .candidates import SUFFIX, Candidate, Group, Refused, files_below, gguf_files, grouped, unreadable

OLLAMA_OF_THE_SYSTEM = Path("/usr/share/ollama/.ollama/models")
"""Where Ollama's installer for Linux has its service keep them."""
MAX_MANIFEST = 1 << 20
"""Bytes of one of Ollama's manifests; they have about one KiB."""

_OLLAMA_LAYERS = {
    "application/vnd.ollama.image.model": "",
    "application/vnd.ollama.image.projector": "mmproj-",
}
_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")
_BEFORE_NAME = re.compile(r".+[-_.]gguf_(?=.+\.gguf$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Place:
    """A folder of models that another program fills."""

    program: str
    folder: Path


def places() -> list[Place]:
    """Every folder that Hugging Face, LM Studio, Ollama or llama.cpp would use here that exists, each once."""
    home = Path.home()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    wanted = [
        ("Hugging Face", _from_environment("HF_HUB_CACHE")),
        ("Hugging Face", _from_environment("HF_HOME", "hub")),
        ("Hugging Face", cache / "huggingface" / "hub"),
        ("LM Studio", home / ".lmstudio" / "models"),
        ("LM Studio", home / ".cache" / "lm-studio" / "models"),
        ("Ollama", _from_environment("OLLAMA_MODELS")),
        ("Ollama", home / ".ollama" / "models"),
        ("Ollama", OLLAMA_OF_THE_SYSTEM),
        ("llama.cpp", _from_environment("LLAMA_CACHE")),
        ("llama.cpp", cache / "llama.cpp"),
        ("llama.cpp", home / "Library" / "Caches" / "llama.cpp"),
    ]
    found: dict[str, Place] = {}
    for program, folder in wanted:
        if folder and _may_exist(folder):
            found.setdefault(os.path.realpath(folder), Place(program, folder))
    return list(found.values())


def found_elsewhere(where: list[Place]) -> Iterator[Group | Refused]:
    """The GGUF files of those places. What cannot be read there is said and hides nothing else."""
    for place in where:
        try:
            yield from _LAYOUTS[place.program](place.folder)
        except OSError as error:
            yield unreadable(place.folder, error)


def _hugging_face(cache: Path) -> Iterator[Group | Refused]:
    """`models--OWNER--NAME/snapshots/COMMIT/`, where the files are links into `blobs/`, named by their hashes."""
    for name in sorted(os.listdir(cache)):
        if name.startswith("models--"):
            yield from _repository(cache / name, name.removeprefix("models--").replace("--", "/"))


def _repository(folder: Path, name: str) -> list[Group | Refused]:
    """The files of each commit; the current one first, so that it is an older one that finds its name taken."""
    depth = len((folder / "snapshots" / "COMMIT").parts)
    found = grouped(gguf_files(folder), lambda path: path.parts[:depth], lambda _: f"Hugging Face's cache, {name}")
    current = _text_of(folder / "refs" / "main", default="")
    return sorted(found, key=lambda item: isinstance(item, Group) and current not in item.files[0].path.parts)


def _lm_studio(models: Path) -> Iterator[Group | Refused]:
    """`PUBLISHER/REPOSITORY/`, and in it the files by their publisher's names."""
    return grouped(
        gguf_files(models), lambda path: path.parent, lambda folder: f"LM Studio, {folder.relative_to(models)}"
    )


def _llama_cpp(cache: Path) -> Iterator[Group | Refused]:
    """All files in one folder, most of them as `OWNER_REPOSITORY_FILE.gguf`."""

    def repository(path: Path) -> str:
        return path.name[: -len(published_name(path.name))]

    return grouped(
        gguf_files(cache),
        repository,
        lambda prefix: f"llama.cpp's cache, {prefix.rstrip('_')}" if prefix else "llama.cpp's cache",
        lambda path: published_name(path.name),
    )


def published_name(cached: str) -> str:
    """A file's own name out of llama.cpp's `OWNER_REPOSITORY_FILE.gguf`; the whole where that cannot be told."""
    for file in published_files():
        if cached.endswith(f"_{file.name}"):
            return file.name
    return _BEFORE_NAME.sub("", cached)


def _ollama(models: Path) -> Iterator[Group | Refused]:
    """`manifests/REGISTRY/OWNER/NAME/TAG`, JSON whose layers are files of `blobs/`, named by their hashes."""
    if "manifests" not in os.listdir(models):
        return
    for manifest in files_below(models / "manifests"):
        if isinstance(manifest, Refused):
            yield manifest
            continue
        parts = manifest.relative_to(models / "manifests").parts
        if len(parts) != 4:
            continue
        *owners, name, tag = parts
        try:
            files = _layers(manifest, models / "blobs", _ollama_stem(name, tag))
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            yield unreadable(manifest, error)
            continue
        if files:
            owner = "/".join(part for part in owners if part not in ("registry.ollama.ai", "library"))
            yield Group(f"Ollama, {owner + '/' if owner else ''}{name}:{tag}", files)


def _ollama_stem(name: str, tag: str) -> str:
    name = re.sub(r"-gguf$", "", name, flags=re.IGNORECASE)
    return name if tag == "latest" else f"{name}-{tag}"


def _layers(manifest: Path, blobs: Path, stem: str) -> tuple[Candidate, ...]:
    """The model's files, under names made of its own: the blobs have none."""
    files = []
    for layer in json.loads(_text_of(manifest))["layers"]:
        prefix = _OLLAMA_LAYERS.get(layer["mediaType"])
        if prefix is None:
            continue
        digest = _DIGEST.fullmatch(layer["digest"])
        if digest is None:
            raise ValueError("it names a file by something else than a SHA-256")
        path = blobs / f"sha256-{digest[1]}"
        files.append(Candidate(path, f"{prefix}{stem}{SUFFIX}"))
    return tuple(files)


def _text_of(path: Path, default: str | None = None) -> str:
    """A small text file; the default, where there is one, when it is not there or not text."""
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait for its writer
            raise ValueError("it is not a file")
        with path.open("rb") as stream:
            return stream.read(MAX_MANIFEST).decode().strip()
    except (OSError, ValueError):
        if default is None:
            raise
        return default


def _from_environment(variable: str, below: str = "") -> Path | None:
    folder = os.environ.get(variable)
    return Path(os.path.expanduser(folder)).absolute() / below if folder else None


def _may_exist(folder: Path) -> bool:
    """Whether there is such a folder, or nobody lets us see."""
    try:
        return stat.S_ISDIR(os.stat(folder).st_mode)
    except PermissionError:
        return True
    except OSError:
        return False


_LAYOUTS = {"Hugging Face": _hugging_face, "LM Studio": _lm_studio, "Ollama": _ollama, "llama.cpp": _llama_cpp}
