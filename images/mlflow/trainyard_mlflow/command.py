"""What both commands share: their environment, waiting for a server, and how they end.

Exit codes: 0 done; 42 (`ConfigError`) the input is wrong and trying again cannot help; 1 (`UnavailableError`, and any
exception not foreseen) try again.
"""

import sys
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

Result = TypeVar("Result")

CONFIG_ERROR_EXIT_CODE = 42
RETRY_INTERVAL_S = 1.0
REPORT_INTERVAL_S = 10.0


class ConfigError(Exception):
    """The configuration or the data is wrong; the text says what, where and what to do, and holds no secret."""


class UnavailableError(Exception):
    """A server did not answer, or refused us, and may serve us later; the text holds no secret."""


class NotReadyError(Exception):
    """One failed attempt to reach a server that may still be starting; the text is the reason."""


def run(name: str, description: str, body: Callable[[], str]) -> None:
    """Run `body`, print the line that it returns, and exit with the code that its error stands for."""
    if len(sys.argv) > 1:
        print(f"usage: {name}\n\n{description}\nIt takes no arguments; all input comes from the environment.")
        sys.exit(0 if sys.argv[1:] in (["-h"], ["--help"]) else CONFIG_ERROR_EXIT_CODE)
    try:
        say(name, body())
    except ConfigError as error:
        say(name, f"error: {error}")
        sys.exit(CONFIG_ERROR_EXIT_CODE)
    except UnavailableError as error:
        say(name, f"error: {error}")
        sys.exit(1)


def say(name: str, text: str) -> None:
    """Print one line of progress, flushed so that a killed container still shows it."""
    print(f"{name}: {text}", flush=True)


def required(environment: Mapping[str, str], key: str, meaning: str) -> str:
    """Return a variable; raises ConfigError where it is missing or empty."""
    value = environment.get(key, "")
    if not value:
        raise ConfigError(f"{key} is not set: give {meaning}")
    return value


def wait_seconds(environment: Mapping[str, str], key: str, default_s: float) -> float:
    """Return how long to wait for a server, in seconds; raises ConfigError for anything but a number >= 0."""
    text = environment.get(key, "") or str(default_s)
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ConfigError(f"{key}={text!r} is no number of seconds: give one >= 0, for example {default_s:g}")
    return seconds


def wait_for(name: str, what: str, attempt: Callable[[], Result], wait_s: float) -> Result:
    """Call `attempt` once a second until it returns, and report every ten seconds what is being waited for.

    Raises UnavailableError when `attempt` still raises NotReadyError after `wait_s` seconds.
    """
    start = time.monotonic()
    next_report_s = 0.0
    while True:
        try:
            return attempt()
        except NotReadyError as error:
            reason = str(error)
        waited_s = time.monotonic() - start
        if waited_s + RETRY_INTERVAL_S > wait_s:
            raise UnavailableError(f"{what} did not answer within {wait_s:g} s: {reason}")
        if waited_s >= next_report_s:
            say(name, f"waiting for {what}, {waited_s:.0f} of {wait_s:g} s: {reason}")
            next_report_s += REPORT_INTERVAL_S
        time.sleep(RETRY_INTERVAL_S)
