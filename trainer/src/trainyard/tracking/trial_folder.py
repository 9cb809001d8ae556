"""A trial and the worker of its sweep: files in one folder, since either may be any program."""

import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, SupportsFloat, SupportsIndex

from trainyard.errors import ConfigError

_MODE: Final = 0o644


class LogMetrics(Protocol):
    """As `Run.log_metrics`."""

    def __call__(self, values: Mapping[str, SupportsFloat | SupportsIndex], *, step: int) -> None:
        """Record one value per metric."""


class TrialFolder:
    """What is in it:

    wanted.json     the worker, before the start: a list of the metrics that it wants to know
    metrics.jsonl   the trial: {"step": 3, "values": {"validation/loss": 0.31}}, a line whenever one of them is measured
    stop            the worker, before it sends SIGTERM to end the trial for good: why, in one word
    """

    def __init__(self, path: Path, wanted: Collection[str]) -> None:
        self.metrics = path / "metrics.jsonl"
        self.wanted = frozenset(wanted)
        self._stop = path / "stop"

    @classmethod
    def make(cls, path: Path, wanted: Sequence[str]) -> "TrialFolder":
        """For a trial that is to start, in an empty directory."""
        (path / "wanted.json").write_text(json.dumps(wanted))
        (path / "metrics.jsonl").touch(_MODE)
        return cls(path, wanted)

    @classmethod
    def find(cls, path: Path) -> "TrialFolder":
        """In the trial. Raises ConfigError if no worker made it."""
        try:
            return cls(path, json.loads((path / "wanted.json").read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(
                f"TRAINYARD_TRIAL_DIR={path}: has no readable wanted.json ({error}); `trainyard sweep run` makes it and sets "
                "the variable: leave it unset elsewhere"
            ) from error

    def append(self, step: int, values: Mapping[str, float]) -> None:
        """One line, whole or not at all. Raises OSError."""
        line = json.dumps({"step": step, "values": values}) + "\n"
        file = os.open(self.metrics, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _MODE)
        try:
            os.write(file, line.encode())
        finally:
            os.close(file)

    def telling(self, log: LogMetrics, warn: Callable[[str], None]) -> LogMetrics:
        """`log`, which also appends what is wanted of it."""
        wanted = self.wanted

        def log_and_tell(values: Mapping[str, SupportsFloat | SupportsIndex], *, step: int) -> None:
            log(values, step=step)
            if wanted.isdisjoint(values):
                return
            try:
                self.append(step, {name: float(value) for name, value in values.items() if name in wanted})
            except OSError as error:  # the run has the values
                warn(f"the sweep is not told of step {step}: {self.metrics}: {error.strerror}")

        return log_and_tell

    def stop(self, reason: str) -> None:
        """The trial is to end for good."""
        hidden = self._stop.with_suffix(".new")
        hidden.write_text(reason)
        hidden.rename(self._stop)

    def stop_reason(self) -> str | None:
        """Why the trial is to end for good; None while it is not."""
        try:
            return self._stop.read_text().strip() or None
        except OSError:
            return None


class MetricRows:
    """What is appended to the file, as it grows."""

    def __init__(self, path: Path, *, say: Callable[[str], None]) -> None:
        self._file = path.open("rb")
        self._rest = b""
        self._say = say
        self._complained = False

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def new(self) -> Iterator[tuple[int, Mapping[str, float]]]:
        """Rows that are complete and were not returned before."""
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        for line in filter(None, map(bytes.strip, lines)):
            row = _row(line)
            if row is not None:
                yield row
            elif not self._complained:
                self._complained = True
                self._say(
                    f"{self._file.name}: left out, since it is not like "
                    f'{{"step": 3, "values": {{"validation/loss": 0.31}}}}: {line[:200].decode(errors="replace")}'
                )


def _row(line: bytes) -> tuple[int, dict[str, float]] | None:
    try:
        row: Any = json.loads(line)
        return int(row["step"]), {str(name): float(value) for name, value in row["values"].items()}
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return None
