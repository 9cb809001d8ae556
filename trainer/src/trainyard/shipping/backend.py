"""What the shipper asks of a place that records are delivered to."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from trainyard.spool.records import End, Record, Start


class Retry(Exception):  # noqa: N818 - a reason to wait, not a failure
    """The same may succeed later; the text says why it did not now, and what to do if it stays so."""


class Unusable(Retry):
    """Somebody has to correct something first. At the start of a training this is an error; later the record waits."""


class Progress(Protocol):
    """What a backend keeps between two deliveries, and over the shipper's own end."""

    state: dict[str, Any]
    """Anything that JSON can hold. A process that continues the run begins with what the one before it left."""

    def save(self) -> None:
        """Make `state` durable now."""

    def warn(self, text: str) -> None:
        """One line for whoever looks why something is missing; names the thing."""


class Backend(Protocol):
    """One place, for one run. Every call may be repeated: after `Retry`, or when the shipper starts again."""

    def open(self, start: Start, spool: Path, progress: Progress) -> None:
        """Get ready. Raises Retry."""

    def recorded(self) -> Mapping[str, int]:
        """The last step of each metric that the run has there. Raises Retry.

        Asked once, after `open` and before anything is delivered, of a run that a process before this one may have recorded.
        """

    def deliver(self, records: Sequence[Record]) -> None:
        """Return when the records are safe there. Raises Retry.

        They come in order: up to 1,000 points and other records, mixed; an Artifact or a Model alone. After a crash they
        may come again, and must be stored once.
        """

    def finish(self, end: End) -> None:
        """Give the run its end state. Raises Retry."""

    def close(self) -> None:
        """Let go of connections and processes. Never raises, takes a few seconds at most."""
