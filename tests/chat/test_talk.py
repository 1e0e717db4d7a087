"""What the model is asked of a conversation."""

from __future__ import annotations

import pytest

from gguf_vl.chat import talk
from gguf_vl.chat.history import History
from gguf_vl.config import load_settings
from gguf_vl.errors import InvalidPicture
from gguf_vl.types import Picture, PictureLimits
from tests.chat.given import png


def test_a_question_whose_picture_is_gone_has_it_back_when_the_file_is_attached_again(history: History) -> None:
    chat, other = history.new_chat().id, history.new_chat().id
    picture = history.attach(chat, png(), "a.png", (1, 1))
    history.ask(chat, None)
    picture.path.unlink()
    room = talk.Room(PictureLimits(4, 16), 1024)
    with pytest.raises(InvalidPicture) as refused:
        talk.messages(history.turns(chat), load_settings({}), room)
    assert "a.png is not there any more" in refused.value.what
    assert "Attach the same file again" in refused.value.fix
    history.attach(other, png(), "again.png", (1, 1))
    [message] = talk.messages(history.turns(chat), load_settings({}), room)
    assert isinstance(message.content[0], Picture)
