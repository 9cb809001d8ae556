"""Values that cannot be used, all of them at once."""

import re
from collections.abc import Mapping
from pathlib import Path

from trainyard.doctor.trial import trial_start
from trainyard.environment import JobEnvironment, seconds
from trainyard.errors import ConfigError
from trainyard.shipping.backend import Retry


def read(environ: Mapping[str, str]) -> JobEnvironment:
    """Raises ConfigError for every value that cannot be used, also those that only the shipper or a backend reads."""
    problems = _address_problems(environ.get("MLFLOW_TRACKING_URI", "").strip())
    known = {**environ, "MLFLOW_TRACKING_URI": ""} if problems else environ
    environment = None
    try:
        environment = JobEnvironment.read(known)
    except ConfigError as error:
        problems += error.problems
    try:
        seconds("TRAINYARD_SHIP_GRACE_S", environ.get("TRAINYARD_SHIP_GRACE_S") or "25")
    except ConfigError as error:
        problems += error.problems
    if environment is None or "wandb" in environment.tracking:
        problems += _wandb_problems(environ)
    if environment is None or problems:
        raise ConfigError(*problems)
    return environment


def _address_problems(uri: str) -> list[str]:
    """A password that breaks the address; everything else that can be wrong with one is JobEnvironment's to say."""
    scheme, _, rest = uri.partition("://")
    if scheme not in ("http", "https"):
        return []
    host = re.split("[/?#]", rest, maxsplit=1)[0]
    if "@" in rest and "@" not in host:
        return [
            f"MLFLOW_TRACKING_URI={uri}: the user or password in it has a character that ends the host name; write / as %2F, "
            "? as %3F, # as %23, or use MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        ]
    return []


def _wandb_problems(environ: Mapping[str, str]) -> list[str]:
    from trainyard.shipping.wandb.options import Options

    # A missing key is no wrong value: it is looked for by a check of its own.
    with_key = {**environ, "WANDB_API_KEY": environ.get("WANDB_API_KEY", "").strip() or "none"}
    try:
        Options.read(trial_start(), Path(), with_key)
    except Retry as problem:
        return [str(problem)]
    return []


def describe(environment: JobEnvironment) -> str:
    """What was read, in one line."""
    who = "this process" if environment.shipper == "thread" else "`trainyard spool ship --follow` beside it"
    return f"records go to {', '.join(environment.tracking)}, delivered by {who}"
