"""What the history of the terminal's chats costs. Prints JSON; no test.

    .venv/bin/python scripts/bench_history.py [--messages 10000] [--folder DIR]

`search_ms` is the middle and the worst of 20 searches for each query over all messages, half of them English and half
Chinese, 300 characters in the middle; the goal is 50 ms. `append_per_s` is pieces of an answer behind 0 and behind
100,000 others. `open_chat_ms` is a chat of 500 turns on its path, `open_ms` a warm process's opening of the history,
`list_ms` 1,000 chats. `cold_ms` is a new process: import, open, list 100 chats, without Python's own start.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from gguf_vl.chat.history import History

GOAL_MS = 50.0
ENGLISH = """
 the a picture shows text receipt total amount street sign red blue circle square person table window light
 number line paper store invoice tax item price date screen button error message chart axis value label image camera
 tree house car road mountain river letter word page scan quality resolution height width left right above below
""".split()
CHINESE = (
    "图片里有一个红色的圆形和蓝色方块请读出文字收据总计金额街道标志人桌子窗户灯光数字线纸商店发票税项目价格日期屏幕按钮错误信息"
    "图表轴值标签相机树房子车路山河字母单词页扫描质量分辨率高宽左右上下"
)
QUERIES = ["the", "receipt", "a", "to", "receipt total", "red cir", "zebra", "zq", "e"]
QUERIES += ["图片", "收据总计", "图", "斑马", "龘", "红色 的", "invoice 金额"]
CHATS, LONG = 1000, 500


def words(chance: random.Random, n: int) -> str:
    """A message of either language."""
    length = max(10, int(chance.lognormvariate(5.7, 0.8)))
    if n % 2:
        return "".join(chance.choices(CHINESE, k=length))
    return " ".join(chance.choices(ENGLISH, k=length // 5))


def filled(history: History, n_messages: int) -> int:
    """Chats of some turns each, and one of many. -> its id. Written as an import is, all at once."""
    from gguf_vl.chat.export import importing

    chance = random.Random(8)
    plain = dict.fromkeys(("thinking", "finish_reason", "error", "model"), "")
    turn: dict[str, Any] = plain | {"attachments": [], "state": "done", "usage": None, "timings": None}
    unset = dict.fromkeys(("title", "system", "model", "preset"))
    chat: dict[str, Any] = unset | {"pinned": False, "sampling": {}, "draft": {"text": "", "attachments": []}}
    lengths = [(n_messages - LONG) // (CHATS - 1)] * (CHATS - 1) + [LONG]
    lengths[0] += n_messages - sum(lengths)
    chats = []
    for number, length in enumerate(lengths):
        turns = [
            turn
            | {"parent": n - 1 if n else None, "chosen": 1, "role": ("user", "assistant")[n % 2], "created": 1e9 + n}
            for n in range(length)
        ]
        for n, each in enumerate(turns):
            each["text"] = words(chance, number + n // 2)
        chats.append(chat | {"created": 1e9, "updated": 1e9 + number, "turns": turns})
    data = {"format": "gguf-vl chats", "version": 1, "chats": chats, "pictures": {}}
    return importing.load(history, data)[-1].id


def timed(work: Callable[[], object], times: int = 20) -> dict[str, float]:
    """Milliseconds: the middle and the worst."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        took.append((time.perf_counter() - began) * 1e3)
    return {"median": round(median(took), 2), "worst": round(max(took), 2)}


def searched(history: History, query: str) -> dict[str, float]:
    """Milliseconds of a search, and what it finds."""
    return timed(lambda: history.search(query)) | {"hits": len(history.search(query))}


def appended(history: History, turn_id: int, times: int = 5000) -> int:
    """Pieces a second."""
    began = time.perf_counter()
    for _ in range(times):
        history.append(turn_id, " token")
    return round(times / (time.perf_counter() - began))


def cold(folder: Path) -> float:
    """Milliseconds in a new process, the best of seven."""
    code = f"""
import time
began = time.perf_counter()
from pathlib import Path
from gguf_vl.chat.history import History
with History(Path({str(folder)!r})) as history:
    history.chats(limit=100)
    print((time.perf_counter() - began) * 1e3)
"""
    return min(float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(7))


def measured(folder: Path, n_messages: int) -> dict[str, Any]:
    """All figures."""
    with History(folder) as history:
        began = time.perf_counter()
        long = filled(history, n_messages)
        filling = time.perf_counter() - began
        search = {query: searched(history, query) for query in QUERIES}
        figures: dict[str, Any] = {
            "messages": n_messages,
            "file_mb": round(history.database.path.stat().st_size / 1e6, 1),
            "filling_s": round(filling, 2),
            "search_ms": search,
            "search_worst_median_ms": max(each["median"] for each in search.values()),
            "search_goal_ms": GOAL_MS,
            "open_chat_ms": timed(lambda: history.turns(long)),
            "list_ms": timed(history.chats),
            "list_100_ms": timed(lambda: history.chats(limit=100)),
        }
        question = history.question(long, None, "Go on")
        answer = history.begin_answer(question.id, "bench").id
        first = appended(history, answer)
        with history.writing() as rows:
            more = [(answer, " token", "")] * 95_000
            rows.connection.executemany("INSERT INTO piece (turn_id, text, thinking) VALUES (?, ?, ?)", more)
        figures["append_per_s"] = {"behind_0": first, "behind_100000": appended(history, answer)}
        began = time.perf_counter()
        history.finish(answer, "done")
        figures["finish_105000_pieces_ms"] = round((time.perf_counter() - began) * 1e3, 1)
    figures["open_ms"] = timed(lambda: History(folder).close())
    figures["cold_ms"] = round(cold(folder), 1)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the history of chats.")
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measured(args.folder or Path(folder), args.messages), ensure_ascii=False, indent=1))


if __name__ == "__main__":
    main()
