"""Moved to `gguf_vl.store.known`."""

from gguf_vl.store.known import models_of_sizes as models_of_sizes
from gguf_vl.store.known import published_files as published_files
