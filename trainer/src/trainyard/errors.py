"""What a caller may handle.

TrainyardError
+- ConfigError      the user's mistake; a retry cannot help (exit 42)
+- TrackingError    MLflow cannot be reached by what must have its answer (exit 1)
+- SpoolError       the record on local disk cannot be written, read or delivered (exit 1)
+- CheckpointError  a checkpoint cannot be written, or not be looked for (exit 1; in `checkpoint`)
+- DistributedError the processes that train together do not meet (exit 1; in `distributed`)
+- Interrupted      SIGTERM or SIGINT arrived (exit 128 + signal)
"""

from collections.abc import Sequence

from trainyard import exit_codes


class TrainyardError(Exception):
    """An end that has a clear cause: shown as one message, without a traceback."""

    exit_code = exit_codes.FAILED


class ConfigError(TrainyardError):
    """One or more settings are wrong; each problem is one line that names the setting and its value."""

    exit_code = exit_codes.BAD_CONFIGURATION

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems: Sequence[str] = problems

    def __str__(self) -> str:
        return "\n".join(self.problems)


class TrackingError(TrainyardError):
    """MLflow cannot be reached or refuses a run; the message names the URL."""


class SpoolError(TrainyardError):
    """The record on local disk cannot be written, read or delivered; the message names the file."""


class Interrupted(TrainyardError):  # noqa: N818 - being asked to stop is no error
    """The process was asked to stop."""

    def __init__(self, signal_number: int, signal_name: str) -> None:
        super().__init__(f"stopped by {signal_name}")
        self.exit_code = exit_codes.stopped_by(signal_number)
