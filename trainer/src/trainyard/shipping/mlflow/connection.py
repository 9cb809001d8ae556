"""MLflow at an address: a server, or a database file."""

from collections.abc import Iterator
from contextlib import contextmanager

from trainyard.shipping.mlflow.api import MlflowApi
from trainyard.shipping.mlflow.http import MlflowHttp
from trainyard.shipping.mlflow.rest import RestMlflow


def connect(uri: str) -> tuple[MlflowApi, MlflowHttp | None]:
    """For `http://`, `https://` and `sqlite:///`; with what has to be closed afterwards."""
    if uri.startswith("sqlite:"):
        from trainyard.shipping.mlflow.local import LocalMlflow

        return LocalMlflow(uri), None
    http = MlflowHttp(uri)
    return RestMlflow(http), http


@contextmanager
def connected(uri: str) -> Iterator[MlflowApi]:
    """The same, for the length of a block."""
    api, http = connect(uri)
    try:
        yield api
    finally:
        if http is not None:
            http.close()
