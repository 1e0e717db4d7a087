"""A local runner for Qwen3-VL on llama.cpp: a picture and a question go in, an answer comes out.

Everything runs on this machine. The rooms of the house, and which may import which, are in CONTRIBUTING.md; this
module imports none of them, so that `import gguf_vl` costs nothing.
"""

__version__ = "0.1.0"
