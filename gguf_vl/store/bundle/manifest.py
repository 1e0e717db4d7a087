"""What a bundle holds: frozen dataclasses, written as JSON, and read from JSON that anybody may have made."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Any, TypeVar, cast, get_args

from gguf_vl.catalogue import File
from gguf_vl.errors import MissingOrInvalid, VerificationFailed
from gguf_vl.store import library, receipt
from gguf_vl.store.place import DEVICE
from gguf_vl.store.receipt import Promise

FORMAT = "gguf-vl-bundle"
SCHEMA = 1
MAX_BYTES = 4 << 20
"""The largest manifest that is read."""

README = "README.txt"
MANIFEST = "manifest.json"
SIGNATURE = "manifest.json.sig"
INSTALLERS = ("install.sh", "install.py")
PACKAGES = "packages"
MODELS = "models"
KEPT_ENTRY = "catalogue.json"
"""In a model's folder on the other side: what the packer's catalogue says of it, where the one there says nothing."""

_LONGEST_TEXT = 500
_LONGEST_NAME = 200
"""Bytes of a file's or folder's name. File systems take 255."""
_LARGEST_FILE = 1 << 50
_MAX_ITEMS = 10_000
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file beside the models. `path` is its name in the tar, `size` bytes, `sha256` lower-case hex."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file of a model. `name` is that in its folder; the rest is as in a receipt."""

    name: str
    size: int
    sha256: str
    promised_by: Promise

    @property
    def content(self) -> File:
        """The file as it can be compared with the catalogue's."""
        return File(self.name, self.size, self.sha256)


@dataclass(frozen=True, slots=True)
class BundledModel:
    """A model and what the other side has to know of it, which may have an older catalogue or a newer one."""

    name: str
    title: str
    licence: str
    quantisation: str
    source: str
    model: ModelFile
    mmproj: ModelFile | None

    @property
    def files(self) -> tuple[ModelFile, ...]:
        """The text model, then the projector."""
        return (self.model, self.mmproj) if self.mmproj else (self.model,)

    @property
    def folder(self) -> str:
        """The name of its folder, in the tar under `models/` and on the other side."""
        return library.folder_name(self.name)

    @property
    def n_bytes(self) -> int:
        """Bytes of its files."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True, slots=True)
class Platform:
    """A kind of machine that the packages are for.

    `sys_platform` is Python's, `machine` x86_64, arm64 or what the system says, `python` "3.11". `libc` is what the
    packages need at least ("glibc 2.36") and `baseline` the processor ("x86-64-v3"), each None where the wheels' own
    tags say all that is known.
    """

    sys_platform: str
    machine: str
    python: str
    libc: str | None = None
    baseline: str | None = None

    def __str__(self) -> str:
        more = "".join(f", {each}" for each in (self.baseline, self.libc) if each)
        return f"{self.sys_platform} {self.machine} with Python {self.python}{more}"


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything in a bundle but the manifest itself and its signature.

    `program` is the version of gguf-vl that packed it. `files` are those beside the models, in the tar's order.
    `platforms` are those that the wheels among them are for; empty where there are none. `catalogue` is what the
    packer's catalogue says of the models, as plain data that nobody has looked into (`catalogue.from_excerpt` does).
    """

    program: str
    models: tuple[BundledModel, ...]
    files: tuple[FileEntry, ...]
    platforms: tuple[Platform, ...] = ()
    catalogue: Mapping[str, Any] = field(default_factory=dict)


def to_bytes(manifest: Manifest) -> bytes:
    """The manifest as JSON, the same bytes for the same manifest."""
    plain = {"format": FORMAT, "schema": SCHEMA, **asdict(manifest)}
    return sealed(json.dumps(plain, ensure_ascii=False, indent=1).encode("utf-8"))


def sealed(plain: bytes) -> bytes:
    """This JSON object, ending with the sha256 of all that stands before: a bit may flip where nothing else tells.

    It is no signature: whoever changes the one can change the other.
    """
    body = plain.removesuffix(b"}").rstrip()
    return body + _seal(body)


def _seal(body: bytes) -> bytes:
    return b',\n "sha256": "%s"\n}\n' % sha256(body).hexdigest().encode()


def from_bytes(data: bytes) -> Manifest:
    """The manifest that this JSON says.

    Raises `VerificationFailed` when it says anything but a manifest, or one with a file name that could lead out of its
    folder; `MissingOrInvalid` for the manifest of a newer gguf-vl.
    """
    try:
        plain = json.loads(data.decode("utf-8"), object_pairs_hook=_object)
        if not isinstance(plain, dict) or plain.get("format") != FORMAT:
            raise ValueError(f"it is not of the format {FORMAT}")
        if plain.get("schema") != SCHEMA or isinstance(plain["schema"], bool):
            raise MissingOrInvalid(
                f"The bundle is of form {str(plain.get('schema'))[:20]!r}, and this gguf-vl knows form {SCHEMA}.",
                "Install the gguf-vl that made it, or a newer one.",
            )
        body = data[: -len(_seal(b""))]
        if data != body + _seal(body):
            raise ValueError("it is not what it was when the bundle was made")
        return _manifest(plain)
    except (ValueError, RecursionError) as error:
        raise VerificationFailed(
            f"manifest.json cannot be understood: {error}.", "Copy the bundle again, or have it made again."
        ) from error


