"""`trainyard run -- COMMAND`: any program as a tracked run."""

import argparse
import os
import time
from collections.abc import Mapping
from pathlib import Path

from trainyard import exit_codes
from trainyard.environment import JobEnvironment
from trainyard.errors import ConfigError, SpoolError
from trainyard.interruption import Interruption
from trainyard.launch.supervisor import Supervisor
from trainyard.shipping.mlflow.backend import create_run
from trainyard.shipping.mlflow.patience import wait_for
from trainyard.spool.records import Start
from trainyard.sweeps.plain_program import complete
from trainyard.tracking.session import Session, new_start, say_to_stderr
from trainyard.tracking.spooled_run import status_of

_RETRIES = "10"
"""The most that MLflow's client takes: about eight minutes, in which a server may be away."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of this command."""
    parser.add_argument("--experiment", default="default", help="experiment of the run (default: default)")
    parser.add_argument("--name", help="name of the run (default: the program's, the day and six digits)")
    parser.add_argument("program", nargs=argparse.REMAINDER, metavar="-- PROGRAM [ARGUMENT ...]")


def run(options: argparse.Namespace, environ: "os._Environ[str]", interruption: Interruption) -> int:
    """Run the program to its end; returns its exit code, or 143 where it was told to stop and said nothing of it."""
    program = options.program[1:] if options.program[:1] == ["--"] else options.program
    if not program:
        raise ConfigError("which program? for example: trainyard run -- python train.py --lr 0.1")
    environment = JobEnvironment.read(environ)
    if environment.rank > 0:  # rank 0 records for all
        return _supervise(program, environ, interruption)
    known_as = _known_as(program)
    start = new_start(
        environment,
        experiment=options.experiment,
        name=options.name,
        default_name=f"{known_as}_{time.strftime('%Y%m%d')}",
        known_as=known_as,
    )
    if "mlflow" in start.backends:
        start = _created(start, environment, interruption)
    session = Session(environment, start, say=say_to_stderr)
    try:
        code = _supervise(program, {**environ, **_for_the_program(start, environment)}, interruption)
    except ConfigError:
        session.run.end("FAILED")
        raise
    session.run.set_tags({"trainyard.exit_code": code})
    if environment.trial is not None:
        # One that is to end is given no time to wait for a server.
        wait_s = environment.tracking_wait_s if code == exit_codes.FINISHED else 0.0
        complete(session.run, start, environment, wait_s=wait_s, interruption=interruption, say=say_to_stderr)
    try:
        session.run.end(status_of(code))
    except SpoolError as error:
        say_to_stderr(str(error))
        return code or exit_codes.FAILED
    return code


def _known_as(program: list[str]) -> str:
    """The first argument that is no option: `train` of `python -u train.py`."""
    words = [Path(word).name for word in program if not word.startswith("-")]
    script = next((word for word in words if word.endswith((".py", ".sh"))), words[0] if words else program[0])
    return script.partition(".")[0]


def _created(start: Start, environment: JobEnvironment, interruption: Interruption) -> Start:
    """The run in MLflow, which the program must be told; the one moment that waits for the server. Raises ConfigError or TrackingError."""
    return wait_for(
        lambda: create_run(start),
        wait_s=environment.tracking_wait_s,
        interruption=interruption,
        say=say_to_stderr,
        purpose="begin",
    )


def _for_the_program(start: Start, environment: JobEnvironment) -> Mapping[str, str]:
    """So that its plain `mlflow` calls, and its own `trainyard.run`, belong to this run."""
    mlflow = {
        "MLFLOW_TRACKING_URI": os.environ.get("MLFLOW_TRACKING_URI") or environment.tracking_uri,
        "MLFLOW_RUN_ID": start.mlflow_run_id,
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": os.environ.get("MLFLOW_HTTP_REQUEST_MAX_RETRIES", _RETRIES),
        "MLFLOW_DISABLE_TELEMETRY": os.environ.get("MLFLOW_DISABLE_TELEMETRY", "true"),
        "TRAINYARD_RUN_UID": start.uid,
        "TRAINYARD_STATE_DIR": str(environment.state_dir),
    }
    return {name: value for name, value in mlflow.items() if value is not None}


def _supervise(program: list[str], environ: Mapping[str, str], interruption: Interruption) -> int:
    """Run it to its end, with every signal passed on. Raises ConfigError if it cannot be started."""
    with Supervisor(interruption) as supervisor:
        supervisor.start(program[0], program, environ)
        return supervisor.wait()
