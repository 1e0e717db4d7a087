"""The person's settings: defaults < `config.toml` < environment < flags.

Knows what a value may be and where it came from; does not know what it does. Only the standard library and `paths`
are imported before something is written.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, get_args, get_type_hints

from gguf_vl import paths
from gguf_vl.errors import UsageError, did_you_mean
from gguf_vl.types import Detail, KvType

Shown = Literal["auto", "kitty", "sixel", "halfblock", "none"]


@dataclass(frozen=True, slots=True)
class _Number:
    """A number from `low` to `high`, both included."""

    type: type[int] | type[float]
    low: float
    high: float

    @property
    def expected(self) -> str:
        return f"a {'whole ' if self.type is int else ''}number from {self.low} to {self.high}"

    def read(self, text: str) -> object:
        try:
            return self.type(text)
        except ValueError:
            return text

    def accepts(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, (int, self.type)):
            return False
        return self.low <= value <= self.high

    def settle(self, value: Any) -> object:
        return self.type(value)


@dataclass(frozen=True, slots=True)
class _Size:
    """Bytes: a number, or text such as 4G, 512M or 1.5 GiB (powers of 1,024)."""

    _UNITS: ClassVar[Mapping[str, int]] = MappingProxyType({"": 0, "K": 10, "M": 20, "G": 30, "T": 40})

    @property
    def expected(self) -> str:
        return "a size in bytes, such as 4G or 512M"

    def read(self, text: str) -> object:
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.ASCII | re.IGNORECASE)
        return int(float(found[1]) * (1 << self._UNITS[found[2].upper()])) if found else text

    def accepts(self, value: object) -> bool:
        n_bytes = self.read(value) if isinstance(value, str) else value
        return isinstance(n_bytes, int) and not isinstance(n_bytes, bool) and 0 <= n_bytes < 1 << 60

    def settle(self, value: Any) -> object:
        return self.read(value) if isinstance(value, str) else value


@dataclass(frozen=True, slots=True)
class _Choice:
    """One of a few words."""

    words: tuple[str, ...]

    @property
    def expected(self) -> str:
        return ", ".join(self.words[:-1]) + f" or {self.words[-1]}"

    def read(self, text: str) -> object:
        return text

    def accepts(self, value: object) -> bool:
        return value in self.words

    def settle(self, value: Any) -> object:
        return value


@dataclass(frozen=True, slots=True)
class _Text:
    """Text. With `is_place` it is, or may be, the path of a file, and `~` at its start is the home directory."""

    type: type[str] | type[Path] = str
    is_place: bool = False

    @property
    def expected(self) -> str:
        return "text" if self.type is str else "the path of a file"

    def read(self, text: str) -> object:
        return text

    def accepts(self, value: object) -> bool:
        return isinstance(value, str | self.type) and not (self.is_place and value == "")

    def settle(self, value: Any) -> object:
        return self.type(os.path.expanduser(value) if self.is_place else value)


@dataclass(frozen=True, slots=True)
class _Switch:
    """On or off."""

    words: ClassVar[Mapping[str, bool]] = MappingProxyType(
        {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    )

    @property
    def expected(self) -> str:
        return "true or false"

    def read(self, text: str) -> object:
        return self.words.get(text.strip().casefold(), text)

    def accepts(self, value: object) -> bool:
        return isinstance(value, bool)

    def settle(self, value: Any) -> object:
        return value


@dataclass(frozen=True, slots=True)
class _Table:
    """Names and what each stands for, as a table of `config.toml`; as text, `name=value` with commas between."""

    @property
    def expected(self) -> str:
        return "a table of names and texts"

    def read(self, text: str) -> object:
        pairs = [each.partition("=") for each in text.split(",") if each.strip()]
        return {name.strip(): value.strip() for name, _, value in pairs} if all(sep for _, sep, _ in pairs) else text

    def accepts(self, value: object) -> bool:
        return isinstance(value, Mapping) and all(isinstance(each, str) for each in (*value, *value.values()))

    def settle(self, value: Any) -> object:
        return {str(name): str(text) for name, text in value.items()}


_Rule = _Number | _Size | _Choice | _Text | _Switch | _Table


@dataclass(frozen=True, slots=True)
class Settings:
    """What the person wishes. None: nothing is wished, so the model or the machine decides."""

    model: Annotated[str | None, _Text(is_place=True)] = None
    """A catalogue name, or the path of a GGUF file."""

    mmproj: Annotated[Path | None, _Text(Path, is_place=True)] = None
    """The projector file, where it is not the one beside the model."""

    ctx: Annotated[int | None, _Number(int, 256, 1_048_576)] = None
    """Context size in tokens."""

    gpu_layers: Annotated[int | None, _Number(int, -1, 10_000)] = None
    """Layers on the GPU; -1 is all of them."""

    kv_type: Annotated[KvType | None, _Choice(get_args(KvType))] = None
    """Type of the numbers in the KV cache."""

    parallel: Annotated[int | None, _Number(int, 1, 64)] = None
    """Requests answered at once; they share the context."""

    image_max_tokens: Annotated[int | None, _Number(int, 8, 16_384)] = None
    """Most image tokens of one picture; larger ones are shrunk."""

    mmproj_offload: Annotated[bool | None, _Switch()] = None
    """Whether the projector is on the GPU."""

    reserve: Annotated[int | None, _Size()] = None
    """Bytes kept free on each GPU, or in main memory where there is none."""

    disk_cache: Annotated[int, _Size()] = 4 << 30
    """Bytes on disk for pictures and chats that were computed before; 0 keeps none."""

    proof: Annotated[bool, _Switch()] = True
    """Prove before a model's first answer that the largest picture will find its memory."""

    idle_unload: Annotated[float, _Number(float, 0, 31_536_000)] = 0
    """Seconds without a request after which a served model is unloaded, as Ollama's `keep_alive`; 0 is never."""

    threads: Annotated[int | None, _Number(int, 1, 1024)] = None
    """CPU threads."""

    detail: Annotated[Detail, _Choice(get_args(Detail))] = "auto"
    """Image tokens per picture: fewer (low), what the picture's size asks for (auto), or more (high)."""

    max_tokens: Annotated[int | None, _Number(int, 1, 1_048_576)] = None
    """Most tokens of one answer."""

    temperature: Annotated[float | None, _Number(float, 0, 2)] = None
    """How freely the next token is drawn; 0 always takes the likeliest."""

    top_p: Annotated[float | None, _Number(float, 0, 1)] = None
    """Draw from the likeliest tokens that have this share of the probability together; 1 is all."""

    top_k: Annotated[int | None, _Number(int, 0, 1_000_000)] = None
    """Draw from this many of the likeliest tokens; 0 is all."""

    seed: Annotated[int | None, _Number(int, 0, 2**32 - 2)] = None
    """Makes drawn answers repeatable. 2^32 - 1 is left out: llama.cpp takes it for "draw one"."""

    system: Annotated[str | None, _Text()] = None
    """System prompt."""

    offline: Annotated[bool, _Switch()] = False
    """Use no network at all."""

    theme: Annotated[str | None, _Text()] = None
    """Colours of the terminal UI, by the name of a theme."""

    pictures: Annotated[Shown, _Choice(get_args(Shown))] = "auto"
    """How the terminal UI draws pictures: as this terminal can (auto), or one way whatever it says of itself."""

    keys: Annotated[Mapping[str, str], _Table()] = field(default_factory=dict)
    """Keys of the terminal UI, by action: `new_chat = "ctrl+n"`. Its F1 page lists the actions."""