def check_file_name(name: str) -> str:
    """The name of a file or folder, given back when every system takes it and it leads nowhere else; `ValueError`."""
    fits = 0 < len(name) <= _LONGEST_NAME and len(name.encode("utf-8", "replace")) <= _LONGEST_NAME
    plain = name.isprintable() and not any(char in name for char in '/\\:*?"<>|') and not DEVICE.fullmatch(name)
    if not fits or not plain or name[0] in ". -" or name[-1] in ". ":
        raise ValueError(f"{name[:80]!r} cannot be the name of a file")
    return name


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("it says something twice")
    return found


class _Fields:
    """Typed looks into a JSON object; `where` names it in errors."""

    def __init__(self, plain: object, where: str) -> None:
        if not isinstance(plain, dict):
            raise ValueError(f"{where} is not an object")
        self._plain = plain
        self.where = where

    def text(self, key: str) -> str:
        """Text that a terminal can show, of sensible length."""
        value = self._plain.get(key)
        if not isinstance(value, str) or not value.isprintable() or not 0 < len(value) <= _LONGEST_TEXT:
            raise ValueError(f"{self.where}.{key} is not a line of text")
        return value

    def text_or_none(self, key: str) -> str | None:
        return None if self._plain.get(key) is None else self.text(key)

    def match(self, key: str, pattern: str) -> str:
        value = self.text(key)
        if not re.fullmatch(pattern, value, re.ASCII):
            raise ValueError(f"{self.where}.{key} is {value[:80]!r}")
        return value

    def size(self) -> int:
        value = self._plain.get("size")
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LARGEST_FILE:
            raise ValueError(f"{self.where}.size is not a number of bytes")
        return value

    def sha256(self) -> str:
        return self.match("sha256", "[0-9a-f]{64}")

    def objects(self, key: str, build: Callable[[_Fields], _T]) -> tuple[_T, ...]:
        value = self._plain.get(key)
        if not isinstance(value, list) or len(value) > _MAX_ITEMS:
            raise ValueError(f"{self.where}.{key} is not a list")
        return tuple(build(_Fields(each, f"{key}[{place}]")) for place, each in enumerate(value))

    def plain_object(self, key: str) -> dict[str, Any]:
        value = self._plain.get(key, {})
        if not isinstance(value, dict):
            raise ValueError(f"{self.where}.{key} is not an object")
        return value

    def object(self, key: str) -> _Fields:
        return _Fields(self._plain.get(key), f"{self.where}.{key}")

    def object_or_none(self, key: str) -> _Fields | None:
        return None if self._plain.get(key) is None else self.object(key)


def _manifest(plain: dict[str, Any]) -> Manifest:
    fields = _Fields(plain, "the manifest")
    manifest = Manifest(
        fields.text("program"),
        fields.objects("models", _model),
        fields.objects("files", _file),
        fields.objects("platforms", _platform),
        fields.plain_object("catalogue"),
    )
    if not manifest.files or manifest.files[0].path != README:
        raise ValueError(f"it does not begin with {README}")
    # Upper and lower case are one file on a Mac and on Windows.
    _check_distinct(model.folder for model in manifest.models)
    _check_distinct(file.path for file in manifest.files)
    return manifest


def _file(fields: _Fields) -> FileEntry:
    path = fields.text("path")
    folder, slash, name = path.partition("/")
    is_wheel = bool(slash) and folder == PACKAGES and check_file_name(name).endswith(".whl")
    if not is_wheel and path not in (README, *INSTALLERS):
        raise ValueError(f"{path[:80]!r} has no place in a bundle")
    return FileEntry(path, fields.size(), fields.sha256())


def _model(fields: _Fields) -> BundledModel:
    mmproj = fields.object_or_none("mmproj")
    model = BundledModel(
        name=fields.text("name"),
        title=fields.text("title"),
        licence=fields.text("licence"),
        quantisation=fields.text("quantisation"),
        source=fields.text("source"),
        model=_model_file(fields.object("model")),
        mmproj=_model_file(mmproj) if mmproj else None,
    )
    check_file_name(model.folder)
    _check_distinct([*(file.name for file in model.files), receipt.NAME, KEPT_ENTRY])
    return model


def _model_file(fields: _Fields) -> ModelFile:
    promised_by = fields.match("promised_by", "|".join(get_args(Promise)))
    return ModelFile(check_file_name(fields.text("name")), fields.size(), fields.sha256(), cast(Promise, promised_by))


def _platform(fields: _Fields) -> Platform:
    return Platform(
        fields.text("sys_platform"),
        fields.text("machine"),
        fields.match("python", r"3\.\d{1,3}"),
        fields.text_or_none("libc"),
        fields.text_or_none("baseline"),
    )


def _check_distinct(names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name.casefold() in seen:
            raise ValueError(f"it has {name[:80]!r} twice")
        seen.add(name.casefold())
