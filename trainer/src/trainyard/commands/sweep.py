"""`trainyard sweep run|status|best|export`: search the parameters that train best."""

import argparse
import os
import re
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from trainyard import exit_codes
from trainyard.environment import JobEnvironment
from trainyard.errors import ConfigError, TrackingError
from trainyard.interruption import Interruption
from trainyard.sweeps.records import TrialRecord
from trainyard.sweeps.sweep import METHODS, Backend, Sweep
from trainyard.tracking.session import say_to_stderr

_EXTRAS: Final[dict[Backend, str]] = {"optuna": "sweep", "wandb": "wandb"}
"""What has to be installed with this package for each backend."""
_say = partial(print, flush=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of this command."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="run|status|best|export")
    run = verbs.add_parser(
        "run", help="take trials and run them until the sweep is complete; start as many as you like"
    )
    status = verbs.add_parser("status", help="the trials, and how many are missing")
    best = verbs.add_parser("best", help="the best parameters, and the command that trains with them")
    export = verbs.add_parser("export", help="all trials as CSV")
    run.add_argument("file", nargs="?", type=Path, metavar="FILE", help="sweep file")
    run.add_argument("--join", metavar="ENTITY/PROJECT/ID", help="a W&B sweep that is there already, in place of FILE")
    run.add_argument(
        "--trials-per-worker", type=int, metavar="N", help="leave after N trials; the first worker stays to the end"
    )
    for verb in (status, best, export):
        verb.add_argument("file", type=Path, metavar="FILE", help="sweep file")
    for verb in (run, status, best, export):
        verb.add_argument("--backend", choices=tuple(METHODS), help="in place of the file's")
    export.add_argument("--output", type=Path, metavar="FILE", help="in place of the standard output")
    # What `wandb agent` starts; nobody types it.
    verbs.add_parser("trial").add_argument("arguments", metavar="ARGUMENTS")


def run(options: argparse.Namespace, environ: "os._Environ[str]", interruption: Interruption) -> int:
    """Search, or tell of a search; returns the exit code."""
    environment = JobEnvironment.read(environ)
    match options.verb:
        case "run":
            return _run(options, environ, environment, interruption)
        case "trial":
            work = _worker("wandb")
            return int(work.run_trial(options.arguments, environ, environment, interruption, say_to_stderr))
    sweep = _read(options)
    trials: list[TrialRecord] = _worker(sweep.backend).trials(sweep, environ, environment)
    if sweep.backend == "optuna" and "mlflow" in environment.tracking:
        trials = _with_runs(sweep, trials, environment, interruption)
    match options.verb:
        case "status":
            return _status(sweep, trials)
        case "best":
            return _best(sweep, trials)
    return _export(sweep, trials, options.output)


def _run(
    options: argparse.Namespace, environ: "os._Environ[str]", environment: JobEnvironment, interruption: Interruption
) -> int:
    limit: int | None = options.trials_per_worker
    if limit is not None and limit < 1:
        raise ConfigError(f"--trials-per-worker={limit}: must be 1 or more")
    if options.join is not None:
        _check_join(options)
        work = _worker("wandb").work
        return int(work(None, environ, environment, interruption, join=options.join, limit=limit, say=say_to_stderr))
    if options.file is None:
        raise ConfigError("which sweep? for example: trainyard sweep run sweep.yaml")
    from trainyard.sweeps.command import check_program

    sweep = _read(options)
    check_program(sweep)
    worker, told = _worker(sweep.backend), (environ, environment, interruption)
    if sweep.backend == "wandb":
        return int(worker.work(sweep, *told, join=None, limit=limit, say=say_to_stderr))
    return int(worker.work(sweep, *told, limit=limit, say=say_to_stderr))


def _check_join(options: argparse.Namespace) -> None:
    if options.file is not None or options.backend == "optuna":
        raise ConfigError(f"--join={options.join}: that sweep has a search of its own at W&B; give no FILE with it")
    if not re.fullmatch(r"[^/\s]+/[^/]+/[^/\s]+", options.join):
        raise ConfigError(f"--join={options.join}: must be ENTITY/PROJECT/ID, as in the sweep's address")


def _read(options: argparse.Namespace) -> Sweep:
    # Imports the tasks' configurations: not for other commands.
    from trainyard.sweeps.file import read_sweep

    return read_sweep(options.file, backend=options.backend)


def _worker(backend: Backend) -> Any:
    """The backend's module; only this one's library is needed."""
    try:
        return import_module(f"trainyard.sweeps.{backend}.worker")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("trainyard"):
            raise
        raise ConfigError(
            f"backend {backend}: {error.name} is not installed: pip install './trainer[{_EXTRAS[backend]}]'"
        ) from error


def _with_runs(
    sweep: Sweep, trials: list[TrialRecord], environment: JobEnvironment, interruption: Interruption
) -> list[TrialRecord]:
    """Optuna knows nothing of MLflow's runs; and where MLflow cannot be asked, it is still worth showing what Optuna knows."""
    from trainyard.shipping.mlflow.patience import wait_for
    from trainyard.sweeps.report.marks import trial_runs_at, with_run_ids

    uri = environment.tracking_uri
    if uri.startswith("sqlite:") and not Path(uri.removeprefix("sqlite:///")).exists():  # asking would make it
        return trials
    try:
        runs = wait_for(
            lambda: trial_runs_at(uri, sweep.key),
            wait_s=0.0,
            interruption=interruption,
            say=say_to_stderr,
            purpose="find the trials' runs",
        )
    except (ConfigError, TrackingError) as error:
        say_to_stderr(f"which runs in MLflow the trials have is not known: {error}")
        return trials
    return with_run_ids(trials, runs)


def _status(sweep: Sweep, trials: list[TrialRecord]) -> int:
    from trainyard.sweeps.summary import status_text

    _say(status_text(sweep, trials))
    return exit_codes.FINISHED


def _best(sweep: Sweep, trials: list[TrialRecord]) -> int:
    from trainyard.sweeps.report.best import best
    from trainyard.sweeps.summary import best_text

    winners = best(sweep, trials)
    if not winners:
        bounds = " that keeps all constraints" if sweep.constraints else ""
        say_to_stderr(f"no trial{bounds} has finished yet; `trainyard sweep status` shows what there is")
        return exit_codes.FAILED
    _say(best_text(sweep, winners))
    return exit_codes.FINISHED


def _export(sweep: Sweep, trials: list[TrialRecord], output: Path | None) -> int:
    from trainyard.sweeps.report.tables import trials_csv

    table = trials_csv(sweep, trials)
    if output is None:
        print(table.decode(), end="", flush=True)
        return exit_codes.FINISHED
    try:
        output.write_bytes(table)
    except OSError as error:
        raise ConfigError(f"--output={output}: cannot be written: {error.strerror}") from error
    _say(f"{len(trials)} trials in {output}")
    return exit_codes.FINISHED
