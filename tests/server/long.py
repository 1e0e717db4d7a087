"""Questions that `pocket` takes seconds to answer, however fast the machine is."""

from __future__ import annotations

from typing import Any

LONG: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Hello!"}],
    "grammar": "root ::= [a-z ] root",
    "temperature": 5,
    "seed": 7,
    "max_tokens": 1_000_000,
    "top_k": 0,
    "top_p": 1,
}
"""Letters drawn at random, so that no loop is found, and without an end until the context or the time is full."""
SHORT: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello!"}]}
