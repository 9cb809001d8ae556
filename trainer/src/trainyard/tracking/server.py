"""Waiting for the tracking server: the one moment at which an unreachable MLflow is the user's to know about."""

import json
import math
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from trainyard.errors import TrackingError
from trainyard.interruption import Interruption

# Touches the database, unlike /health, and exists in every MLflow.
_PROBE = "/api/2.0/mlflow/experiments/search"
_RETRY_STATUS = frozenset({408, 429, 500, 502, 503, 504})
_OK = 200
_PROBE_TIMEOUT_S = 10.0
_PAUSE_S = 1.0


def is_server(uri: str) -> bool:
    """Whether `uri` is a server, not a database file."""
    return urlsplit(uri).scheme in ("http", "https")


def without_password(uri: str) -> str:
    """`uri` as it may be printed."""
    password = urlsplit(uri).password
    return uri.replace(f":{password}@", ":***@") if password else uri


def wait_for_server(
    uri: str, *, wait_s: float, interruption: Interruption, say: Callable[[str], None], say_every_s: float = 10.0
) -> None:
    """Return once the server at `uri` answers as MLflow with its database; `say` gets a line now and then.

    Raises TrackingError after `wait_s` seconds without an answer, and at once for an answer that waiting does not change.
    """
    shown = without_password(uri)
    start = time.monotonic()
    said = -math.inf
    while reason := _probe(uri, shown, timeout_s=max(1.0, min(_PROBE_TIMEOUT_S, start + wait_s - time.monotonic()))):
        waited = time.monotonic() - start
        if waited >= wait_s:
            raise TrackingError(
                f"MLflow at {shown} could not be reached: tried for {waited:.0f} s (TRAINYARD_TRACKING_WAIT_S), last: {reason}. "
                "Check MLFLOW_TRACKING_URI and that the server runs."
            )
        if time.monotonic() - said >= say_every_s:
            said = time.monotonic()
            say(f"waiting for MLflow at {shown}: {waited:.0f} of {wait_s:.0f} s, {reason}")
        interruption.sleep(min(_PAUSE_S, wait_s - waited))


def _probe(uri: str, shown: str, timeout_s: float) -> str | None:
    """None if MLflow answers; else why not, for now. Raises TrackingError where waiting is no use."""
    try:
        answer = http_request(
            get_default_host_creds(uri),
            _PROBE,
            "POST",
            json={"max_results": 1},
            max_retries=0,
            timeout=timeout_s,
            raise_on_status=False,
        )
    except MlflowException as error:
        return _cause(error)
    if answer.status_code in _RETRY_STATUS:
        return f"it answers {answer.status_code} {answer.reason}"
    if answer.status_code != _OK:
        text = " ".join(answer.text.split())[:200]
        raise TrackingError(f"MLflow at {shown} refuses: it answers {answer.status_code} {answer.reason}: {text}")
    if not _is_json_object(answer.text):
        kind = answer.headers.get("Content-Type", "no content type")
        raise TrackingError(f"{shown} is not an MLflow server: it answers {kind}. Check MLFLOW_TRACKING_URI.")
    return None


def _is_json_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _cause(error: BaseException) -> str:
    """The innermost reason in plain words: `Connection refused` of five nested exceptions."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
