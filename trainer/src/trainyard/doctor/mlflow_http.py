"""The shipper's way to an MLflow server, watched."""

import time
from collections.abc import Mapping
from typing import Any, Final

import requests

from trainyard.shipping.mlflow.http import MlflowHttp

_TIMEOUT_S: Final = (4.0, 8.0)
_REFUSAL: Final = 400


class WatchedHttp(MlflowHttp):
    """Remembers of the last answer what explains a failure, and waits for seconds at most."""

    def __init__(self, uri: str, environ: Mapping[str, str]) -> None:
        super().__init__(uri, environ)
        self.status: int | None = None
        """None if there was no answer."""
        self.refusal = ""
        """Status and words, if it was one."""
        self.redirect = ""
        """Where the server sent us, if it ever did."""
        self.date = ""
        self.date_seen = 0.0
        self._session.hooks["response"].append(self._look)

    @property
    def sent_credentials(self) -> str:
        """Which kind goes with each call, in words."""
        if self._session.auth is not None:
            return "user and password"
        return "MLFLOW_TRACKING_TOKEN" if "Authorization" in self._session.headers else ""

    def _look(self, answer: requests.Response, *_: Any, **__: Any) -> None:
        self.status = answer.status_code
        self.date, self.date_seen = answer.headers.get("Date", ""), time.time()
        self.refusal = ""
        if answer.status_code >= _REFUSAL:
            self.refusal = f"{answer.status_code} {answer.reason}: {_words(answer)}"
        if answer.is_redirect:
            self.redirect = answer.headers["Location"].partition("?")[0]

    def _send(self, method: str, path: str, **options: Any) -> requests.Response:
        self.status, self.refusal = None, ""
        return super()._send(method, path, **{**options, "timeout": _TIMEOUT_S})


def _words(answer: requests.Response) -> str:
    """MLflow's message, or the beginning of whatever else it is."""
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return " ".join(answer.text.split())[:200]
