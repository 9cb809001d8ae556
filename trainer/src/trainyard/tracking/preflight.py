"""One look at where a run goes when it starts: a mistake is told at once, an outage is no reason to wait."""

import os
from collections.abc import Callable
from pathlib import Path

from trainyard.environment import JobEnvironment
from trainyard.errors import ConfigError
from trainyard.shipping.backend import Retry, Unusable
from trainyard.shipping.mlflow.api import Refused
from trainyard.spool.records import Start


def look_at_mlflow(environment: JobEnvironment, experiment: str, say: Callable[[str], None]) -> None:
    """Raises ConfigError for wrong credentials, an address that is no MLflow server, a deleted experiment, and a database
    file that cannot be written. Says so, no more, if nothing answers."""
    uri = environment.tracking_uri
    if uri.startswith("sqlite:"):
        _refuse_unwritable(Path(uri.removeprefix("sqlite:///")))
        return
    # Here, since a run that goes to JSON alone needs no HTTP.
    from trainyard.shipping.mlflow.http import MlflowHttp
    from trainyard.shipping.mlflow.rest import RestMlflow

    http = MlflowHttp(uri)
    try:
        RestMlflow(http).refuse_deleted_experiment(experiment)
    except Unusable as unusable:
        raise ConfigError(str(unusable)) from unusable
    except (Retry, Refused) as trouble:
        say(f"{trouble}; training goes on, and its record waits in {environment.spools}")
    finally:
        http.close()


def look_at_wandb(start: Start, environment: JobEnvironment) -> None:
    """Raises ConfigError for settings that cannot be used, and for a key that is missing. Asks nobody."""
    from trainyard.shipping.wandb.options import Options

    try:
        Options.read(start, environment.state_dir, os.environ)
    except Unusable as unusable:
        raise ConfigError(str(unusable)) from unusable


def _refuse_unwritable(database: Path) -> None:
    """Without this, MLflow tries for a minute and then shows 100 lines of SQLAlchemy."""
    place = database if database.exists() else database.parent
    if not os.access(place, os.W_OK):
        raise ConfigError(
            f"MLFLOW_TRACKING_URI=sqlite:///{database}: {place} is not writable; set MLFLOW_TRACKING_URI to a server "
            "or work in a directory that is"
        )
