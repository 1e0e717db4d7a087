"""Encoded pictures, kept by content."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class EmbeddingCache:
    """Picture embeddings by content hash, the least recently used leaving first when `budget` bytes are passed."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._kept: OrderedDict[str, NDArray[np.float32]] = OrderedDict()

    def get(self, digest: str) -> NDArray[np.float32] | None:
        """The embeddings, [image tokens, width] float32, where they are kept."""
        if digest in self._kept:
            self._kept.move_to_end(digest)
        return self._kept.get(digest)

    def put(self, digest: str, embeddings: NDArray[np.float32]) -> None:
        """Keep these; the latest is kept even where it is larger than the whole budget."""
        self._kept[digest] = embeddings
        while self.n_bytes > self._budget and len(self._kept) > 1:
            self._kept.popitem(last=False)

    @property
    def n_bytes(self) -> int:
        """Bytes kept now."""
        return sum(embeddings.nbytes for embeddings in self._kept.values())
