"""One attempt at a trial: its program as a child process, watched while it runs."""

import contextlib
import json
import math
import signal
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from trainyard import exit_codes
from trainyard.environment import JobEnvironment
from trainyard.interruption import Interruption
from trainyard.launch.leftovers import kill_leftovers
from trainyard.launch.supervisor import Supervisor
from trainyard.sweeps.command import trial_command
from trainyard.sweeps.records import State
from trainyard.sweeps.sweep import ParameterValue, Sweep
from trainyard.tracking.trial_folder import MetricRows, TrialFolder

_LOOK_S: Final = 0.2
_STOP_S: Final = 30.0
"""What a trial gets that is ended for good; it may write a checkpoint and deliver its record."""
_MARGIN_S: Final = 5.0
"""How much sooner than it is killed a trial is to be gone by itself."""
_OURS: Final = ("TRAINYARD_OPTUNA_URL", "TRAINYARD_RUN_UID", "MLFLOW_RUN_ID", "TRAINYARD_PARENT_RUN_ID")
"""What the worker knows and its trial must not: a password, and which run the worker itself is inside of."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended."""

    code: int
    """The program's, as a shell says it."""
    state: State
    """`finished`; `pruned` or `stopped`, as it was told; `waiting` to be continued; or `failed`."""
    values: tuple[float, ...] = ()
    """Of a finished one, the last value of each objective; empty if this attempt did not measure all of them."""
    constraints: Mapping[str, float] = field(default_factory=dict)
    """The last value of each metric that is to keep within bounds, as far as this attempt measured it."""
    reason: str = ""
    """Why it failed, or has no values."""


