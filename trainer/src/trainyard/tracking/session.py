"""Starting a run: what it is called, where its record goes, who delivers it."""

import atexit
import functools
import os
import signal
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Final, TypeVar

from trainyard import exit_codes, provenance
from trainyard.environment import JobEnvironment, backends, read_env_file
from trainyard.errors import SpoolError, TrainyardError
from trainyard.shipping.delivery import Deadline
from trainyard.shipping.service import Service, start_shipping, wait_until_shipped
from trainyard.spool import carry
from trainyard.spool.folder import attempts
from trainyard.spool.records import EndStatus, Start
from trainyard.spool.space import Limits
from trainyard.spool.writer import SpoolWriter
from trainyard.tracking.params import flatten
from trainyard.tracking.preflight import look_at_mlflow, look_at_wandb
from trainyard.tracking.run import NoRun, Run
from trainyard.tracking.spooled_run import SpooledRun
from trainyard.tracking.trial_folder import TrialFolder

_T = TypeVar("_T")
_INTERRUPTED_S = 20.0
"""What delivery gets after SIGTERM or Ctrl-C, where the process itself delivers: somebody waits for it to end."""


def _keep_quiet(_text: str) -> None:
    """Tell nobody."""


def say_to_stderr(text: str) -> None:
    """A line that does not mix with what the script prints."""
    print(f"trainyard: {text}", file=sys.stderr, flush=True)


