"""`python -m gguf_vl` is `gguf-vl`."""

from gguf_vl.cli import main

main()