class Origin(NamedTuple):
    """One setting's value and where it comes from: `default`, the path of the file, a variable's name or a flag."""

    value: Any
    origin: str


_RULES: Mapping[str, _Rule] = {
    name: hint.__metadata__[0] for name, hint in get_type_hints(Settings, include_extras=True).items()
}
NAMES = tuple(_RULES)
"""The settings by name, as they stand in `config.toml`."""

_DEFAULTS = Settings()
_ConfigFile = Path | Literal["default"] | None


def load_settings(
    flags: Mapping[str, object],
    *,
    environment: Mapping[str, str] | None = None,
    file: _ConfigFile = "default",
) -> Settings:
    """The settings in force. A flag that is None was not given.

    `environment` is this process's where None; `file` is `paths.config_file()` by default, and no file where None.
    Raises `UsageError` for an unreadable file, an unknown key and a value that cannot be.
    """
    found = with_origins(flags, environment=environment, file=file)
    return Settings(**{name: each.value for name, each in found.items()})


def with_origins(
    flags: Mapping[str, object] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    file: _ConfigFile = "default",
) -> dict[str, Origin]:
    """Every setting with its origin. Arguments and errors are those of `load_settings`."""
    flags = flags or {}
    if strangers := set(flags) - set(NAMES):
        raise TypeError(f"not settings: {', '.join(sorted(strangers))}")
    if environment is None:
        environment = os.environ
    if file == "default":
        file = paths.config_file()
    found = {name: Origin(getattr(_DEFAULTS, name), "default") for name in NAMES}
    for name, value in (_parse(_read_text(file), file) if file else {}).items():
        if name not in _RULES:
            raise _unknown(name, f"{file} has a setting {name!r}, which does not exist.")
        found[name] = _checked(name, value, origin=str(file), place=f"{name} in {file}")
    for name in NAMES:
        variable = f"GGUF_VL_{name.upper()}"
        if text := environment.get(variable):
            found[name] = _checked(name, _RULES[name].read(text), origin=variable, place=variable)
    for name, value in flags.items():
        if value is not None:
            flag = f"--{name.replace('_', '-')}"
            found[name] = _checked(name, value, origin=flag, place=flag)
    return found


