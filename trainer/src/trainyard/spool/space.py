"""Disk space for a spool: bounded, and waited for when there is none."""

import errno
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from trainyard.errors import SpoolError
from trainyard.spool.folder import SpoolFolder

_T = TypeVar("_T")
_POLL_S = 0.2
_SAY_EVERY_S = 30.0
_WAITS_FOR = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """How much disk a spool may use, and what happens when that is not enough."""

    total_bytes: int = 512 * 2**20
    """Segments and copies together. One copy may be larger: it waits until it is the only one."""
    wait_s: float = 1800.0
    """Seconds that the training process waits for space before it gives up."""


class Space:
    """Reserves disk for one spool, and makes the caller wait while there is none."""

    def __init__(
        self, folder: SpoolFolder, limits: Limits, *, pause: Callable[[float], None], warn: Callable[[str], None]
    ) -> None:
        self._folder = folder
        self._limits = limits
        self._pause = pause
        self._warn = warn

    def take(self, size: int, make: Callable[[], _T], what: str) -> _T:
        """`make()`, which writes `size` bytes, as soon as the bound and the disk have room.

        Raises SpoolError after `wait_s` seconds without room, and what `pause` raises.
        """
        began = time.monotonic()
        said = began - _SAY_EVERY_S
        while True:
            lacking = self._lacking(size)
            if lacking is None:
                try:
                    return make()
                except OSError as error:
                    if error.errno not in _WAITS_FOR:
                        raise
                    lacking = f"{error.strerror} ({_free(self._folder.path)} MiB free)"
            now = time.monotonic()
            if now - began >= self._limits.wait_s:
                raise SpoolError(self._text(what, lacking) + f"; waited {now - began:.0f} s, giving up")
            if now - said >= _SAY_EVERY_S:
                said = now
                self._warn(
                    self._text(what, lacking) + "; training waits until the shipper has delivered and freed some"
                )
            self._pause(_POLL_S)

    def _lacking(self, size: int) -> str | None:
        """Why the bound forbids `size` bytes more; None if it does not."""
        used = self._folder.used_bytes()
        if used + size <= self._limits.total_bytes or used <= self._least():
            return None
        return f"{used / 2**20:.0f} MiB of at most {self._limits.total_bytes / 2**20:.0f} MiB are used (TRAINYARD_SPOOL_BYTES)"

    def _least(self) -> int:
        """What a spool uses whose delivery is up to date: less can never be reached."""
        segments = self._folder.segments()
        return self._folder.segment(segments[-1]).stat().st_blocks * 512 if segments else 0

    def _text(self, what: str, lacking: str) -> str:
        return f"no room for {what} in {self._folder.path}: {lacking}"


def _free(path: Path) -> str:
    status = os.statvfs(path)
    return f"{status.f_bavail * status.f_frsize / 2**20:.1f}"
