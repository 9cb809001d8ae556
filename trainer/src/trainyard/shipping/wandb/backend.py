"""What the shipper calls; see `trainyard.shipping.backend.Backend`.

How each record arrives once, although the library buffers and any process here may be killed at any moment:

- Each Metrics record is one row of the run's history. Its W&B step is its ordinal in the spool, added to what the run had
  before; our own step stands in the row as `trainyard/step`, since W&B drops rows whose step goes back.
- `deliver` returns when the server answers that it has the last row (offline: when the row is in the run's folder, synced).
- After a crash the run is resumed; rows that are there already are left out, by their ordinal.
- Config is kept with the cursor, and sent as a whole whenever the run is opened.
- A file waits in `wandb/waiting` until the server, asked at the end of the run, has it in its full size; when the run is
  opened anew it is sent again under the same name. A model's version is its content: sent again, it stays one version.
"""

import contextlib
import fcntl
import math
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from trainyard.shipping.backend import Progress, Retry
from trainyard.shipping.wandb import translate
from trainyard.shipping.wandb.options import Options
from trainyard.shipping.wandb.patience import wait_for
from trainyard.shipping.wandb.process import WorkerProcess
from trainyard.shipping.wandb.server import WandbServer
from trainyard.shipping.wandb.waiting import WaitingFiles
from trainyard.spool.records import Artifact, End, Metrics, Model, Params, Record, Start, Tags

_START_S: Final = 30.0
"""For the library to be imported, on a busy machine; and for calls that only hand something over."""
_PATIENCE_S: Final = 60.0
"""Without any progress at the server, until the run is opened anew."""
_READ_MODEL_S: Final = 600.0
"""For the library to read a model from disk; its upload takes as long as the server answers."""


