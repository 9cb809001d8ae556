"""The `Run` that scripts get: every call appends to the spool and returns."""

import io
import json
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from trainyard import exit_codes
from trainyard.errors import Interrupted
from trainyard.spool.records import Artifact, End, EndStatus, Model, Params, Tags
from trainyard.spool.writer import SpoolWriter
from trainyard.tracking.params import TAG_LIMIT, VALUE_LIMIT, cut, flatten
from trainyard.tracking.trial_folder import TrialFolder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_REASONS: Final[Mapping[EndStatus, str]] = {
    "FINISHED": "finished",
    "FAILED": "failed",
    "KILLED": "interrupted",
    "SCHEDULED": "preempted",
}


class SpooledRun:
    """Implements `trainyard.tracking.run.Run`. As a context manager it ends the run truthfully, whatever leaves the block."""

    def __init__(
        self,
        writer: SpoolWriter,
        *,
        name: str,
        on_end: Callable[[EndStatus], None],
        warn: Callable[[str], None],
        trial: TrialFolder | None = None,
    ) -> None:
        """`trial`: of the sweep that wants to know how the run is doing, and may end it."""
        self.uid = writer.folder.uid
        self.folder = writer.folder
        self.name = name
        self._writer = writer
        self._on_end = on_end
        self._warn = warn
        self._ended = False
        self._trial = trial
        # The method itself: another call in between would cost a tenth of a microsecond, and a tenth of the budget.
        self.log_metrics = writer.metrics if trial is None else trial.telling(writer.metrics, warn)

    def log_params(self, params: object) -> None:
        """See `Run`."""
        values = {}
        for key, value in flatten(params).items():
            values[key] = self._within(VALUE_LIMIT, "params", key, value)
        self._writer.append(Params(values))

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """See `Run`."""
        self._writer.append(Tags({key: self._tag(key, str(value)) for key, value in tags.items()}))

    def _tag(self, key: str, value: str) -> str:
        if not 0 < len(key) <= 250:
            raise ValueError(f"tag {key!r}: a name must have 1 to 250 characters")
        return self._within(TAG_LIMIT, "tags", key, value)

    def _within(self, limit: int, folder: str, key: str, value: str) -> str:
        """`value`, or its beginning where it is too long; then an artifact has all of it."""
        if len(value) <= limit:
            return value
        whole = f"{folder}/{key.replace('/', '_')}.txt"
        self.log_bytes(whole, value.encode())
        return cut(value, limit, whole)

    def log_artifact(self, path: str | PathLike[str], name: str | None = None) -> None:
        """See `Run`."""
        source = Path(path)
        if not source.is_file():
            raise FileNotFoundError(f"log_artifact: {source} is not a file; log_artifacts takes a directory")
        inside = _inside(name or source.name)
        self._writer.append(Artifact(inside, self._writer.stage(source)))

    def log_artifacts(self, folder: str | PathLike[str], name: str | None = None) -> None:
        """See `Run`."""
        root = Path(folder)
        if not root.is_dir():
            raise NotADirectoryError(f"log_artifacts: {root} is not a directory; log_artifact takes a file")
        for file in sorted(path for path in root.rglob("*") if path.is_file()):
            self.log_artifact(file, "/".join(filter(None, (name, file.relative_to(root).as_posix()))))

    def log_bytes(self, name: str, content: bytes) -> None:
        """See `Run`."""
        inside = _inside(name)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, PurePosixPath(inside).name)
            path.write_bytes(content)
            self.log_artifact(path, inside)

    def log_dict(self, content: Any, name: str) -> None:
        """See `Run`."""
        if name.endswith((".yaml", ".yml")):
            import yaml

            self.log_bytes(name, yaml.safe_dump(content, sort_keys=False).encode())
        else:
            self.log_bytes(name, json.dumps(content, indent=2, default=str).encode())

    def log_figure(self, figure: "Figure", name: str) -> None:
        """See `Run`."""
        picture = io.BytesIO()
        figure.savefig(picture, format=PurePosixPath(name).suffix.removeprefix(".") or "png", bbox_inches="tight")
        self.log_bytes(name, picture.getvalue())

    def log_model(
        self,
        model: object,
        *,
        name: str = "model",
        input_example: object = None,
        register: str | None = None,
        alias: str | None = None,
        step: int = 0,
    ) -> None:
        """See `Run`."""
        if alias is not None and register is None:
            raise ValueError(
                f"log_model: alias={alias} needs register=NAME, the registered model whose version it names"
            )
        from trainyard.tracking.models import save_model

        with tempfile.TemporaryDirectory() as folder:
            saved = Path(folder, "model")
            save_model(model, saved, input_example=input_example)
            staged = self._writer.stage(saved)
        self._writer.append(Model(name=name, folder=staged, step=step, register=register, alias=alias))

    def sync(self) -> None:
        """See `Run`."""
        self._writer.sync()

    def end(self, status: EndStatus = "FINISHED", *, reason: str | None = None) -> None:
        """See `Run`. Raises SpoolError if the record of a finished run cannot be delivered in time."""
        self._end(status, reason, {})

    def _end(self, status: EndStatus, reason: str | None, tags: Mapping[str, str]) -> None:
        if self._ended:
            return
        self._ended = True
        if self._trial is not None and status in ("KILLED", "SCHEDULED") and (stop := self._trial.stop_reason()):
            status, reason = "KILLED", stop  # not to be continued, whatever was saved
        now_ms = time.time_ns() // 1_000_000
        self._writer.end(End(status=status, reason=reason or _REASONS[status], time_ms=now_ms), tags)
        self._on_end(status)

    def fail(self, error: BaseException) -> None:
        """End the run as `error` tells: interrupted, preempted, or failed with the traceback as tag and artifact."""
        if self._ended:
            return
        status = _status_after(error)
        if status != "FAILED":
            self._end(status, None, {})
            return
        text = "".join(traceback.format_exception(error))
        try:
            self.log_bytes("traceback.txt", text.encode())
        except Exception as second:  # the disk may be full; the tag needs none
            self._warn(f"traceback.txt could not be kept: {second}")
        self._end("FAILED", None, {"trainyard.traceback": text[-TAG_LIMIT:]})

    def __enter__(self) -> "SpooledRun":
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
            self.end("FINISHED")
        else:
            self.fail(error)


def _status_after(error: BaseException) -> EndStatus:
    if isinstance(error, Interrupted | KeyboardInterrupt):
        return "KILLED"
    return status_of(error.code) if isinstance(error, SystemExit) else "FAILED"


def status_of(code: object) -> EndStatus:
    """What the exit code of a process, or of SystemExit, says of its run."""
    match code:
        case exit_codes.FINISHED:
            return "FINISHED"
        case exit_codes.PREEMPTED:
            return "SCHEDULED"
        case _ if code in (exit_codes.stopped_by(signal.SIGTERM), exit_codes.stopped_by(signal.SIGINT)):
            return "KILLED"
    return "FAILED"


def _inside(name: str) -> str:
    """A plain relative path. Raises ValueError."""
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or str(path) != name:
        raise ValueError(f"artifact name {name!r}: must be a path inside the run, such as plots/loss.png")
    return name
