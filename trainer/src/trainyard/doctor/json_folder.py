"""The backend `json`."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from trainyard.doctor.examination import Check, Trouble
from trainyard.environment import JobEnvironment


def json_checks(environment: JobEnvironment) -> Sequence[Check]:
    """Its folder."""
    folder = Path(environment.backend_settings.get("TRAINYARD_JSON_DIR") or environment.state_dir / "runs")
    return (Check(name="json folder", look=lambda: _write_and_read(folder)),)


def _write_and_read(folder: Path) -> str:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix=".doctor-", dir=folder) as file:
            file.write(b"{}\n")
            file.flush()
            same = Path(file.name).read_bytes() == b"{}\n"
    except OSError as error:
        raise Trouble(
            f"{folder} cannot be written: {error.strerror or error}",
            "set TRAINYARD_JSON_DIR to a directory that this user may write",
        ) from error
    if not same:
        raise Trouble(f"{folder} gives back other bytes than were written", "set TRAINYARD_JSON_DIR to another disk")
    return f"{folder}: a file was written and read back"
