from collections.abc import Iterator

import pytest

from gguf_vl.chat.history import History


@pytest.fixture
def history() -> Iterator[History]:
    """A new one in the folder of the test."""
    with History() as opened:
        yield opened
