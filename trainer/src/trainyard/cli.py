"""`trainyard COMMAND`: what is typed, and what is returned."""

import argparse
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NoReturn

from trainyard import __version__, exit_codes
from trainyard.commands import doctor, launch, spool, sweep, train, wrap
from trainyard.environment import read_env_file
from trainyard.errors import ConfigError, TrainyardError
from trainyard.interruption import of_this_process

_COMMANDS: Final[Mapping[str, tuple[ModuleType, str, dict[str, Any]]]] = {
    "train": (
        train,
        "train a task",
        {"add_help": False, "usage": "trainyard train TASK [--config FILE] [--set KEY=VALUE ...]"},
    ),
    "run": (wrap, "run any program as a tracked run", {}),
    "launch": (launch, "run any program in several processes that train together", {}),
    "sweep": (sweep, "search the parameters that train best", {}),
    "spool": (spool, "what is recorded here and not delivered yet", {}),
    "doctor": (doctor, "check that runs can be recorded from here", {}),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code (see `trainyard.exit_codes`), or raises SystemExit with it, as Preempted does."""
    interruption = of_this_process()
    typed = sys.argv[1:] if arguments is None else arguments
    try:
        options = _parse(typed)
        read_env_file(os.environ, Path.cwd())
        return int(_COMMANDS[options.command][0].run(options, os.environ, interruption))
    except ConfigError as error:
        _complain(error, typed)
        return error.exit_code
    except TrainyardError as error:
        print(f"trainyard: {error}", file=sys.stderr)
        return error.exit_code
    except Exception:
        traceback.print_exc()
        return exit_codes.FAILED


class _Parser(argparse.ArgumentParser):
    """Wrong usage is wrong configuration: argparse's own code 2 would make Kubernetes try again."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message} ({self.format_usage().strip()})")


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(prog="trainyard", description="Train on a laptop or in a pod, recorded in MLflow.")
    parser.add_argument("--version", action="version", version=f"trainyard {__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    for name, (module, summary, options) in _COMMANDS.items():
        module.add_arguments(commands.add_parser(name, help=summary, **options))
    return parser.parse_args(arguments)


def _complain(error: ConfigError, typed: Sequence[str]) -> None:
    # A sweep may have run for days before a person stops it at its server.
    swept = "sweep" in typed[:1]
    first = "the same again cannot help" if swept else "wrong configuration; nothing was started"
    print(f"trainyard: {first}:", file=sys.stderr)
    for problem in error.problems:
        print(f"  {problem}", file=sys.stderr)
    if "train" in typed[:1]:
        print("`trainyard train TASK --help` explains every key.", file=sys.stderr)
