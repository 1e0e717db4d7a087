"""Metadata by key with the type and bounds that are expected, and a clear refusal of everything else."""

from __future__ import annotations

import math
from typing import Final, NoReturn, overload

from .header import Header
from .wire import Array, Scalar, Value, shown

MAX_COUNT: Final = (1 << 31) - 1


class _Required:
    """Marks a key that has no default."""


_REQUIRED: Final = _Required()


class Fields:
    """Typed look-ups in one header.

    Each raises `InvalidModelFile` for a value of another kind or out of bounds, and for a missing one unless it has a
    default.
    """

    def __init__(self, header: Header) -> None:
        self._header = header

    @overload
    def text(self, key: str, default: str | _Required = ...) -> str: ...
    @overload
    def text(self, key: str, default: None) -> str | None: ...
    def text(self, key: str, default: str | _Required | None = _REQUIRED) -> str | None:
        """A string."""
        value = self._header.metadata.get(key)
        if value is None:
            return self._absent(key) if isinstance(default, _Required) else default
        return value if isinstance(value, str) else self._wrong(key, value, "a text")

    def truth(self, key: str, default: bool) -> bool:
        """A boolean."""
        value = self._header.metadata.get(key, default)
        return value if isinstance(value, bool) else self._wrong(key, value, "true or false")

    @overload
    def count(self, key: str, default: int | _Required = ..., *, least: int = ..., most: int = ...) -> int: ...
    @overload
    def count(self, key: str, default: None, *, least: int = ..., most: int = ...) -> int | None: ...
    def count(
        self, key: str, default: int | _Required | None = _REQUIRED, *, least: int = 1, most: int = MAX_COUNT
    ) -> int | None:
        """A whole number between `least` and `most`."""
        value = self._header.metadata.get(key)
        if value is None:
            return self._absent(key) if isinstance(default, _Required) else default
        return self._counted(key, value, least, most)

    def counts(self, key: str) -> tuple[int, ...]:
        """An array of whole numbers from 0; empty when there is none."""
        value = self._header.metadata.get(key)
        if value is None:
            return ()
        return tuple(self._counted(key, number, 0, MAX_COUNT) for number in self._small(key, value))

    def per_layer(self, key: str, n_layer: int, default: int | _Required = _REQUIRED) -> tuple[int, ...]:
        """One whole number from 0 for each layer: the file has either an array of them or one for all."""
        if not isinstance(value := self._header.metadata.get(key), Array):
            return (self.count(key, default, least=0),) * n_layer
        if value.count != n_layer:
            self._wrong(key, value, f"one number for each of {n_layer} layers")
        return self.counts(key)

    def number(self, key: str, default: float) -> float:
        """A finite number above 0."""
        value = self._header.metadata.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not (0 < value < math.inf):
            self._wrong(key, value, "a number above 0")
        return float(value)

    def colours(self, key: str) -> tuple[float, ...]:
        """Three finite numbers, for red, green and blue, stored as f32: llama.cpp takes them unseen."""
        value = self._header.metadata.get(key)
        if value is None:
            self._absent(key)
        if not isinstance(value, Array) or value.kind != "f32" or value.count != 3:
            self._wrong(key, value, "three numbers (f32)")
        numbers = tuple(float(number) for number in value.values())
        return numbers if all(map(math.isfinite, numbers)) else self._wrong(key, value, "three finite numbers")

    def array_length(self, key: str) -> int:
        """Elements of an array; 0 when there is none."""
        value = self._header.metadata.get(key)
        if value is None:
            return 0
        return value.count if isinstance(value, Array) else self._wrong(key, value, "an array")

    def _counted(self, key: str, value: Value, least: int, most: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            self._wrong(key, value, f"a whole number from {least} to {most}")
        return value

    def _small(self, key: str, value: Value) -> tuple[Scalar, ...]:
        if not isinstance(value, Array) or value.kind == "string" or value.count > 1024:
            self._wrong(key, value, "a short array of numbers")
        return value.values()

    def _absent(self, key: str) -> NoReturn:
        raise self._header.invalid(f"does not say {shown(key)}, which every such model says")

    def _wrong(self, key: str, value: Value, expected: str) -> NoReturn:
        found = f"{value.count} values of {value.kind}" if isinstance(value, Array) else shown(repr(value), 60)
        raise self._header.invalid(f"is damaged: {shown(key)} is {found}, expected {expected}")
