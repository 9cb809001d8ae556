"""A run as a folder of readable JSON: no server, nothing to install.

<TRAINYARD_JSON_DIR>/<experiment>/<name>-<8 digits of uid>/
    run.json         name, status, times, params, tags, last value of each metric
    metrics.jsonl    one line for each step that was logged
    artifacts/       files; models/ as MLflow has them
"""

import contextlib
import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainyard.shipping.backend import Progress, Retry
from trainyard.spool.folder import write_json
from trainyard.spool.records import Artifact, End, Metrics, Model, Params, Record, Start, Tags


class JsonFolder:
    """Implements `trainyard.shipping.backend.Backend`."""

    def open(self, start: Start, spool: Path, progress: Progress) -> None:
        """See `Backend`."""
        root = Path(start.settings.get("TRAINYARD_JSON_DIR") or spool.parent.parent / "runs")
        self._folder = _folder(root / _plain(start.experiment), start)
        self._spool = spool
        self._state = progress.state
        with _may_come_right(self._folder):
            (self._folder / "artifacts").mkdir(parents=True, exist_ok=True)
            self._state.setdefault("bytes", _whole_lines(self._metrics) if start.continues else 0)
            self._state["folder"] = str(self._folder)
            self._run = self._read_run() or _new_run(start)
            if self._state.get("attempt", 1) != start.attempt:
                self._run.update(status="RUNNING", end_time_ms=None)
                self._run["tags"].update(start.tags)
                self._state["attempt"] = start.attempt
            with self._metrics.open("ab") as file:
                # What came after the cursor will come again. A file that is shorter is a new one: the disk was lost.
                file.truncate(min(self._state["bytes"], _whole_lines(self._metrics)))
            self._write_run()

    def recorded(self) -> Mapping[str, int]:
        """See `Backend`."""
        last: dict[str, int] = {}
        with _may_come_right(self._folder), self._metrics.open() as lines:
            for line in lines:
                point = json.loads(line)
                for key in point["metrics"]:
                    last[key] = max(point["step"], last.get(key, point["step"]))
        return last

    def deliver(self, records: Sequence[Record]) -> None:
        """See `Backend`."""
        run = self._run
        lines = []
        with _may_come_right(self._folder):
            for record in records:
                match record:
                    case Metrics():
                        values = {key: _number(value) for key, value in record.values}
                        lines.append(
                            json.dumps({"step": record.step, "time_ms": record.time_ms, "metrics": values}) + "\n"
                        )
                        run["metrics"].update(values)
                    case Params():
                        run["params"].update(record.values)
                    case Tags():
                        run["tags"].update(record.values)
                    case Artifact():
                        _copy(self._spool / record.file, self._folder / "artifacts" / record.name)
                    case Model():
                        _copy(self._spool / record.folder, self._folder / "models" / record.name)
            self._append("".join(lines).encode())
            self._write_run()

    def finish(self, end: End) -> None:
        """See `Backend`."""
        self._run.update(status=end.status, end_time_ms=end.time_ms)
        self._run["tags"]["trainyard.end_reason"] = end.reason
        with _may_come_right(self._folder):
            self._write_run()

    def close(self) -> None:
        """See `Backend`."""

    @property
    def _metrics(self) -> Path:
        return self._folder / "metrics.jsonl"

    def _append(self, data: bytes) -> None:
        with self._metrics.open("ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            self._state["bytes"] = file.tell()

    def _read_run(self) -> dict[str, Any] | None:
        """What was known when the shipper stopped, or later than its cursor: writing it twice changes nothing."""
        try:
            found: dict[str, Any] = json.loads((self._folder / "run.json").read_bytes())
        except FileNotFoundError:
            return None
        return found

    def _write_run(self) -> None:
        write_json(self._folder / "run.json", self._run, indent=2)


def _folder(experiment: Path, start: Start) -> Path:
    """The run's; it keeps the name that a process before this one gave it."""
    named = experiment / f"{_plain(start.name)}-{start.uid[:8]}"
    found = sorted(experiment.glob(f"*-{start.uid[:8]}")) if start.continues else []
    return named if named in found or not found else found[0]


def _whole_lines(path: Path) -> int:
    """Bytes of the lines that were written whole."""
    content = path.read_bytes() if path.exists() else b""
    return content.rfind(b"\n") + 1


def _new_run(start: Start) -> dict[str, Any]:
    return {
        "uid": start.uid,
        "name": start.name,
        "experiment": start.experiment,
        "status": "RUNNING",
        "start_time_ms": start.time_ms,
        "end_time_ms": None,
        "tags": dict(start.tags),
        "params": {},
        "metrics": {},
    }


def _number(value: float) -> float | str:
    """JSON has no NaN and no infinity; they are written as words."""
    return value if math.isfinite(value) else str(value)


def _plain(name: str) -> str:
    """As the name of one folder."""
    return re.sub(r"[^\w.\- ]", "_", name).lstrip(".") or "_"


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copyfile(source, target)


@contextlib.contextmanager
def _may_come_right(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Retry(
            f"{folder} cannot be written: {error.strerror or error}; free space, or correct TRAINYARD_JSON_DIR"
        ) from error
