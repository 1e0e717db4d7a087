"""Holds a plan to its word: capped just below it nothing is loaded, just above it the largest picture is answered.

    python scripts/check_memory_cap.py MODEL.gguf [--with cgroup | prlimit] [--ctx N] [--image-max-tokens N]

Looks for the smallest cap under which `gguf-vl plan` says yes, then asks about a picture of the largest size under a
cap just below (exit 4 and two lines are right, and no process killed) and just above (an answer is right). A cap is a
memory cgroup of its own, which needs root, or `prlimit --data`. Prints JSON; exits with 1 when either is not so.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

MIB = 1 << 20
STEP = 8 * MIB
NEAR = 16 * MIB
CGROUPS = Path("/sys/fs/cgroup")


class Prlimit:
    """A limit on the data of each process."""

    name = "prlimit --data"

    def __init__(self, n_bytes: int) -> None:
        self._n_bytes = n_bytes

    def wrap(self, words: Sequence[str]) -> list[str]:
        return ["prlimit", f"--data={self._n_bytes}", *words]

    def killed(self) -> int:
        return 0


class Cgroup:
    """A limit on all of the memory of the processes inside."""

    name = "a memory cgroup"

    def __init__(self, n_bytes: int) -> None:
        v2 = (CGROUPS / "cgroup.controllers").exists()
        self._folder = (CGROUPS if v2 else CGROUPS / "memory") / f"gguf-vl-{os.getpid()}"
        self._tasks = self._folder / ("cgroup.procs" if v2 else "tasks")
        self._events = self._folder / ("memory.events" if v2 else "memory.oom_control")
        self._folder.mkdir(exist_ok=True)
        (self._folder / ("memory.max" if v2 else "memory.limit_in_bytes")).write_text(str(n_bytes))

    def wrap(self, words: Sequence[str]) -> list[str]:
        return ["sh", "-c", f'echo $$ > {self._tasks} && exec "$@"', "sh", *words]

    def killed(self) -> int:
        """Processes that the kernel has killed for want of memory."""
        found = re.search(r"^oom_kill (\d+)", self._events.read_text(), re.MULTILINE)
        return int(found[1]) if found else 0

    def remove(self) -> None:
        self._folder.rmdir()


@contextmanager
def capped(kind: type[Prlimit] | type[Cgroup], n_bytes: int) -> Iterator[Prlimit | Cgroup]:
    cap = kind(n_bytes)
    try:
        yield cap
    finally:
        if isinstance(cap, Cgroup):
            cap.remove()


def run(kind: type[Prlimit] | type[Cgroup], n_bytes: int, words: Sequence[str]) -> dict[str, object]:
    """One command under a cap: its exit code, what it printed, and how many processes the kernel killed."""
    with capped(kind, n_bytes) as cap:
        whole = cap.wrap([sys.executable, "-P", "-m", "gguf_vl", *words])
        done = subprocess.run(whole, capture_output=True, text=True, timeout=3000)
        return {
            "cap_mib": round(n_bytes / MIB, 1),
            "exit": done.returncode,
            "stdout": done.stdout.strip(),
            "stderr": done.stderr.strip().splitlines(),
            "killed": cap.killed(),
        }


def smallest_cap(kind: type[Prlimit] | type[Cgroup], words: Sequence[str]) -> int:
    """The smallest cap, to a step, under which the plan fits."""
    low, high = 64 * MIB, 64 << 30
    while high - low > STEP:
        middle = (low + high) // 2
        if run(kind, middle, words)["exit"] == 0:
            high = middle
        else:
            low = middle
    return high


def main() -> None:
    parser = argparse.ArgumentParser(description="Holds a model's plan to its word under caps of memory.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--with", dest="kind", choices=("cgroup", "prlimit"), default="prlimit")
    parser.add_argument("--ctx", default="4096")
    parser.add_argument("--image-max-tokens", type=int, default=1024)
    args = parser.parse_args()
    kind = Cgroup if args.kind == "cgroup" else Prlimit
    side = round(args.image_max_tokens**0.5) * 32
    wishes = ["--ctx", args.ctx, "--kv-type", "f16", "--image-max-tokens", str(args.image_max_tokens)]
    cap = smallest_cap(kind, ["plan", str(args.model), *wishes])
    with tempfile.TemporaryDirectory() as folder:
        picture = str(Path(folder, "largest.png"))
        Image.effect_noise((side, side), 80).convert("RGB").save(picture)
        ask = [
            "ask",
            "-m",
            str(args.model),
            *wishes,
            "--detail",
            "high",
            "--max-tokens",
            "4",
            "--json",
            picture,
            "What?",
        ]
        below, above = run(kind, cap - STEP - NEAR, ask), run(kind, cap + NEAR, ask)
    answered = json.loads(str(above["stdout"])) if above["exit"] == 0 else {}
    is_right = (
        (below["exit"], below["stdout"], below["killed"], above["killed"]) == (4, "", 0, 0)
        and len(below["stderr"]) == 2  # type: ignore[arg-type]
        and answered.get("usage", {}).get("image_tokens") == (side // 32) ** 2
    )
    report = {"cap": kind.name, "smallest_cap_mib": round(cap / MIB, 1), "below": below, "above": above}
    print(json.dumps(report | {"right": is_right}, indent=1, ensure_ascii=False))
    sys.exit(0 if is_right else 1)


if __name__ == "__main__":
    main()