class Described(NamedTuple):
    """What a setting is for, and what it may be; `words` are all of that, where there are a few."""

    help: str
    expected: str
    words: tuple[str, ...]
    is_size: bool


def described() -> dict[str, Described]:
    """Every setting with what is said under it in `Settings`."""
    import ast
    import inspect
    from itertools import pairwise

    (body,) = (each.body for each in ast.parse(inspect.getsource(Settings)).body if isinstance(each, ast.ClassDef))
    helps: dict[str, str] = {}
    for line, below in pairwise(body):
        if isinstance(line, ast.AnnAssign) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            helps[ast.unparse(line.target)] = inspect.cleandoc(str(below.value.value))
    found = {}
    for name, rule in _RULES.items():
        words = rule.words if isinstance(rule, _Choice) else ("true", "false") if isinstance(rule, _Switch) else ()
        found[name] = Described(helps[name], rule.expected, words, isinstance(rule, _Size))
    return found


def check_key(name: str) -> None:
    """Raise `UsageError`, with the nearest name, when there is no such setting."""
    if name not in _RULES:
        raise _unknown(name, f"There is no setting {name!r}.")


def set_setting(name: str, text: str) -> Path:
    """Write one setting to `config.toml`, with everything else in it kept as it is; empty text takes the setting out.

    Returns the file. Raises `UsageError` for an unknown name, a value that cannot be, and a file that is not TOML.
    """
    import tomlkit

    check_key(name)
    file = paths.config_file()
    before = _read_text(file)
    _parse(before, file)  # says what is wrong with a broken one
    document = tomlkit.parse(before)
    if text:
        value = _RULES[name].read(text)
        _checked(name, value, origin=str(file), place=name)
        document[name] = value
    else:
        document.pop(name, None)
    _replace(file, tomlkit.dumps(document))
    return file


def _unknown(name: str, what: str) -> UsageError:
    near = did_you_mean(name.casefold().replace("-", "_"), NAMES)
    return UsageError(what, near or f"The settings are {', '.join(NAMES)}.")


def _checked(name: str, value: object, *, origin: str, place: str) -> Origin:
    rule = _RULES[name]
    if not rule.accepts(value):
        shown = repr(value) if len(repr(value)) <= 80 else repr(value)[:79] + "…"
        raise UsageError(f"{place} is {shown}, which is not {rule.expected}.", f"Give {name} {rule.expected}.")
    return Origin(rule.settle(value), origin)


def _read_text(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        raise UsageError(
            f"The settings {file} cannot be read: {error.strerror}.", "Make it a readable file."
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"The settings {file} are not UTF-8: {error.reason}.", "Save the file as UTF-8.") from error


def _parse(text: str, file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"The settings {file} are not TOML: {error}.", "Mend the file, or move it away.") from error


def _replace(file: Path, text: str) -> None:
    """Write the file so that it is at every moment the whole old one or the whole new one."""
    target = Path(os.path.realpath(file))  # a link to a file kept elsewhere stays a link
    new = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(new, "w", encoding="utf-8", newline="") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        if target.exists():
            new.chmod(target.stat().st_mode & 0o7777)
        os.replace(new, target)
    except OSError as error:
        with suppress(OSError):
            new.unlink()
        raise UsageError(
            f"The settings {file} cannot be written: {error.strerror}.", "Set GGUF_VL_HOME to a folder that can be."
        ) from error
