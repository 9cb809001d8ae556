"""What a worker and the trials that its agent starts tell each other: files in a folder of the worker."""

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from trainyard.sweeps.records import State

VARIABLE: Final = "TRAINYARD_SWEEP_FOLDER"
"""Tells a trial where the folder is."""
_FAILURES: Final[tuple[State, ...]] = ("failed",)
_SUCCESSES: Final[tuple[State, ...]] = ("finished", "pruned")


@dataclass(frozen=True, slots=True)
class Attempt:
    """How one ended."""

    run: str
    """Of W&B."""
    code: int
    state: State
    reason: str


class Attempts:
    """The folder, from either side."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def sweep_file(self) -> Path:
        """What the sweep is: the program, its metrics."""
        return self._folder / "sweep.yaml"

    @property
    def environment(self) -> Mapping[str, str]:
        """For the agent, and so for its trials."""
        return {VARIABLE: str(self._folder)}

    # The worker's side.

    def tell_of_interruption(self) -> None:
        """From now on SIGTERM means that this worker has to go, and that its trial is to be continued elsewhere."""
        (self._folder / "interrupted").touch()

    def ended(self) -> list[Attempt]:
        """Those that have, in order."""
        return [Attempt(**json.loads(path.read_text())) for path in sorted(self._folder.glob("*.ended"))]

    def kill(self) -> None:
        """Attempts that are still there. What they started ends with them."""
        for path in self._folder.glob("*.running"):
            with contextlib.suppress(ValueError, ProcessLookupError, FileNotFoundError):
                os.killpg(int(path.read_text()), signal.SIGKILL)
            path.unlink(missing_ok=True)

    # A trial's side.

    @property
    def interrupted(self) -> bool:
        """Whether the worker has to go."""
        return (self._folder / "interrupted").exists()

    @contextmanager
    def running(self, run: str) -> Iterator[None]:
        """This process, which leads a group of its own, is at it."""
        path = self._folder / f"{run}.running"
        path.write_text(str(os.getpgid(0)))
        try:
            yield
        finally:
            path.unlink(missing_ok=True)

    def end(self, attempt: Attempt) -> None:
        """Keep how it ended."""
        path = self._folder / f"{time.time_ns()}-{attempt.run}.ended"
        new = path.with_suffix(".new")
        new.write_text(json.dumps(asdict(attempt)))
        new.replace(path)


def failed_in_a_row(attempts: list[Attempt]) -> list[Attempt]:
    """The failures since the last success; an attempt that was cut short is neither."""
    row: list[Attempt] = []
    for attempt in attempts:
        if attempt.state in _SUCCESSES:
            row.clear()
        elif attempt.state in _FAILURES:
            row.append(attempt)
    return row


def tried(attempts: list[Attempt]) -> int:
    """How many trials came to an end here, good or bad."""
    return sum(attempt.state in (*_FAILURES, *_SUCCESSES) for attempt in attempts)
