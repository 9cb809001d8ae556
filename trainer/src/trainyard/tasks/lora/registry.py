"""Models from MLflow's registry."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainyard.environment import JobEnvironment
from trainyard.errors import ConfigError, TrackingError

if TYPE_CHECKING:
    from mlflow.exceptions import MlflowException

_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Fetched:
    """A model on the local disk."""

    folder: Path
    name: str
    """`models:/NAME/VERSION`, with the version that an alias stood for; or the path of the directory."""


def fetch_model(setting: str, uri: str, destination: Path) -> Fetched:
    """The model that `uri` names: `models:/NAME@ALIAS` or `models:/NAME/VERSION`, copied to `destination`, or a directory.

    `setting`: the key that holds `uri`, for messages. Raises ConfigError if there is no such model, with those that there are;
    TrackingError if MLflow does not answer.
    """
    if not uri.startswith("models:"):
        folder = Path(uri)
        if not folder.is_dir():
            raise ConfigError(
                f"{setting}={uri}: there is no such directory; a model of the registry is models:/NAME@ALIAS"
            )
        return Fetched(folder, str(folder.absolute()))
    match = re.fullmatch(r"models:/(?P<name>[^/@:]+)(@(?P<alias>[^/@]+)|/(?P<version>\d+))", uri)
    if match is None:
        raise ConfigError(f"{setting}={uri}: must be models:/NAME@ALIAS, models:/NAME/VERSION or a directory")
    return _Registry(setting, uri).fetch(match["name"], match["alias"], match["version"], destination)


class _Registry:
    """One question to MLflow's registry."""

    def __init__(self, setting: str, uri: str) -> None:
        from mlflow import MlflowClient

        self._asked = f"{setting}={uri}"
        self._server = JobEnvironment.read(os.environ).tracking_uri
        self._client = MlflowClient(self._server, registry_uri=self._server)

    def fetch(self, name: str, alias: str | None, version: str | None, destination: Path) -> Fetched:
        """See `fetch_model`."""
        import mlflow
        from mlflow.exceptions import MlflowException
        from requests import RequestException

        # Hundreds of lines in a log that is no terminal.
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        try:
            found = version or str(self._client.get_model_version_by_alias(name, str(alias)).version)
            source = self._client.get_model_version_download_uri(name, found)
            destination.mkdir(parents=True, exist_ok=True)
            folder = mlflow.artifacts.download_artifacts(source, dst_path=str(destination), tracking_uri=self._server)
        except MlflowException as error:
            if isinstance(error.__context__, RequestException):
                raise TrackingError(f"{self._asked}: {self._server} does not answer") from error
            raise self._explained(error, name) from error
        except (RequestException, OSError) as error:
            raise TrackingError(f"{self._asked}: the files of version {found} cannot be read: {error}") from error
        return Fetched(Path(folder), f"models:/{name}/{found}")

    def _explained(self, error: "MlflowException", name: str) -> ConfigError | TrackingError:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return ConfigError(f"{self._asked}: {self._server} has no such model; {self._what_there_is(name)}")
        if error.error_code in ("PERMISSION_DENIED", "UNAUTHENTICATED"):
            return ConfigError(
                f"{self._asked}: {self._server} refuses: {error.message}; check MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD"
            )
        return TrackingError(f"{self._asked}: {self._server} did not give the model: {error.message}")

    def _what_there_is(self, name: str) -> str:
        models = {model.name: model for model in self._client.search_registered_models(max_results=_SHOWN)}
        if name not in models:
            return f"registered models: {', '.join(models) or 'none'}; train one with `trainyard train lm`"
        versions = [
            str(each.version) for each in self._client.search_model_versions(f"name='{name}'", max_results=_SHOWN)
        ]
        # A list does not bring the aliases.
        aliases = self._client.get_registered_model(name).aliases
        named = ", ".join(f"{alias} = {version}" for alias, version in aliases.items())
        return f"{name} has the versions {', '.join(versions) or 'none'} and the aliases {named or 'none'}"
