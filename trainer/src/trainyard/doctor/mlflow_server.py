"""An MLflow server, from its name to its clock: each check rules out one cause of not being able to record there."""

import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

import requests

from trainyard.doctor.examination import Check, Doubt, Trouble
from trainyard.doctor.mlflow_http import WatchedHttp
from trainyard.doctor.mlflow_refusal import FORBIDDEN, UNAUTHORIZED, explain
from trainyard.shipping.backend import Retry
from trainyard.shipping.mlflow.api import Refused

ANSWERS_AS_MLFLOW: Final = "mlflow database"
_HOST: Final = "mlflow host"
_CONNECTION: Final = "mlflow connection"
_ANSWER: Final = "mlflow answer"
_CREDENTIALS: Final = "mlflow credentials"
_CONNECT_S: Final = 5.0
_SKEW_S: Final = 30.0
"""The Date of an answer has whole seconds, and a slow answer is no wrong clock."""


def server_checks(http: WatchedHttp, environ: Mapping[str, str]) -> Sequence[Check]:
    """In the order in which they make sense."""
    server = Server(http, environ, *_target(http.shown))
    return (
        Check(name=_HOST, look=server.resolve),
        Check(name=_CONNECTION, look=server.connect, needs=[_HOST]),
        Check(name=_ANSWER, look=server.answer, needs=[_CONNECTION]),
        Check(name="clock", look=server.clock, needs=[_ANSWER]),
        Check(name=_CREDENTIALS, look=server.credentials, needs=[_ANSWER]),
        Check(name=ANSWERS_AS_MLFLOW, look=server.database, needs=[_CREDENTIALS]),
    )


@dataclass(slots=True)
class Server:
    """What is known of it so far."""

    http: WatchedHttp
    environ: Mapping[str, str]
    host: str
    port: int
    proxy: str
    trouble: Retry | Refused | None = None
    """Why the one question that was asked has no good answer."""

    def resolve(self) -> str:
        """Name to addresses."""
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise Trouble(
                f"{self._who} has no address: {getattr(error, 'strerror', None) or error}",
                "correct the host in MLFLOW_TRACKING_URI; in a pod, a Service of another namespace is NAME.NAMESPACE"
                if not self.proxy
                else _PROXY_ADVICE,
            ) from error
        return f"{self._who} has the address {', '.join(dict.fromkeys(str(each[4][0]) for each in found))}"

    def connect(self) -> str:
        """TCP."""
        place = f"{self._who} port {self.port}"
        try:
            socket.create_connection((self.host, self.port), timeout=_CONNECT_S).close()
        except TimeoutError as error:
            raise Trouble(
                f"{place}: no answer within {_CONNECT_S:.0f} s",
                "a firewall or NetworkPolicy drops what is sent from here, or the machine is down",
            ) from error
        except OSError as error:
            raise Trouble(f"{place}: {error.strerror or error}", self._start_it()) from error
        return f"{place} accepts connections"

    def answer(self) -> str:
        """HTTP: the one question that this check and the next ones judge."""
        began = time.monotonic()
        try:
            self.http.call("POST", "2.0/mlflow/experiments/search", {"max_results": 1})
        except (Retry, Refused) as trouble:
            self.trouble = trouble
        if self.http.status is None:
            certificate = "certificate" in str(self.trouble).lower()
            raise Trouble(
                str(self.trouble),
                "MLFLOW_TRACKING_SERVER_CERT_PATH must name the file of the CA that signed it, for this host name"
                if certificate
                else "compare http or https and the port with what the server speaks, and look at its log",
            )
        if self.trouble is not None and self.http.redirect:
            raise Trouble(
                f"{self.http.shown} sends us on to {self.http.redirect}",
                "set MLFLOW_TRACKING_URI to the address behind it; if that is a login page, set MLFLOW_TRACKING_TOKEN",
            )
        return f"HTTP {self.http.status} after {(time.monotonic() - began) * 1000:.0f} ms"

    def clock(self) -> str:
        """Ours against the server's."""
        try:
            theirs = parsedate_to_datetime(self.http.date).timestamp()
        except ValueError:
            return "not compared: the server does not say what time it has"
        ahead_s = self.http.date_seen - theirs
        if abs(ahead_s) > _SKEW_S:
            raise Doubt(
                f"the clock here is {abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} the server's",
                "set the clocks (NTP): the times of metrics and runs are taken here, and would be wrong",
            )
        return "agrees with the server's within 30 s"

    def credentials(self) -> str:
        """401 and 403."""
        if self.http.status in (UNAUTHORIZED, FORBIDDEN):
            raise explain(self.trouble, self.http, self.environ)
        sent = self.http.sent_credentials
        return f"{sent}: not refused" if sent else "none are set, and none are asked for"

    def database(self) -> str:
        """What only MLflow with its database can answer."""
        if self.trouble is not None:
            raise explain(self.trouble, self.http, self.environ)
        return f"{self.http.shown} answers as MLflow, and reads its database"

    @property
    def _who(self) -> str:
        return f"proxy {self.proxy}" if self.proxy else self.host

    def _start_it(self) -> str:
        if self.proxy:
            return _PROXY_ADVICE
        if self.host in ("127.0.0.1", "localhost", "::1") and self.environ.get("KUBERNETES_SERVICE_HOST"):
            return "in a pod this is the pod itself: set MLFLOW_TRACKING_URI to the Service of the MLflow server"
        return "start the server, or correct the port in MLFLOW_TRACKING_URI"


_PROXY_ADVICE: Final = "correct HTTP_PROXY and HTTPS_PROXY, or name the host of MLFLOW_TRACKING_URI in NO_PROXY"


def _target(uri: str) -> tuple[str, int, str]:
    """Host and port that are connected to, and the proxy if they are its own."""
    proxy = requests.utils.select_proxy(uri, requests.utils.get_environ_proxies(uri, no_proxy=None)) or ""
    if proxy and "://" not in proxy:
        proxy = f"http://{proxy}"
    parts = urlsplit(proxy or uri)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80), proxy