class WandbBackend:
    """One run in W&B."""

    def __init__(self, environ: Mapping[str, str] | None = None, *, patience_s: float = _PATIENCE_S) -> None:
        self._environ = os.environ if environ is None else environ
        self._patience_s = patience_s
        self._process: WorkerProcess | None = None
        self._exclusive = contextlib.ExitStack()

    def open(self, start: Start, spool: Path, progress: Progress) -> None:
        """See `Backend`. The library starts with the first record: until then a script inside `trainyard run` may use the run."""
        self.close()
        self._start, self._spool, self._progress = start, spool, progress
        self._state = progress.state
        self._options = options = Options.read(start, spool.parent.parent, self._environ)
        self._wandb = options.state_dir / "wandb"
        self._waiting = WaitingFiles(self._wandb / "waiting" / start.uid)
        self._server = WandbServer(options)
        self._entity = options.entity
        self._state.setdefault("rows", 0)
        self._state.setdefault("params", {})
        self._state.setdefault("steps", {})
        if self._state.get("attempt") != start.attempt:
            self._state.update(attempt=start.attempt, tags={**self._state.get("tags", {}), **start.tags})
        if self._online:
            self._server.run_status(options.run_id, self._entity)  # says best what is wrong with key or address

    def recorded(self) -> Mapping[str, int]:
        """See `Backend`. As far as this state directory knows: the server only tells how many rows there are."""
        steps: dict[str, int] = self._state["steps"]
        return steps

    def deliver(self, records: Sequence[Record]) -> None:
        """See `Backend`."""
        if self._options.mode == "disabled":
            return
        self._connect()
        self._send_config(records)
        measured = [record for record in records if isinstance(record, Metrics)]
        self._send_rows(measured)
        for record in records:
            match record:
                case Artifact():
                    self._send_files({record.name: self._spool / record.file})
                case Model():
                    self._send_model(record)
        self._state["rows"] += len(measured)
        for record in measured:
            self._state["steps"].update((key, record.step) for key, _ in record.values)

    def finish(self, end: End) -> None:
        """See `Backend`. Whoever owns the run ends it."""
        if self._options.mode == "disabled":
            return
        self._connect()
        if self._start.owner:
            self._send_config([Tags({"trainyard.end_reason": end.reason})])
        if self._online:
            self._server.run_status(
                self._options.run_id, self._entity
            )  # the library would wait WANDB_FINISH_TIMEOUT for it
        self._ask(
            "finish",
            self._options.finish_timeout_s + _START_S,
            exit_code=translate.exit_code(end),
            preempting=self._start.owner and end.status == "SCHEDULED",
        )
        if self._online:
            # The library ends without a word when the server refused something on the way.
            self._wait_for(self._rows_stored, self._state["base"] + self._state["rows"], "rows")
            self._wait_for(self._settings_stored, 0, "parts of the config")
            self._wait_for(self._files_stored, 0, "files")
            self._waiting.clear()
            shutil.rmtree(self._folder, ignore_errors=True)
        self.close()

    def close(self) -> None:
        """See `Backend`."""
        if self._process is not None:
            self._process.end()
            self._process = None
        self._exclusive.close()

    @property
    def _online(self) -> bool:
        return self._options.mode == "online"

    def _connect(self) -> None:
        """Start the library and resume the run, unless that is done."""
        if self._process is not None:
            return
        self._exclude_others()
        log = self._wandb / "logs" / f"{self._start.uid}.log"
        self._process = WorkerProcess(self._options.process_environment(self._environ), log)
        answer = self._ask(
            "open",
            _START_S + self._options.init_timeout_s,
            mode=self._options.mode,
            base_url=self._options.base_url,
            root=str(self._options.state_dir),
            id=self._options.run_id,
            sweep_id=self._options.sweep_id,
            entity=self._options.entity,
            project=self._options.project,
            name=self._start.name[:128],  # more is refused
            config=self._config(),
            owner=self._start.owner,
            init_timeout_s=self._options.init_timeout_s,
            finish_timeout_s=self._options.finish_timeout_s,
        )
        self._entity, self._next_step, self._folder = answer["entity"], answer["next_step"], Path(answer["folder"])
        self._state["url"] = answer["url"]
        if "base" not in self._state:
            # What a pod before this one recorded is not ours.
            self._state["base"] = self._next_step
        self._progress.save()
        if waiting := self._waiting.sizes():
            self._ask("save", _START_S, folder=str(self._waiting.folder), names=list(waiting))

    def _exclude_others(self) -> None:
        """Raises Retry while another spool of the same run is delivered: their rows would get the same steps."""
        path = self._wandb / "locks" / self._start.uid
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = self._exclusive.enter_context(path.open("w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Retry(f"another process delivers to run {self._start.uid} and holds {path}") from error
        self._exclusive.callback(fcntl.flock, lock, fcntl.LOCK_UN)  # closing is not enough after a fork

    def _config(self) -> dict[str, Any]:
        recorded = translate.config(self._start, self._state["params"], self._state["tags"])
        return {**self._options.parameters, **recorded}

    def _send_config(self, records: Sequence[Record]) -> None:
        before = self._config()
        for record in records:
            match record:
                case Params():
                    self._state["params"].update(translate.params(record.values, self._progress.warn))
                case Tags():
                    self._state["tags"].update(record.values)
        changed = {key: value for key, value in self._config().items() if key not in before or before[key] != value}
        if changed:
            self._ask("configure", _START_S, values=changed)

    def _send_rows(self, measured: Sequence[Metrics]) -> None:
        first = self._state["base"] + self._state["rows"]
        new = [(step, record) for step, record in enumerate(measured, start=first) if step >= self._next_step]
        if not new:
            return
        last = new[-1][0]
        self._ask("log", _START_S, rows=[(step, translate.row(record, self._progress.warn)) for step, record in new])
        if self._online:
            self._wait_for(self._rows_stored, last + 1, "rows")
        else:
            self._ask("wait_stored", self._patience_s + _START_S, step=last, files=[], within_s=self._patience_s)
        self._next_step = last + 1

    def _send_files(self, files: Mapping[str, Path]) -> None:
        names = [translate.file_name(name, self._progress.warn) for name in files]
        for name, path in zip(names, files.values(), strict=True):
            self._waiting.add(path, name)
        self._ask("save", _START_S, folder=str(self._waiting.folder), names=names)
        if not self._online:
            self._ask("wait_stored", self._patience_s + _START_S, step=-1, files=names, within_s=self._patience_s)
            self._waiting.clear()

    def _send_model(self, model: Model) -> None:
        folder = self._spool / model.folder
        if not self._online:
            # Nothing offline can version it, and files of the run move with the run's folder.
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            self._send_files({f"models/{model.name}/{path.relative_to(folder)}": path for path in files})
            return
        self._ask(
            "log_model",
            _READ_MODEL_S,
            name=translate.model_name(model.name),
            folder=str(folder),
            aliases=["latest", f"step-{model.step}", *filter(None, [model.alias])],
            metadata={"step": model.step, "registered_as": model.register},
        )
        self._wait_for(self._model_stored, math.inf, "a model")

    def _rows_stored(self) -> float:
        return self._server.run_status(self._options.run_id, self._entity).next_step

    def _settings_stored(self) -> float:
        stored = self._server.run_status(self._options.run_id, self._entity).config
        return -sum(key not in stored for key in self._config())

    def _files_stored(self) -> float:
        waiting = self._waiting.sizes()
        there = self._server.file_sizes(self._options.run_id, self._entity, list(waiting))
        return -sum(there.get(name, 0) != size for name, size in waiting.items())

    def _model_stored(self) -> float:
        """Infinite once the server has the model; until then it grows while the server answers."""
        if self._ask("model_logged", _START_S, within_s=1)["done"]:
            return math.inf
        self._server.run_status(self._options.run_id, self._entity)
        return time.monotonic()

    def _wait_for(self, have: Callable[[], float], wanted: float, what: str) -> None:
        lacking = f"W&B at {self._options.base_url} lacks {what}"
        wait_for(have, wanted, patience_s=self._patience_s, lacking=lacking)

    def _ask(self, do: str, timeout_s: float, **values: Any) -> dict[str, Any]:
        assert self._process is not None
        try:
            return self._process.ask({"do": do, **values}, timeout_s=timeout_s)
        except Retry as error:
            self.close()  # in no known state: the next call resumes the run
            raise Retry(self._options.without_key(str(error))) from None
