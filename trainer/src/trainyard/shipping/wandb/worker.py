"""Drives one run of the wandb library; `python -m trainyard.shipping.wandb.worker PARENT`, started by process.py.

Standard input brings one JSON object a line, `{"do": "log", ...}`; standard output answers each with one.
"""

import importlib
import json
import os
import queue
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import wandb
from wandb.sdk.artifacts.exceptions import WaitTimeoutError

from trainyard.shipping.wandb.transaction_log import TransactionLog

# Without its types: they are made at run time.
_RECORD: Any = importlib.import_module("wandb.proto.wandb_internal_pb2").Record
_POLL_S = 0.2
_FLUSH_S = 1.0
"""Whole seconds: the library cuts off the rest, and 0 means its default of 15."""


class Worker:
    """One run; every method with the name of a request answers that request."""

    def __init__(self) -> None:
        self._run: Any = None
        self._model: Any = None
        self._log: TransactionLog | None = None
        self._stored_step = -1
        self._stored_files: set[str] = set()

    def open(self, request: dict[str, Any]) -> dict[str, Any]:
        """Create the run or go on with it; answers the first step that is free."""
        offline, run_id = request["mode"] == "offline", request["id"]
        if offline:
            for log in Path(request["root"], "wandb").glob(f"offline-run-*-{run_id}*/run-{run_id}.wandb"):
                self._take_stock(log)
        settings = _settings(request)
        self._run = wandb.init(
            id=run_id,
            entity=request["entity"],
            project=request["project"],
            name=request["name"],
            config=request["config"],
            resume="allow",
            settings=settings,
        )
        self._run.define_metric("trainyard/step", hidden=True)
        self._run.define_metric("*", step_metric="trainyard/step")
        folder = Path(self._run.dir).parent
        if offline:
            self._log = TransactionLog(folder / f"run-{run_id}.wandb")
        next_step = self._stored_step + 1 if offline else self._run.starting_step
        return {"next_step": next_step, "entity": self._run.entity, "url": self._run.url, "folder": str(folder)}

    def log(self, request: dict[str, Any]) -> dict[str, Any]:
        """Queue rows."""
        for step, row in request["rows"]:
            self._run.log(row, step=step, commit=True)
        return {}

    def configure(self, request: dict[str, Any]) -> dict[str, Any]:
        """Set values of the config."""
        self._run.config.update(request["values"], allow_val_change=True)
        return {}

    def save(self, request: dict[str, Any]) -> dict[str, Any]:
        """Make the files below a folder part of the run, under their names there."""
        self._stored_files.difference_update(request["names"])
        for name in request["names"]:
            self._run.save(str(Path(request["folder"], name)), base_path=request["folder"], policy="now", glob=False)
        return {}

    def log_model(self, request: dict[str, Any]) -> dict[str, Any]:
        """Start to upload a version of a model."""
        model = wandb.Artifact(request["name"], type="model", metadata=request["metadata"])
        # Immutable: nobody changes the copy in the spool, so that it need not be copied again.
        model.add_dir(request["folder"], policy="immutable", skip_cache=True)
        self._model = self._run.log_artifact(model, aliases=request["aliases"])
        return {}

    def model_logged(self, request: dict[str, Any]) -> dict[str, Any]:
        """Whether the server has the model."""
        try:
            self._model.wait(timeout=request["within_s"])
        except WaitTimeoutError:
            return {"done": False}
        return {"done": True}

    def wait_stored(self, request: dict[str, Any]) -> dict[str, Any]:
        """Offline: return when the step and the files are in the run's folder."""
        assert self._log is not None
        deadline = time.monotonic() + request["within_s"]
        while self._stored_step < request["step"] or not self._stored_files.issuperset(request["files"]):
            if time.monotonic() >= deadline:
                return {
                    "error": f"the run's folder has steps to {self._stored_step}, wanted {request['step']} and {request['files']}"
                }
            time.sleep(_POLL_S)
            self._read(self._log)
        return {}

    def finish(self, request: dict[str, Any]) -> dict[str, Any]:
        """Give the run its end; raises TimeoutError when not everything could be sent in time."""
        if request["preempting"]:
            self._run.mark_preempting()
        self._run.finish(exit_code=request["exit_code"])
        if self._log is not None:
            self._read(self._log)
        return {"step": self._stored_step}

    def _take_stock(self, path: Path) -> None:
        """Note what a process before this one stored, and leave it so that `wandb sync` takes it."""
        log = TransactionLog(path)
        if self._read(log):
            log.cut_off_rest()
        else:
            shutil.rmtree(path.parent)  # it was killed before it began

    def _read(self, log: TransactionLog) -> bool:
        """Note what is new; whether the run's own record was there."""
        begun = False
        for raw in log.new_records():
            record = _RECORD.FromString(raw)
            begun = begun or record.HasField("run")
            if record.HasField("history"):
                self._stored_step = max(self._stored_step, _step(record.history))
            self._stored_files.update(file.path for file in record.files.files)
        return begun


def _settings(request: dict[str, Any]) -> wandb.Settings:
    """Nothing but what we send, and nothing that waits for ever."""
    return wandb.Settings(
        mode=request["mode"],
        base_url=request["base_url"],
        root_dir=request["root"],
        use_dot_wandb=False,
        # Not in the environment: there it would make the library leave out what else it is told of the run.
        sweep_id=request["sweep_id"],
        reinit="create_new",
        allow_val_change=True,
        init_timeout=request["init_timeout_s"],
        finish_timeout=request["finish_timeout_s"],
        finish_timeout_raises=True,
        stop_fn=lambda: None,  # a stop asked for in the web page is for the training, not for its record
        console="off",
        silent=True,
        symlink=False,
        save_code=False,
        disable_code=True,
        disable_git=True,
        disable_job_creation=True,
        x_disable_meta=True,
        x_disable_machine_info=True,
        x_disable_stats=True,
        x_save_requirements=False,
        x_file_stream_transmit_interval=_FLUSH_S,
        x_transaction_log_flush_interval=_FLUSH_S,
        x_update_finish_state=request["owner"],
        # Online the spool is what is sent again, so the same need not stand on disk twice.
        x_skip_transaction_log=request["mode"] == "online",
    )


def _step(history: Any) -> int:
    if history.HasField("step"):
        return int(history.step.num)
    return next((int(json.loads(item.value_json)) for item in history.item if item.key == "_step"), -1)


def serve(worker: Worker, requests: "queue.Queue[bytes]", answers: BinaryIO) -> None:
    """Answer until the process is killed."""
    while True:
        request = json.loads(requests.get())
        method: Callable[[dict[str, Any]], dict[str, Any]] = getattr(worker, request["do"])
        try:
            answer = method(request)
        except Exception as error:
            answer = {"error": re.sub(r"\s+", " ", f"{type(error).__name__}: {error}")[:500]}
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


def _read_requests(requests: "queue.Queue[bytes]") -> None:
    for line in sys.stdin.buffer:
        requests.put(line)
    os._exit(0)  # nobody asks any more: what is not acknowledged will be delivered again


def _leave_with(parent: int) -> None:
    # A process that the shipper forked may hold its end of the pipe open.
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(0)


def main() -> None:
    """See the module."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    requests: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=_read_requests, args=(requests,), daemon=True).start()
    threading.Thread(target=_leave_with, args=(int(sys.argv[1]),), daemon=True).start()
    serve(Worker(), requests, answers)


if __name__ == "__main__":
    main()
