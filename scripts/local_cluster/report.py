"""What a person sees while a command works: one line a step, with the time since the start."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HEARTBEAT_S = 20.0
_started = time.monotonic()


def say(text: str) -> None:
    """Print one line behind the time (minutes:seconds) since the command began."""
    seconds = int(time.monotonic() - _started)
    print(f"[{seconds // 60:02d}:{seconds % 60:02d}] {text}", flush=True)


@contextmanager
def step(text: str, log: Path | None = None) -> Iterator[None]:
    """Announce a long step, show that it lives, and say how long it took.

    `log` is the file the step writes to: its last line is shown with every heartbeat.
    """
    say(f"{text} ...")
    began = time.monotonic()
    done = threading.Event()

    def heartbeat() -> None:
        while not done.wait(HEARTBEAT_S):
            say(f"  {text}: {time.monotonic() - began:.0f} s so far{_last_line(log)}")

    thread = threading.Thread(target=heartbeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    say(f"  {text}: done in {time.monotonic() - began:.0f} s")


def _last_line(log: Path | None) -> str:
    if log is None or not log.exists():
        return ""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f": {lines[-1][:120]}" if lines else ""


def table(rows: list[tuple[str, ...]]) -> str:
    """Align rows into columns; the first row is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])
