"""What earlier loads have really taken, kept in the cache folder by what was loaded."""

from __future__ import annotations

from dataclasses import asdict

from gguf_vl.hardware import kept
from gguf_vl.types import Allocation, Used

_SCHEMA = 1


def key_of(*what: object) -> str:
    """A name for what a figure holds for."""
    return kept.key_of(_SCHEMA, *what)


def remember(key: str, used: Used) -> None:
    """Keep what a load has taken."""
    kept.write(f"measured/load-{key}", asdict(used))


def recall(key: str) -> Used | None:
    """What a load has taken; None where none was remembered."""
    plain = kept.read(f"measured/load-{key}")
    try:
        return Used(tuple(Allocation(**each) for each in plain.pop("buffers")), **plain)
    except (TypeError, KeyError, AttributeError):
        return None


def remember_encode(key: str, device: str, image_tokens: int, n_bytes: int) -> None:
    """Keep what encoding a picture has taken on a device."""
    known = recall_encode(key) | {(device, image_tokens): n_bytes}
    kept.write(f"measured/encode-{key}", [[*where, taken] for where, taken in known.items()])


def recall_encode(key: str) -> dict[tuple[str, int], int]:
    """What encoding pictures has taken, by (device, image tokens)."""
    try:
        return {(device, tokens): n_bytes for device, tokens, n_bytes in kept.read(f"measured/encode-{key}") or []}
    except (TypeError, ValueError):
        return {}
