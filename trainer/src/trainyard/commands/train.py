"""`trainyard train TASK`."""

import argparse
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from trainyard import cpu, exit_codes
from trainyard.config import Config, configure, fields_of
from trainyard.environment import JobEnvironment, refuse_strangers
from trainyard.errors import ConfigError
from trainyard.interruption import Interruption
from trainyard.tasks import TASKS, Task, find_task


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of this command."""
    parser.add_argument("task", nargs="?", metavar="TASK")
    parser.add_argument("--config", type=Path, metavar="FILE")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("-h", "--help", action="store_true")


def run(options: argparse.Namespace, environ: "os._Environ[str]", interruption: Interruption) -> int:
    """Train; returns the exit code."""
    if options.list:
        print("\n".join(f"{task.name:12} {task.summary}" for task in TASKS.values()))
        return exit_codes.FINISHED
    if options.task is None:
        raise ConfigError("which task?", f"tasks: {', '.join(TASKS)}")
    task = find_task(options.task)
    if options.help:
        print(_task_help(task))
        return exit_codes.FINISHED
    config, environment = _read(task, options, environ)
    _prepare_libraries(environ)
    # Imports torch, seconds: only now, when nothing the user typed can be wrong.
    from trainyard.training import execute

    execute(task, config, environment, interruption, say=partial(print, flush=True))
    return exit_codes.FINISHED


def _read(task: Task, options: argparse.Namespace, environ: Mapping[str, str]) -> tuple[Config, JobEnvironment]:
    """Configuration and environment; raises one ConfigError for the mistakes of both."""
    problems: list[str] = []
    config = environment = None
    try:
        config = configure(task.config_type, options.set, file=options.config, environ=environ, task=task.name)
    except ConfigError as error:
        problems += error.problems
    try:
        refuse_strangers(environ)
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


def _task_help(task: Task) -> str:
    rows = [("KEY", "TYPE", "DEFAULT", "ALLOWED", "MEANING")]
    for field in fields_of(task.config_type):
        rows.append((field.key, field.type.__name__, str(field.default), field.constraint.describe(), field.meaning))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    table = "\n".join("  ".join([*map(str.ljust, row, widths), row[4]]) for row in rows)
    return "\n".join(
        (
            f"{task.summary}\n",
            f"usage: trainyard train {task.name} [--config FILE] [--set KEY=VALUE ...]\n",
            "A key has its default, unless one of these says otherwise; the lower one wins:",
            "  --config FILE               YAML, such as the artifact config.yaml of an earlier run",
            "  TRAINYARD_SET__MODEL__LR=1  an environment variable for model.lr: upper or lower case, __ for the dot",
            "  --set model.lr=1\n",
            table,
        )
    )
