"""HTTP to an MLflow server. MLflow's own client is not used here: importing it takes 190 MB, more than the shipper may have."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

import requests

from trainyard.shipping.backend import Retry, Unusable
from trainyard.shipping.mlflow.api import Refused

_TIMEOUT_S: Final = (5.0, 60.0)
"""To connect; between two packets of the answer."""
_UPLOAD_TIMEOUT_S: Final = (5.0, 600.0)
_OK: Final = 200
_TRY_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_CREDENTIALS: Final = frozenset({401, 403})
# MLflow answers 400 when its own connection pool is exhausted.
_TRY_AGAIN_TEXT: Final = ("QueuePool limit", "database is locked", "deadlock detected")
_TRUE: Final = frozenset({"1", "true"})


class MlflowHttp:
    """One server, with the credentials of MLflow's own environment variables."""

    def __init__(self, uri: str, environ: Mapping[str, str] = os.environ) -> None:
        parts = urlsplit(uri)
        self.shown = uri
        self._base = uri.rstrip("/")
        self._session = requests.Session()
        user, password = environ.get("MLFLOW_TRACKING_USERNAME"), environ.get("MLFLOW_TRACKING_PASSWORD")
        # The URI that a spool holds has no password; the one in the environment may.
        own = urlsplit(environ.get("MLFLOW_TRACKING_URI", ""))
        if user and password:
            self._session.auth = (user, password)
        elif own.username and own.hostname == parts.hostname:
            self._session.auth = (unquote(own.username), unquote(own.password or ""))
        elif token := environ.get("MLFLOW_TRACKING_TOKEN"):
            self._session.headers["Authorization"] = f"Bearer {token}"
        if environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in _TRUE:
            self._session.verify = False
        elif certificate := environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH"):
            self._session.verify = certificate
        if client := environ.get("MLFLOW_TRACKING_CLIENT_CERT_PATH"):
            self._session.cert = client
        if workspace := environ.get("MLFLOW_WORKSPACE"):
            self._session.headers["X-MLFLOW-WORKSPACE"] = workspace

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None, **query: str) -> dict[str, Any]:
        """One call of the API, `path` as in `2.0/mlflow/runs/get`. Raises Retry or Refused."""
        answer = self._send(method, f"api/{path}", json=body, params=query, timeout=_TIMEOUT_S)
        try:
            content = answer.json()
        except ValueError:
            content = None
        if not isinstance(content, dict):
            kind = answer.headers.get("Content-Type", "nothing")
            raise Unusable(f"{self.shown} is not an MLflow server: it answers {kind}; correct MLFLOW_TRACKING_URI")
        return content

    def put(self, path: str, file: Path) -> None:
        """Send a file to the server's artifact store. Raises Retry or Refused."""
        with file.open("rb") as body:
            # An empty file would be sent with neither a length nor a body.
            content = body if file.stat().st_size else b""
            self._send(
                "PUT", f"api/2.0/mlflow-artifacts/artifacts/{quote(path)}", data=content, timeout=_UPLOAD_TIMEOUT_S
            )

    def get(self, path: str) -> bytes:
        """A file from the server's artifact store. Raises Retry or Refused."""
        answer = self._send("GET", f"api/2.0/mlflow-artifacts/artifacts/{quote(path)}", timeout=_UPLOAD_TIMEOUT_S)
        return bytes(answer.content)

    def delete(self, path: str) -> None:
        """Remove a file from the server's artifact store. Raises Retry or Refused."""
        self._send("DELETE", f"api/2.0/mlflow-artifacts/artifacts/{quote(path)}", timeout=_TIMEOUT_S)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _send(self, method: str, path: str, **options: Any) -> requests.Response:
        try:
            answer = self._session.request(method, f"{self._base}/{path}", **options)
        except requests.RequestException as error:
            raise Retry(f"MLflow at {self.shown} cannot be reached: {_cause(error)}") from error
        if answer.status_code == _OK:
            return answer
        text = _message(answer)
        if answer.status_code in _CREDENTIALS:
            raise Unusable(
                f"MLflow at {self.shown} refuses {method} /{path}: {answer.status_code} {text}; "
                "check MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or that the server allows this host name"
            )
        if answer.status_code in _TRY_AGAIN or any(sign in text for sign in _TRY_AGAIN_TEXT):
            raise Retry(f"MLflow at {self.shown} answers {answer.status_code} {answer.reason}: {text}")
        raise Refused(text)


def _message(answer: requests.Response) -> str:
    """MLflow's own words, with its error code in front."""
    with suppress(ValueError, AttributeError):
        content = answer.json()
        return f"{content.get('error_code', '')}: {content.get('message', '')}"
    return " ".join(answer.text.split())[:200] or answer.reason


def _cause(error: BaseException) -> str:
    """The innermost reason in plain words: `Connection refused` of five nested exceptions."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
