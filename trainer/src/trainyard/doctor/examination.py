"""Doing checks one after another: each in its own thread, so that none can hang, and told in one line."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from trainyard.interruption import Interruption

_LIMIT_S: Final = 10.0
_POLL_S: Final = 0.1
_NAME_WIDTH: Final = 22
_Verdict = Literal["ok", "FAILED", "warning", "skipped"]


class Trouble(Exception):  # noqa: N818 - what a check finds is its result
    """Runs cannot be recorded as things are: what was seen, and what to do."""

    def __init__(self, seen: str, remedy: str) -> None:
        super().__init__(seen)
        self.remedy = remedy


class Doubt(Trouble):
    """Runs can be recorded, but something about them will be wrong or missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing to look at."""

    name: str
    look: Callable[[], str]
    """Returns what was seen. Raises Trouble."""
    needs: Sequence[str] = ()
    """Checks that must not have failed before."""
    limit_s: float = _LIMIT_S
    cleans_up: bool = False
    """Done even when the command is interrupted."""


class Examination:
    """Does checks, and says what they find."""

    def __init__(self, *, say: Callable[[str], None], interruption: Interruption) -> None:
        self.failed: list[str] = []
        """Names."""
        self._skipped: list[str] = []
        self._say = say
        self._interruption = interruption

    def run(self, checks: Sequence[Check]) -> None:
        """Do them in order. Raises Interrupted, after those that clean up."""
        left = list(checks)
        try:
            while left:
                self._interruption.check()
                self._do(left.pop(0), self._interruption)
        finally:
            for check in left:
                if check.cleans_up:
                    self._do(check, Interruption())

    def _do(self, check: Check, interruption: Interruption) -> None:
        missing = [name for name in check.needs if name in (*self.failed, *self._skipped)]
        if missing:
            self._skipped.append(check.name)
            self.tell("skipped", check.name, f"needs: {missing[0]}")
            return
        began = time.monotonic()
        result = _within(check, interruption)
        took = f"({time.monotonic() - began:.2f} s)"
        if isinstance(result, str):
            self.tell("ok", check.name, f"{result} {took}")
            return
        verdict: _Verdict = "warning" if isinstance(result, Doubt) else "FAILED"
        if verdict == "FAILED":
            self.failed.append(check.name)
        self.tell(verdict, check.name, f"{result} {took}", result.remedy)

    def tell(self, verdict: _Verdict, name: str, text: str, remedy: str = "") -> None:
        """One line, and one more for what to do."""
        self._say(f"{verdict:8}{name:{_NAME_WIDTH}}{' '.join(text.split())}")
        if remedy:
            self._say(f"{'':8}{'':{_NAME_WIDTH}}-> {remedy}")


def _within(check: Check, interruption: Interruption) -> str | Trouble:
    """What the check finds; Trouble when its time is up. Raises Interrupted."""
    found: list[str | Trouble] = []

    def look() -> None:
        try:
            found.append(check.look())
        except Trouble as trouble:
            found.append(trouble)
        except Exception as error:  # whatever a file system or a library comes up with is a finding
            found.append(Trouble(f"{type(error).__name__}: {error}", "this is unexpected; the words above are its own"))

    thread = threading.Thread(target=look, name=check.name, daemon=True)
    thread.start()
    deadline = time.monotonic() + check.limit_s
    while thread.is_alive() and time.monotonic() < deadline:
        interruption.check()
        thread.join(_POLL_S)
    if found:
        return found[0]
    return Trouble(f"no result within {check.limit_s:.0f} s", "find out what does not answer, and look again")