class TrialProcess:
    """Main thread only, but for `stop`."""

    def __init__(
        self,
        sweep: Sweep,
        *,
        sweep_id: str,
        number: str,
        parameters: Mapping[str, ParameterValue],
        parent_run_id: str | None,
        environ: Mapping[str, str],
        environment: JobEnvironment,
        interruption: Interruption,
        on_report: Callable[[int, Mapping[str, float]], str | None],
        say: Callable[[str], None],
    ) -> None:
        """`on_report` is told of each new step of a metric that the sweep wants, and may answer with the reason to stop."""
        self._sweep = sweep
        self._program = trial_command(sweep, parameters)
        self._number = number
        self._grace_s = environment.grace_s
        self._interruption = interruption
        self._on_report = on_report
        self._say = say
        told = {
            "TRAINYARD_SWEEP_ID": sweep_id,
            "TRAINYARD_TRIAL": number,
            "TRAINYARD_PARAMETERS": json.dumps(dict(parameters)),
            "TRAINYARD_GRACE_S": f"{max(1.0, environment.grace_s - _MARGIN_S):g}",
            "JOB_COMPLETION_INDEX": "0",  # the worker's: for a trial, it makes no difference in which pod it is
            **({} if parent_run_id is None else {"TRAINYARD_PARENT_RUN_ID": parent_run_id}),
        }
        self._environ = {**{name: value for name, value in environ.items() if name not in _OURS}, **told}
        self._last: dict[str, float] = {}
        self._steps: dict[str, int] = {}
        self._stopping = threading.Lock()
        self._reason: str | None = None
        self._attempt: tuple[TrialFolder, Supervisor] | None = None

    def run(self) -> Outcome:
        """Run it to its end. Raises ConfigError if the program cannot be started, and what `on_report` raises; it is gone by then."""
        if self._interruption.received is not None:
            return Outcome(exit_codes.stopped_by(self._interruption.received), "waiting")
        with tempfile.TemporaryDirectory(prefix="trainyard-trial-") as path, contextlib.ExitStack() as ending:
            folder = TrialFolder.make(Path(path), self._sweep.metrics)
            rows = ending.enter_context(closing(MetricRows(folder.metrics, say=self._say)))
            supervisor = Supervisor(self._interruption, grace_s=self._grace_s)
            ending.callback(self._give_back, supervisor)
            ending.callback(self._leave_nothing_running, path)
            ending.enter_context(supervisor)
            supervisor.start(f"trial {self._number}", self._program, {**self._environ, "TRAINYARD_TRIAL_DIR": path})
            ending.callback(self._forget_attempt)
            self._begin_attempt(folder, supervisor)
            code = supervisor.wait(meanwhile=lambda: self._look(rows, supervisor), every_s=_LOOK_S)
            self._look(rows, supervisor)
        return self._outcome(supervisor, code)

    def stop(self, reason: str) -> None:
        """End the attempt, and its run, for good: `pruned`, `stopped`, or `lost` to another worker. From any thread."""
        with self._stopping:
            self._reason = self._reason or reason
            self._tell()

    def _begin_attempt(self, folder: TrialFolder, supervisor: Supervisor) -> None:
        with self._stopping:
            self._attempt = folder, supervisor
            self._tell()

    def _forget_attempt(self) -> None:
        with self._stopping:
            self._attempt = None

    def _tell(self) -> None:
        if self._attempt is None or self._reason is None:
            return
        folder, supervisor = self._attempt
        folder.stop(self._reason)
        supervisor.stop(_STOP_S)

    def _give_back(self, supervisor: Supervisor) -> None:
        """Whoever runs this trial has to know of a signal that arrived meanwhile."""
        if supervisor.told is not None:
            self._interruption.learn(supervisor.told)

    def _leave_nothing_running(self, path: str) -> None:
        """What goes on would take the GPU from the next trial, and train as one that others have."""
        if left := kill_leftovers("TRAINYARD_TRIAL_DIR", path):
            self._say(
                f"trial {self._number} left {', '.join(left)} running; killed (does a shell start it without exec?)"
            )

    def _look(self, rows: MetricRows, supervisor: Supervisor) -> None:
        for step, values in rows.new():
            self._last |= values
            # A trial that goes on does the last steps again.
            new = {name: value for name, value in values.items() if step > self._steps.get(name, -math.inf)}
            if not new:
                continue
            self._steps.update(dict.fromkeys(new, step))
            reason = self._on_report(step, new)
            # One that is being interrupted may have ended its run already, as one to be continued.
            if reason is not None and supervisor.told is None:
                self.stop(reason)

    def _outcome(self, supervisor: Supervisor, code: int) -> Outcome:
        constraints = {
            each.metric: self._last[each.metric] for each in self._sweep.constraints if each.metric in self._last
        }
        if supervisor.killed:
            self._say(f"trial {self._number} had not ended in time after SIGTERM and had to be killed")
        if supervisor.stopped and self._reason is not None:
            state: State = "pruned" if self._reason == "pruned" else "stopped"
            return Outcome(code, state, constraints=constraints, reason=self._reason)
        if code == exit_codes.PREEMPTED or _is_interrupted(supervisor, code):
            return Outcome(code, "waiting", constraints=constraints)
        if code != exit_codes.FINISHED:
            return Outcome(code, "failed", constraints=constraints, reason=_describe(code))
        return self._result(constraints)

    def _result(self, constraints: Mapping[str, float]) -> Outcome:
        names = [each.name for each in self._sweep.objectives]
        infinite = [f"{name} is {self._last[name]}" for name in names if not math.isfinite(self._last.get(name, 0.0))]
        if infinite:
            return Outcome(exit_codes.FINISHED, "failed", constraints=constraints, reason=", ".join(infinite))
        missing = [name for name in names if name not in self._last]
        if missing:
            reason = f"no value of {', '.join(missing)}: the program ended with exit code 0 and logged no metric of that name"
            return Outcome(exit_codes.FINISHED, "finished", constraints=constraints, reason=reason)
        return Outcome(exit_codes.FINISHED, "finished", tuple(self._last[name] for name in names), constraints)


def _is_interrupted(supervisor: Supervisor, code: int) -> bool:
    """Whether it ended since the worker was told to."""
    if supervisor.told is None:
        return False
    return bool(supervisor.killed) or code == exit_codes.stopped_by(supervisor.told)


def _describe(code: int) -> str:
    text = f"exit code {code}"
    if code == exit_codes.BAD_CONFIGURATION:
        return f"{text}: its configuration or its data is wrong; its output is above"
    if code == exit_codes.stopped_by(signal.SIGKILL):
        return f"{text}: killed; where nobody did that, it was the kernel, for lack of memory"
    return f"{text}; its output is above"
