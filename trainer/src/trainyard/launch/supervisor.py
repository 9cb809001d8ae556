"""Programs, told of signals and seen to their end: the same for `trainyard run`, with one, and `trainyard launch`."""

import contextlib
import ctypes
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final, Self

from trainyard import exit_codes
from trainyard.errors import ConfigError
from trainyard.interruption import Interruption

_STOP_S: Final = 10.0
"""What the others get when one has failed: more often than not they wait for it in vain."""
_KILLED_S: Final = 5.0
_LOOK_S: Final = 1.0
_PR_SET_PDEATHSIG: Final = 1


@dataclass(slots=True)
class Child:
    """A program that was started."""

    name: str
    process: "subprocess.Popen[bytes]"
    code: int | None = None
    """As a shell says it, 128 + n for signal n; None until the end."""


class Supervisor:
    """A context that takes over SIGTERM, SIGINT and SIGCHLD. Main thread only."""

    def __init__(self, interruption: Interruption, *, grace_s: float | None = None, reap_orphans: bool = False) -> None:
        """`grace_s`: from a first signal to SIGKILL, and a second signal kills; None: programs get every signal, and all the time.

        `reap_orphans`: also wait for processes nobody started here, which process 1 of a container gets. Only where nothing
        else in this process has children.
        """
        self.children: list[Child] = []
        self.failed: Child | None = None
        """The first one that failed by itself."""
        self.told: int | None = None
        """The first signal that arrived."""
        self.told_again: int | None = None
        """The second one, where it kills."""
        self.stopped: list[Child] = []
        """Which were told to end because another one had failed, or by `stop`."""
        self.killed: list[Child] = []
        """Which had not ended in time."""
        self._interruption = interruption
        self._grace_s = grace_s
        self._reap_orphans = reap_orphans
        self._deadline: float | None = None
        self._arrived: list[int] = []

    def __enter__(self) -> Self:
        self._awake, self._wake = socket.socketpair()
        self._wake.setblocking(False)
        self._before: dict[int, Any] = {
            number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
        }
        self._wakeup_before = signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        if self._interruption.received is not None:  # before anybody listened here
            self._arrived.append(self._interruption.received)
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._running():
            _kill(child)
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if self.told is None and self._arrived:  # when there was nobody left to tell
            self.told = self._arrived[0]
        self._awake.close()
        self._wake.close()

    def start(self, name: str, program: Sequence[str], environ: Mapping[str, str], *, piped: bool = False) -> Child:
        """Start it; with `piped`, its output is for the caller to read. Raises ConfigError if that cannot be done."""
        output = subprocess.PIPE if piped else None
        try:
            process = subprocess.Popen(
                program,
                env=dict(environ),
                stdin=subprocess.DEVNULL if piped else None,
                stdout=output,
                stderr=output,
                # Ctrl-C in a terminal would reach it twice, and a second one means "at once" to many programs.
                start_new_session=True,
                preexec_fn=_end_with(os.getpid()) if sys.platform == "linux" else None,
            )
        except OSError as error:
            raise ConfigError(f"{program[0]} cannot be run: {error.strerror}") from error
        child = Child(name, process)
        self.children.append(child)
        return child

    def wait(self, *, meanwhile: Callable[[], None] | None = None, every_s: float = _LOOK_S) -> int:
        """Wait until all have ended; returns the one exit code that is true of them together.

        `meanwhile` is called every `every_s` seconds, or sooner, while they run.
        """
        while True:
            self._act_on_signals()
            self._collect()
            if not self._running() or not self._in_time():
                return self._code()
            if meanwhile is not None:
                meanwhile()
            self._sleep(every_s)

    def stop(self, within_s: float) -> None:
        """Tell all to end, unless they were told before, and kill those that have not `within_s` later. From any thread."""
        if self.told is None and not self.stopped:
            self._stop_running(within_s)
            with contextlib.suppress(OSError):  # full, so there is enough to wake up by; or nobody sleeps any more
                self._wake.send(b"\0")

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if number != signal.SIGCHLD:
            self._arrived.append(number)

    def _sleep(self, at_most_s: float) -> None:
        """Until a signal arrives, or time is up."""
        left = at_most_s if self._deadline is None else self._deadline - time.monotonic()
        self._awake.settimeout(max(0.001, min(left, at_most_s)))
        with contextlib.suppress(TimeoutError):
            self._awake.recv(4096)

    def _act_on_signals(self) -> None:
        while self._arrived:
            number = self._arrived.pop(0)
            first = self.told is None
            if first:
                self.told = number
            elif self._grace_s is not None:
                self.told_again = number
                self._kill_all()
                continue
            if not self.stopped:  # they know, and a second time would mean "at once"
                for child in self._running():
                    child.process.send_signal(number)
            if first and self._grace_s is not None:
                self._deadline = min(self._deadline or math.inf, time.monotonic() + self._grace_s)

    def _collect(self) -> None:
        for child in self._running():
            code = child.process.poll()
            if code is None:
                continue
            child.code = exit_codes.stopped_by(-code) if code < 0 else code
            if self.failed is None and self._is_failure(child.code):
                self.failed = child
                if self.told is None and not self.stopped:
                    self._stop_running(_STOP_S)
        if self._reap_orphans:
            self._wait_for_orphans()

    def _is_failure(self, code: int) -> bool:
        good = [exit_codes.FINISHED, exit_codes.PREEMPTED]
        return code not in (good if self.told is None else [*good, exit_codes.stopped_by(self.told)])

    def _stop_running(self, within_s: float) -> None:
        self._deadline = time.monotonic() + within_s
        self.stopped = [child for child in self._running() if child.process.poll() is None]
        for child in self.stopped:
            child.process.terminate()

    def _in_time(self) -> bool:
        """Kill where time is up. False if that has not helped either."""
        if self._deadline is None or time.monotonic() < self._deadline:
            return True
        if self.killed:
            return False
        self._kill_all()
        return True

    def _kill_all(self) -> None:
        self.killed = self._running()
        for child in self.killed:
            _kill(child)
        self._deadline = time.monotonic() + _KILLED_S

    def _running(self) -> list[Child]:
        return [child for child in self.children if child.code is None]

    def _wait_for_orphans(self) -> None:
        ours = {child.process.pid for child in self._running()}
        with contextlib.suppress(ChildProcessError):
            while found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if found.si_pid in ours:
                    return
                os.waitpid(found.si_pid, 0)

    def _code(self) -> int:
        """What failed comes first; 0 after a signal is not known to be finished, and Kubernetes would count it as success."""
        if self.told_again is not None:
            return exit_codes.stopped_by(self.told_again)
        if self.failed is not None and self.failed.code is not None:
            return self.failed.code
        codes = [child.code for child in self.children]
        if None in codes:  # killed, and not gone
            return exit_codes.stopped_by(signal.SIGKILL)
        stopped = None if self.told is None else exit_codes.stopped_by(self.told)
        if stopped in codes or exit_codes.PREEMPTED not in codes:
            return exit_codes.FINISHED if stopped is None else stopped
        return exit_codes.PREEMPTED


def _kill(child: Child) -> None:
    """With everything it started in its session's first group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.process.pid, signal.SIGKILL)


def _end_with(parent: int) -> Callable[[], None]:
    """What makes a new process end when `parent` is killed, and can pass on nothing any more."""
    prctl = ctypes.CDLL(None).prctl

    def end_with_parent() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # too late to be told
            os._exit(exit_codes.stopped_by(signal.SIGKILL))

    return end_with_parent
