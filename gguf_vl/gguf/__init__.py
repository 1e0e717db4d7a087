"""Reading a model file: its header, and from it the model's shape. No weight is read.

    header = read_header(path)
    text = text_shape(header)                 a language model
    projector = projector_shape(header)       an mmproj file
    mismatch(text, projector)                 why the two do not belong together, or None

Every failure is one `InvalidModelFile`, in bounded time and memory, whatever the file holds.
"""

from __future__ import annotations

from .header import Header, Tensor, read_header
from .quantisation import TensorType
from .shape import ProjectorShape, TextShape, mismatch, projector_shape, text_shape
from .wire import Array

__all__ = [
    "Array",
    "Header",
    "ProjectorShape",
    "Tensor",
    "TensorType",
    "TextShape",
    "mismatch",
    "projector_shape",
    "read_header",
    "text_shape",
]