class Session:
    """One run with its delivery."""

    def __init__(
        self,
        environment: JobEnvironment,
        start: Start,
        *,
        say: Callable[[str], None],
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Raises ConfigError or SpoolError before anything is recorded."""
        start = _continued(environment, start, say=say, pause=pause)
        if "mlflow" in start.backends:
            look_at_mlflow(environment, start.experiment, say)
        if "wandb" in start.backends:
            look_at_wandb(start, environment)
        trial = None if environment.trial_dir is None else TrialFolder.find(environment.trial_dir)
        self.receipt: Mapping[str, Any] = {}
        """What became of the run in each backend; empty until all of it is delivered."""
        self._environment = environment
        self._say = say
        self._pause = pause
        self._deadline = Deadline()
        limits = Limits(total_bytes=environment.spool_bytes, wait_s=environment.ship_deadline_s)
        writer = SpoolWriter.create(environment.spools, start, limits=limits, pause=pause, warn=say)
        self._folder = writer.folder
        self.run = SpooledRun(writer, name=start.name, on_end=self._after_end, warn=say, trial=trial)
        if environment.shipper == "thread":
            # In the background of a script, what goes well is not worth a line.
            start_shipping(self._folder, self._deadline, say=say, report=_keep_quiet)
            self._leftovers = Service(environment.spools, say=say, report=_keep_quiet)
            # What processes before this one left behind, and nothing that comes later.
            self._leftovers.stop_within(environment.ship_deadline_s)
            threading.Thread(target=self._leftovers.run, kwargs={"only_abandoned": True}, daemon=True).start()

    def _after_end(self, status: EndStatus) -> None:
        """A finished run has ended when its record is delivered: exit code 0 must mean that nothing is missing."""
        within_s = self._environment.ship_deadline_s
        if self._environment.shipper == "sidecar":
            if status == "FINISHED":
                self.receipt = wait_until_shipped(self._folder, within_s=within_s, pause=self._pause, say=self._say)
            return
        if status in ("KILLED", "SCHEDULED"):
            within_s = min(within_s, _INTERRUPTED_S)
        # They may hold what has to be delivered before this run's: an earlier part of it.
        self._leftovers.stop_within(within_s)
        self._deadline.expire_in(within_s)
        try:
            pause = self._pause if status == "FINISHED" else time.sleep
            self.receipt = wait_until_shipped(self._folder, within_s=within_s, pause=pause, say=self._say)
        except SpoolError as error:
            if status == "FINISHED":
                raise
            self._say(str(error))


def new_start(
    environment: JobEnvironment,
    *,
    experiment: str,
    name: str | None = None,
    tags: Mapping[str, object] | None = None,
    tracking: Sequence[str] | None = None,
    default_name: str | None = None,
    known_as: str = "",
    **known: str,
) -> Start:
    """A run that begins now, or goes on: each pod of a Job has the same ones, and each attempt at a trial.

    `name`: what the user calls it, else `default_name`; then `known_as` tells it from other runs of its Job, tomorrow too.
    `known`: `trainyard.*` tags besides those that the environment tells.
    """
    uid = _uid(environment, experiment, name or known_as)
    now = datetime.now(UTC)
    git = provenance.git_state(environment, Path.cwd())
    called = name or default_name or f"{Path(sys.argv[0]).stem or 'python'}_{now:%Y%m%d}_{uid[:6]}"
    return Start(
        uid=uid,
        name=called if environment.trial is None else f"{called}_t{environment.trial}",
        experiment=experiment,
        tags=provenance.tags(environment, git, **known) | {key: str(value) for key, value in (tags or {}).items()},
        time_ms=int(now.timestamp() * 1000),
        backends=tuple(tracking or environment.tracking),
        settings=environment.backend_settings,
        # Inside `trainyard run` that command ends the run, and knows its exit code.
        owner=environment.run_uid is None,
        mlflow_run_id=environment.mlflow_run_id,
        continues=_whose(environment) is not None,
    )


_begun: Counter[str] = Counter()
_RUNS: Final = uuid.UUID("7a1d8f4e-6c0b-5d6e-9a57-1f0c3d2b8e41")


def _uid(environment: JobEnvironment, experiment: str, name: str) -> str:
    """Random, but in a Job or a trial made of what its next process will have as well: whose it is, the run's names, and
    their how-manieth it is."""
    owners = _whose(environment)
    if owners is None:
        return uuid.uuid4().hex
    key = "/".join((*owners, experiment, name))
    _begun[key] += 1
    return uuid.uuid5(_RUNS, f"{key}/{_begun[key]}").hex


def _whose(environment: JobEnvironment) -> tuple[str, ...] | None:
    """What a process that continues the run shares with this one; None where there is no such process."""
    # The last one: a script inside `trainyard run` records beside that command, into a spool of its own.
    inside = environment.run_uid or ""
    if environment.sweep_id is not None and environment.trial is not None:
        return environment.sweep_id, environment.trial, inside  # a trial may go on in another pod, or in another Job
    if environment.job_uid is not None:
        return environment.job_uid, inside, str(environment.job_index)
    return None


def _continued(
    environment: JobEnvironment, start: Start, *, say: Callable[[str], None], pause: Callable[[float], None]
) -> Start:
    """`start` as the next part of what is recorded of its run, if anything is. Raises SpoolError while another process records it."""
    if not start.continues:
        return start
    if not attempts(environment.spools, start.uid) and (environment.checkpoint_uri or "").startswith("s3://"):
        # Here, since it imports torch, and most runs have no checkpoint in S3.
        from trainyard.checkpoint import saved_record

        if record := saved_record(environment.checkpoints(start.uid), say, pause=pause):
            carry.unpack(environment.spools, start.uid, record)
    earlier = attempts(environment.spools, start.uid)
    if not earlier:
        return start
    if earlier[-1].writer_alive():
        raise SpoolError(f"another process records run {start.name} in {earlier[-1].path}: wait for its end")
    number = earlier[-1].attempt + 1
    return replace(
        start, name=earlier[-1].start().name, attempt=number, tags={**start.tags, "trainyard.attempt": str(number)}
    )


class RunContext:
    """What `trainyard.run` returns: a context manager, a decorator, or, by `start`, a run to be ended by hand."""

    def __init__(
        self,
        experiment: str,
        *,
        params: object = None,
        name: str | None = None,
        tags: Mapping[str, object] | None = None,
        tracking: str | None = None,
    ) -> None:
        self._experiment = experiment
        self._params = params
        self._name = name
        self._tags = tags
        self._tracking = tracking
        self._run: SpooledRun | None = None
        self._previous: Any = None

    def start(self) -> Run:
        """Begin the run. Ended with the process, if not by `end` before."""
        read_env_file(os.environ, Path.cwd())
        environment = JobEnvironment.read(os.environ)
        if environment.rank > 0:
            return NoRun(self._name or self._experiment)
        if self._params is not None:
            flatten(self._params)  # so that what is wrong with them is told before there is a run
        start = new_start(
            environment,
            experiment=self._experiment,
            name=self._name,
            tags=self._tags,
            tracking=None if self._tracking is None else backends("tracking", self._tracking),
        )
        self._run = Session(environment, start, say=say_to_stderr).run
        atexit.register(_end_with_process, self._run)
        if self._params is not None:
            self._run.log_params(self._params)
        return self._run

    def __enter__(self) -> Run:
        run = self.start()
        self._previous = _stop_at_sigterm()
        return run

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)
        if self._run is not None:
            run, self._run = self._run, None
            run.__exit__(kind, error, trace)
        if isinstance(error, TrainyardError):
            # An uncaught exception is exit code 1, and Kubernetes would try a wrong configuration again.
            say_to_stderr(str(error))
            raise SystemExit(error.exit_code) from error

    def __call__(self, function: Callable[..., _T]) -> Callable[..., _T]:
        """A run around each call of `function`, which gets it as its first argument."""

        @functools.wraps(function)
        def recorded(*arguments: Any, **named: Any) -> _T:
            context = RunContext(
                self._experiment, params=self._params, name=self._name, tags=self._tags, tracking=self._tracking
            )
            with context as run:
                return function(run, *arguments, **named)

        return recorded


def _stop_at_sigterm() -> Any:
    """Let SIGTERM leave the block, so that the run ends truthfully; as process 1 of a container it would be ignored.

    Returns what was there before; None if a script has a handler of its own, which stays.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        return None

    def stop(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise SystemExit(exit_codes.stopped_by(number))

    return signal.signal(signal.SIGTERM, stop)


def _end_with_process(run: SpooledRun) -> None:
    error = getattr(sys, "last_value", None)
    if error is not None:
        run.fail(error)
    else:
        run.end("FINISHED")
