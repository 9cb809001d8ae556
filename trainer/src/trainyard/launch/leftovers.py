"""Processes that a program left behind, such as what a shell had started when SIGTERM ended the shell alone."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")


def kill_leftovers(variable: str, value: str) -> Sequence[str]:
    """Kill every process that has this environment variable, whichever session it is in; returns their names.

    A system without /proc shows none.
    """
    killed: dict[str, str] = {}
    while found := {
        process.name: _name(process) for process in _having(f"{variable}={value}") if process.name not in killed
    }:
        killed |= found
        for pid in found:
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:  # gone meanwhile
                killed[pid] = ""
    return [name for name in killed.values() if name]


def _having(mark: str) -> Sequence[Path]:
    found = []
    for process in _PROC.glob("[0-9]*"):
        try:
            if mark.encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append(process)
        except OSError:  # gone, or somebody else's
            continue
    return found


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip()
    except OSError:
        return ""
