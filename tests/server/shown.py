"""Pictures as clients send them, and what is right about them."""

from __future__ import annotations

import base64

from tests.scenes import png, scene

RED_CIRCLE = png(scene("red circle"))
BLUE_SQUARE = png(scene("blue square", seed=1))
QUESTION = "What shape is red?"
ANSWER = "circle"


def encoded(picture: bytes) -> str:
    """In base64."""
    return base64.b64encode(picture).decode()


def data_uri(picture: bytes) -> str:
    """As a `data:` URI."""
    return f"data:image/png;base64,{encoded(picture)}"


PAINT = {
    "type": "object",
    "properties": {"colour": {"enum": ["red"]}},
    "required": ["colour"],
    "additionalProperties": False,
}
"""The schema of a tool's arguments that leaves pocket, which learnt nothing of tools, one thing to say."""
