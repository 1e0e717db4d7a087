"""A process that writes into a history and says so, line by line, each after the call has returned.

python writer.py answer FOLDER CHAT       appends words to an answer, for ever
python writer.py attach FOLDER CHAT       attaches pictures, for ever
python writer.py hold FOLDER CHAT         begins an answer with "held", and waits for its input to end
python writer.py ask FOLDER CHAT          asks 200 questions, each below the last
python writer.py import FOLDER CHAT       imports 100 copies of the chat
python writer.py open FOLDER CHAT         opens a history that may be new, and makes a chat in it
"""

from __future__ import annotations

import os
import sys
from itertools import count
from pathlib import Path

from gguf_vl.chat.export import importing, json
from gguf_vl.chat.history import History


def say(line: object) -> None:
    os.write(1, f"{line}\n".encode())


def main(what: str, folder: str, chat: int) -> None:
    history = History(Path(folder))
    match what:
        case "answer":
            answer = history.begin_answer(history.question(chat, None, "Go on").id, "pocket")
            say(answer.id)
            for n in count():
                history.append(answer.id, f"{n} ")
                say(n)
        case "attach":
            for n in count():
                picture = b"\x89PNG\r\n\x1a\n" + os.urandom(200_000)
                say(history.attach(chat, picture, f"{n}.png", (1, 1)).digest)
        case "hold":
            answer = history.begin_answer(history.question(chat, None, "Wait").id, "pocket")
            history.append(answer.id, "held")
            say(answer.id)
            sys.stdin.read()
        case "ask":
            parent = None
            for n in range(200):
                parent = history.question(chat, parent, f"{os.getpid()} {n}").id
            say(parent)
        case "import":
            say(len(importing.load(history, json.export(history, [chat] * 100))))
        case "open":
            say(history.new_chat().id)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
