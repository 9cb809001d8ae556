"""Small JSON files that survive this process, locks, and processes that outlive it."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from local_cluster.errors import UserError
from local_cluster.report import say


def read_json(path: Path) -> dict[str, Any]:
    """The object in `path`; empty if there is none."""
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    return content


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Replace `path` in one step: a reader sees the old or the new object, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(json.dumps(content, indent=2) + "\n")
    new.rename(path)


@contextmanager
def exclusive(path: Path, doing: str, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock file `path`; it is released by the kernel however this process ends.

    Raises UserError naming the holder when it is taken and `wait` is false.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            holder = lock.read().strip() or "another process"
            if not wait:
                raise UserError(
                    f"{holder} is at work on the same cluster. Wait for it to end, then run this again."
                ) from None
            say(f"waiting for {holder}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        lock.seek(0)
        lock.truncate()
        lock.write(f"{doing} (process {os.getpid()})")
        lock.flush()
        yield


def start_detached(argv: list[str], log: Path, env: dict[str, str] | None = None) -> dict[str, Any]:
    """Start a process that outlives this one; what is returned identifies it for `is_running` and `stop`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as sink:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT, start_new_session=True, env=env
        )
    return {"pid": process.pid, "born": _born(process.pid)}


def is_running(process: dict[str, Any]) -> bool:
    """Whether the very process still lives: a process id alone may have been given to another one."""
    return bool(process) and _born(process["pid"]) == process["born"] != ""


def stop(process: dict[str, Any], *, grace_s: float = 30.0) -> None:
    """End a process by SIGTERM, and by SIGKILL (with its whole session) after `grace_s` seconds."""
    if not is_running(process):
        return
    os.kill(process["pid"], signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while is_running(process):
        if time.monotonic() > deadline:
            os.killpg(process["pid"], signal.SIGKILL)
            return
        time.sleep(0.1)


def _born(pid: int) -> str:
    """When a process was started, in words that only its equal has; empty if it does not live."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # our own ended child would stay a zombie that still looks alive
    if Path("/proc/self/stat").exists():
        try:
            # The name, in parentheses, may hold anything; state and start time are fields 3 and 22 (proc_pid_stat(5)).
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return ""
        return "" if fields[0] == "Z" else fields[19]
    found = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return found.stdout.strip()
