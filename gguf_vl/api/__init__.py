"""The library: `from gguf_vl import load`, and an application is ten lines.

    settings.py     what `load` and each question may set
    pictures.py     from what a program has, such as a Pillow image, to the picture the model sees
    asking.py       a question or a task and its pictures → a request; its events → an `Answer`
    async_model.py  `load_async`: all there is, for asyncio
    portal.py       an event loop on a thread of its own
    model.py        `load`: the same without asyncio, through a portal

Nothing here prints or logs, and nothing is imported before it is asked for: `gguf_vl/__init__.py` lists the names.
"""

from gguf_vl.api.answers import Answer as Answer
from gguf_vl.api.answers import BatchResult as BatchResult
from gguf_vl.api.async_model import AsyncChat as AsyncChat
from gguf_vl.api.async_model import AsyncModel as AsyncModel
from gguf_vl.api.async_model import AsyncStream as AsyncStream
from gguf_vl.api.async_model import Loading as Loading
from gguf_vl.api.async_model import load_async as load_async
from gguf_vl.api.model import Chat as Chat
from gguf_vl.api.model import Model as Model
from gguf_vl.api.model import Stream as Stream
from gguf_vl.api.model import load as load
from gguf_vl.api.pictures import PictureSource as PictureSource
from gguf_vl.api.settings import AskSettings as AskSettings
from gguf_vl.api.settings import LoadSettings as LoadSettings
from gguf_vl.media.boxes import Box as Box
from gguf_vl.media.boxes import Point as Point
from gguf_vl.media.choice import Frames as Frames
from gguf_vl.types import Timings as Timings
from gguf_vl.types import Usage as Usage
