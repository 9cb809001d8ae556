"""`trainyard doctor`: whether runs can be recorded from here, and if not, why."""

import argparse
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from trainyard import exit_codes
from trainyard.environment import JobEnvironment
from trainyard.errors import ConfigError
from trainyard.interruption import Interruption

if TYPE_CHECKING:
    from trainyard.doctor.examination import Check


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """This command takes none."""
    parser.description = (
        "Look at everything that a run needs to be recorded: settings, the state directory, and each backend of "
        "TRAINYARD_TRACKING; in MLflow a run is made and deleted again. Exit code: 0 runs can be recorded, "
        "1 something failed, 42 a setting is wrong."
    )


def run(_options: argparse.Namespace, environ: "os._Environ[str]", interruption: Interruption) -> int:
    """Do every check and say what it found; returns the exit code."""
    # Here, since every command imports this module, and most need no HTTP.
    from trainyard.doctor import configuration
    from trainyard.doctor.examination import Examination
    from trainyard.doctor.secrets import hider

    hide = hider(environ)
    examination = Examination(say=lambda text: print(hide(text), flush=True), interruption=interruption)
    try:
        environment = configuration.read(environ)
    except ConfigError as error:
        for problem in error.problems:
            examination.tell("FAILED", "settings", problem)
        examination.tell("skipped", "everything else", "needs: settings")
        return exit_codes.BAD_CONFIGURATION
    examination.tell("ok", "settings", configuration.describe(environment))
    examination.run(list(_checks(environment, environ)))
    return exit_codes.FAILED if examination.failed else exit_codes.FINISHED


def _checks(environment: JobEnvironment, environ: Mapping[str, str]) -> "Iterator[Check]":
    from trainyard.doctor.state import state_checks

    yield from state_checks(environment)
    # Each only where it is chosen: W&B and MLflow need libraries that the others do not.
    if "json" in environment.tracking:
        from trainyard.doctor.json_folder import json_checks

        yield from json_checks(environment)
    if "mlflow" in environment.tracking:
        from trainyard.doctor.mlflow import mlflow_checks

        yield from mlflow_checks(environment, environ)
    if "wandb" in environment.tracking:
        from trainyard.doctor.wandb import wandb_checks

        yield from wandb_checks(environment, environ)
