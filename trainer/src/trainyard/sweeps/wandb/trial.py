"""`trainyard sweep trial ARGUMENTS`: what `wandb agent` starts for a trial."""

import ctypes
import json
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Final

from trainyard import exit_codes
from trainyard.environment import JobEnvironment
from trainyard.errors import ConfigError
from trainyard.interruption import Interruption
from trainyard.launch.supervisor import Supervisor
from trainyard.shipping.backend import Retry
from trainyard.sweeps.file import read_sweep
from trainyard.sweeps.sweep import ParameterValue, Sweep
from trainyard.sweeps.trial import TrialProcess
from trainyard.sweeps.wandb.attempts import VARIABLE, Attempt, Attempts
from trainyard.sweeps.wandb.server import Place, SweepServer
from trainyard.tracking.trial_folder import TrialFolder

_PR_SET_PDEATHSIG: Final = 1
_AGENT_DIED: Final = signal.SIGHUP
"""Apart from SIGTERM, which the agent sends."""


def run_trial(
    arguments_json: str,
    environ: Mapping[str, str],
    environment: JobEnvironment,
    interruption: Interruption,
    say: Callable[[str], None],
) -> int:
    """Run the program to its end. The exit code tells the agent of failures alone: all else is no reason to give up."""
    _end_with_agent()
    attempts, run, place = _told(environ)
    sweep = read_sweep(attempts.sweep_file, backend="wandb")
    trial = _Trial(
        sweep,
        sweep_id=place.id,
        number=run,
        parameters=_parameters(arguments_json),
        parent_run_id=environment.parent_run_id,
        environ=environ,
        environment=environment,
        interruption=interruption,
        on_report=lambda _step, _values: None,  # the server sees them, and says when it is enough
        say=say,
    )
    trial.reasons = _Reasons(attempts, sweep, place, environ, environment)
    with attempts.running(run):
        outcome = trial.run()
        attempts.end(Attempt(run, outcome.code, outcome.state, outcome.reason))
    if outcome.state == "failed":
        return outcome.code or exit_codes.FAILED
    return exit_codes.PREEMPTED if outcome.state == "waiting" else exit_codes.FINISHED


class _Reasons:
    """What SIGTERM means: the agent sends it for whatever reason."""

    def __init__(
        self,
        attempts: Attempts,
        sweep: Sweep,
        place: Place,
        environ: Mapping[str, str],
        environment: JobEnvironment,
    ) -> None:
        self._attempts = attempts
        self._sweep = sweep
        self._place = place
        self._environ = environ
        self._environment = environment

    @property
    def to_be_continued(self) -> bool:
        """Whether the worker has to go; else the server has asked for the end."""
        return self._attempts.interrupted

    def of_server(self) -> str:
        """`pruned` where its search did not like the trial, `stopped` where a person did it."""
        if self._sweep.early_stop is None:
            return "stopped"
        try:
            server = SweepServer.of(
                self._environ, self._environment.state_dir, entity=self._place.entity, project=self._place.project
            )
            standing = server.look(self._place, self._sweep.objectives[0].name)
        except (ConfigError, Retry):
            return "stopped"
        return "stopped" if standing is None or standing.is_over else "pruned"


class _Trial(TrialProcess):
    """One for which SIGTERM may mean two things, and which does not outlive its agent."""

    reasons: _Reasons

    def _begin_attempt(self, folder: TrialFolder, supervisor: Supervisor) -> None:
        super()._begin_attempt(folder, supervisor)
        pass_on: Any = signal.getsignal(signal.SIGTERM)
        passed_on = False

        def interrupt(_number: int, frame: FrameType | None) -> None:
            nonlocal passed_on
            if not passed_on:  # a second time would mean "at once"
                passed_on = True
                pass_on(signal.SIGTERM, frame)

        def act(number: int, frame: FrameType | None) -> None:
            if self.reasons.to_be_continued:
                interrupt(number, frame)
            else:
                # A thread, since it asks the server, and waits for locks that the main thread may hold.
                threading.Thread(target=lambda: self.stop(self.reasons.of_server()), daemon=True).start()

        signal.signal(signal.SIGTERM, act)
        signal.signal(_AGENT_DIED, interrupt)


def _told(environ: Mapping[str, str]) -> tuple[Attempts, str, Place]:
    names = (VARIABLE, "WANDB_RUN_ID", "WANDB_ENTITY", "WANDB_PROJECT", "WANDB_SWEEP_ID")
    values = [environ.get(name, "") for name in names]
    if not all(values):
        raise ConfigError(
            "trainyard sweep trial: `wandb agent` starts it, and `trainyard sweep run --join ENTITY/PROJECT/ID` starts that"
        )
    folder, run, entity, project, sweep_id = values
    return Attempts(Path(folder)), run, Place(entity, project, sweep_id)


def _parameters(text: str) -> Mapping[str, ParameterValue]:
    try:
        parameters: Mapping[str, ParameterValue] = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"trainyard sweep trial {text}: must be a JSON object") from error
    return parameters


def _end_with_agent() -> None:
    """Be told when the agent is killed, and can pass on nothing any more: the trial is to be continued."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _AGENT_DIED)
