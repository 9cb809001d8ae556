"""Waiting for the pod of rank 0 to have an address."""

import socket
import time
from collections.abc import Callable

from trainyard.errors import TrainyardError
from trainyard.interruption import Interruption

_PAUSE_S = 1.0
_SAY_EVERY_S = 30.0


def wait_until_resolves(
    host: str,
    *,
    interruption: Interruption,
    say: Callable[[str], None],
    timeout_s: float = 600.0,
    resolve: Callable[[str, None], object] = socket.getaddrinfo,
) -> None:
    """Return when `host` has an address. Raises TrainyardError after `timeout_s`, and Interrupted."""
    began = said = time.monotonic()
    while True:
        interruption.check()
        try:
            resolve(host, None)
            return
        except OSError as error:
            reason = error.strerror or str(error)
        now = time.monotonic()
        if now - began >= timeout_s:
            raise TrainyardError(
                f"MASTER_ADDR={host} does not resolve after {timeout_s:.0f} s ({reason}): is pod 0 of the Job scheduled "
                "(kubectl get pods), and does the headless Service select it and publish addresses that are not ready?"
            )
        if now - said >= _SAY_EVERY_S:
            said = now
            say(f"waiting for pod 0: {host} does not resolve yet ({reason}); {now - began:.0f} of {timeout_s:.0f} s")
        interruption.sleep(_PAUSE_S)
