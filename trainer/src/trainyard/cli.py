"""`trainyard train TASK`: what is typed, what is printed, what is returned."""

import argparse
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NoReturn

from trainyard import __version__, cpu, exit_codes
from trainyard.config import Config, configure, fields_of
from trainyard.environment import JobEnvironment
from trainyard.errors import ConfigError, TrainyardError
from trainyard.interruption import Interruption
from trainyard.tasks import TASKS, Task, find_task


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code (see `trainyard.exit_codes`)."""
    interruption = Interruption()
    interruption.install()
    try:
        return _train(_parse(sys.argv[1:] if arguments is None else arguments), os.environ, interruption)
    except ConfigError as error:
        _complain(error)
        return error.exit_code
    except TrainyardError as error:
        print(f"trainyard: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return exit_codes.stopped_by(2)
    except Exception:
        traceback.print_exc()
        return exit_codes.FAILED


def _train(options: argparse.Namespace, environ: "os._Environ[str]", interruption: Interruption) -> int:
    if options.list:
        print("\n".join(f"{task.name:12} {task.summary}" for task in TASKS.values()))
        return exit_codes.FINISHED
    task = find_task(options.task)
    if options.help:
        print(_task_help(task))
        return exit_codes.FINISHED
    config, environment = _read(task, options.set, environ)
    _prepare_libraries(environ)
    # Imports torch and MLflow, seconds: only now, when nothing the user typed can be wrong.
    from trainyard.training import execute

    execute(task, config, environment, interruption, say=partial(print, flush=True))
    return exit_codes.FINISHED


def _read(task: Task, overrides: Sequence[str], environ: Mapping[str, str]) -> tuple[Config, JobEnvironment]:
    """Configuration and environment; raises one ConfigError for the mistakes of both."""
    problems: list[str] = []
    config = environment = None
    try:
        config = configure(task.config_type, overrides)
    except ConfigError as error:
        problems += error.problems
    try:
        environment = JobEnvironment.read(environ)
    except ConfigError as error:
        problems += error.problems
    if config is None or environment is None:
        raise ConfigError(*problems)
    return config, environment


def _prepare_libraries(environ: "os._Environ[str]") -> None:
    """What torch and MLflow read when they are imported."""
    cpu.limit_threads(environ, cpu.available_cpus())
    # Without it cuBLAS is not deterministic, and torch refuses to run.
    environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # A pod without internet would wait for the telemetry's connections.
    environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


class _Parser(argparse.ArgumentParser):
    """Wrong usage is wrong configuration: argparse's own code 2 would make Kubernetes try again."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message} ({self.format_usage().strip()})")


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(prog="trainyard", description="Train on a laptop or in a pod, recorded in MLflow.")
    parser.add_argument("--version", action="version", version=f"trainyard {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    train = commands.add_parser(
        "train", help="train a task", add_help=False, usage="trainyard train TASK [--set KEY=VALUE ...]"
    )
    train.add_argument("task", nargs="?", metavar="TASK")
    train.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    train.add_argument("--list", action="store_true")
    train.add_argument("-h", "--help", action="store_true")
    options = parser.parse_args(arguments)
    if options.task is None and not options.list:
        raise ConfigError("which task?", f"tasks: {', '.join(TASKS)}")
    return options


def _task_help(task: Task) -> str:
    rows = [("KEY", "TYPE", "DEFAULT", "ALLOWED", "MEANING")]
    for field in fields_of(task.config_type):
        rows.append((field.key, field.type.__name__, str(field.default), field.constraint.describe(), field.meaning))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    table = "\n".join("  ".join([*map(str.ljust, row, widths), row[4]]) for row in rows)
    return f"{task.summary}\n\nusage: trainyard train {task.name} [--set KEY=VALUE ...]\n\n{table}"


def _complain(error: ConfigError) -> None:
    print("trainyard: wrong configuration; nothing was started:", file=sys.stderr)
    for problem in error.problems:
        print(f"  {problem}", file=sys.stderr)
    print("`trainyard train TASK --help` explains every key.", file=sys.stderr)
