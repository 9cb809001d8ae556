"""What several processes print, as whole lines that say whose they are."""

import os
import sys
import threading
import time
from collections.abc import Sequence
from typing import IO, Final

from trainyard.launch.supervisor import Child

_LONGEST_LINE: Final = 2**20
"""In bytes; a longer one is broken."""
_DRAIN_S: Final = 2.0


class PrefixedOutput:
    """Copies each child's output to our own, line by line, each with `[name] ` before it."""

    def __init__(self, children: Sequence[Child]) -> None:
        """Of children that were started with `piped`, all of them: a thread for each stream."""
        self._writing = threading.Lock()
        self._threads = [
            threading.Thread(target=self._copy, args=(f"[{child.name}] ".encode(), source, target), daemon=True)
            for child in children
            for source, target in (
                (child.process.stdout, sys.stdout.fileno()),
                (child.process.stderr, sys.stderr.fileno()),
            )
        ]
        for thread in self._threads:
            thread.start()

    def finish(self) -> None:
        """Wait for the last lines; not for ever, since what a child started may live on and hold its streams."""
        end = time.monotonic() + _DRAIN_S
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    def _copy(self, prefix: bytes, source: IO[bytes], target: int) -> None:
        while line := source.readline(_LONGEST_LINE):
            whole = line if line.endswith(b"\n") else line + b"\n"
            with self._writing:
                _write(target, prefix + whole)


def _write(target: int, data: bytes) -> None:
    """All of it, or nothing more if nobody reads: that is no reason to stop training."""
    try:
        while data:
            data = data[os.write(target, data) :]
    except OSError:
        pass
