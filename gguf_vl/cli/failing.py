"""A verb that works on several things and goes on where one of them fails."""

from __future__ import annotations

from collections.abc import Sequence

from gguf_vl.cli.printing import print_error
from gguf_vl.errors import GgufVlError


def end_with(errors: Sequence[GgufVlError]) -> None:
    """Say every error but the first, and end with that one; where there is none, nothing."""
    for error in errors[1:]:
        print_error(error)
    if errors:
        raise errors[0]
