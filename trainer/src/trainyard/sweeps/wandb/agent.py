"""`wandb agent` as a child process: started, told, and ended with all that it started."""

import math
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Final, Self

import yaml

from trainyard.environment import JobEnvironment
from trainyard.interruption import Interruption
from trainyard.launch.supervisor import Supervisor
from trainyard.shipping.wandb.options import Options
from trainyard.sweeps.report.configuration import sweep_file
from trainyard.sweeps.sweep import Sweep
from trainyard.sweeps.wandb.attempts import Attempt, Attempts
from trainyard.sweeps.wandb.server import Place

_LOOK_S: Final = 0.2
_STOP_S: Final = 30.0
"""What a trial gets whose sweep is no more."""
_MARGIN_S: Final = 3.0
"""How much sooner than it is killed each layer below this process is to be gone by itself: the agent, and its trial."""
_NEVER: Final = str(10**6)
_HIDDEN: Final = ("TRAINYARD_OPTUNA_URL", "WANDB_SILENT")


class Agent:
    """A context: within it the agent may be run, again and again; after it nothing is left of what it started."""

    def __init__(
        self,
        sweep: Sweep,
        place: Place,
        *,
        options: Options,
        parent_run_id: str | None,
        environ: Mapping[str, str],
        environment: JobEnvironment,
        interruption: Interruption,
    ) -> None:
        self._sweep = sweep
        self._place = place
        self._grace_s = environment.grace_s
        self._interruption = interruption
        self._folder = tempfile.TemporaryDirectory(prefix="trainyard-sweep-")
        self._attempts = Attempts(Path(self._folder.name))
        self._attempts.sweep_file.write_text(yaml.safe_dump(sweep_file(sweep)))
        told = {
            "WANDB_ENTITY": place.entity,
            "WANDB_PROJECT": place.project,
            # Ours is counted over all agents that are started here, one after the other.
            "WANDB_AGENT_DISABLE_FLAPPING": "true",
            "WANDB_AGENT_MAX_INITIAL_FAILURES": _NEVER,
            "TRAINYARD_GRACE_S": f"{max(1.0, environment.grace_s - 2 * _MARGIN_S):g}",
            "TRAINYARD_STATE_DIR": str(environment.state_dir),
            # The sweep's command is found where this program is.
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), environ.get("PATH", os.defpath)]),
            **self._attempts.environment,
            **({} if parent_run_id is None else {"TRAINYARD_PARENT_RUN_ID": parent_run_id}),
        }
        known = options.process_environment(environ)
        Path(known["WANDB_DIR"], "wandb").mkdir(parents=True, exist_ok=True)  # else the library takes /tmp
        self._environ = {name: value for name, value in known.items() if name not in _HIDDEN} | told

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._attempts.kill()
        self._folder.cleanup()

    def ended(self) -> list[Attempt]:
        """All attempts here that are over."""
        return self._attempts.ended()

    def run(self, *, count: int | None, failures_left: int, is_enough: Callable[[], bool]) -> int:
        """To its end; returns its exit code. `is_enough` is asked again and again, and when it says so the agent's trial is stopped for good.

        After SIGTERM the trial is saved to be continued, and when that is done, or time is up, this raises Interrupted.
        """
        command = [sys.executable, "-P", "-m", "wandb", "agent", "--forward-signals"]
        command += ["--term-timeout", str(max(1, math.floor(self._grace_s - _MARGIN_S)))]
        command += ["--max-consecutive-failed-runs", str(failures_left)]
        command += [] if count is None else ["--count", str(count)]
        with Supervisor(self._interruption, grace_s=self._grace_s - _MARGIN_S / 2) as supervisor:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._tell_first(signal.getsignal(number)))
            if self._interruption.requested:
                self._attempts.tell_of_interruption()
            supervisor.start("wandb agent", [*command, str(self._place)], self._environ)

            def look() -> None:
                if is_enough():
                    supervisor.stop(_STOP_S)

            code = supervisor.wait(meanwhile=look, every_s=_LOOK_S)
        if supervisor.told is not None:
            self._interruption.learn(supervisor.told)
        self._interruption.check()
        return code

    def _tell_first(self, pass_on: Any) -> Callable[[int, FrameType | None], None]:
        """The trial must know what the signal means before the agent has it."""

        def act(number: int, frame: FrameType | None) -> None:
            self._attempts.tell_of_interruption()
            pass_on(number, frame)

        return act
