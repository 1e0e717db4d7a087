"""A local runner for Qwen3-VL on llama.cpp: a picture and a question go in, an answer comes out.

Everything runs on this machine. The rooms of the house, and which may import which, are in CONTRIBUTING.md; this
module imports none of them, so that `import gguf_vl` costs nothing.
"""

import os

os.environ |= {"HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}  # read when a library is imported: after this

__version__ = "0.1.0"
