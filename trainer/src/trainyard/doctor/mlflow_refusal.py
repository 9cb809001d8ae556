"""What to do when an MLflow server refuses something."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from trainyard.doctor.examination import Trouble
from trainyard.doctor.mlflow_http import WatchedHttp

UNAUTHORIZED: Final = 401
FORBIDDEN: Final = 403
_SERVER_ERROR: Final = 500


def explain(trouble: Exception | None, http: WatchedHttp, environ: Mapping[str, str]) -> Trouble:
    """By the last answer, where there was one."""
    seen, _, advice = str(trouble).partition("; ")
    if http.refusal:
        seen = f"{http.shown} answers {http.refusal}"
    match http.status:
        case None:
            return Trouble(seen, "look whether the server is overloaded or starting again, and at its log")
        case code if code == UNAUTHORIZED:
            return Trouble(seen, _correct_credentials(http, environ))
        case code if code == FORBIDDEN and "host header" in seen.lower():
            name = urlsplit(http.shown).netloc
            return Trouble(
                seen, f"MLflow answers only to names in its --allowed-hosts (MLFLOW_SERVER_ALLOWED_HOSTS): add {name}"
            )
        case code if code == FORBIDDEN:
            return Trouble(
                seen,
                "give this user the permission EDIT in MLflow, or correct MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD; if the answer is a proxy's, ask who runs it",
            )
        case code if code >= _SERVER_ERROR:
            return Trouble(
                seen, "look at the log of the MLflow server: its database or its artifact store does not work"
            )
    return Trouble(seen, advice or "correct MLFLOW_TRACKING_URI if something other than MLflow 3 answers there")


def _correct_credentials(http: WatchedHttp, environ: Mapping[str, str]) -> str:
    pair = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
    if http.sent_credentials == "user and password":
        return f"correct {pair[0]} and {pair[1]}"
    half = [name for name in pair if environ.get(name)]
    if half:
        return f"set {pair[0]} and {pair[1]}: only {half[0]} is set"
    if http.sent_credentials:
        return "correct MLFLOW_TRACKING_TOKEN: it is wrong or has expired"
    return f"set {pair[0]} and {pair[1]}, or MLFLOW_TRACKING_TOKEN"
