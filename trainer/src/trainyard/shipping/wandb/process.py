"""The process that holds the wandb library.

A process of its own, since the library changes the one it lives in (environment, exit hooks, one service for all runs)
and some of its calls never return while a server is away: this one can be killed, and nobody else notices.
"""

import contextlib
import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import trainyard
from trainyard.shipping.backend import Retry

_END_S = 5.0


class WorkerProcess:
    """Runs worker.py; one JSON line asks, one answers."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log
        package = str(Path(trainyard.__file__).parents[1])
        path = os.pathsep.join(filter(None, [package, environment.get("PYTHONPATH")]))
        with log.open("wb") as stderr:
            self._process = subprocess.Popen(
                # -P: a folder `wandb` where training was started is not the library.
                [sys.executable, "-P", "-m", "trainyard.shipping.wandb.worker", str(os.getpid())],
                env={**environment, "PYTHONPATH": path},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,  # Ctrl-C is for the training process
            )
        assert self._process.stdin and self._process.stdout
        self._to, self._from = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._to, False)
        os.set_blocking(self._from, False)

    def ask(self, request: Mapping[str, Any], *, timeout_s: float) -> dict[str, Any]:
        """The answer. Raises Retry when there is none in time, when the process ends, or when it says what is wrong."""
        deadline = time.monotonic() + timeout_s
        try:
            self._send(json.dumps(request).encode() + b"\n", deadline)
            answer: dict[str, Any] = json.loads(self._receive(deadline))
        except TimeoutError as error:
            raise Retry(f"wandb did not {request['do']} within {timeout_s:.0f} s") from error
        except (OSError, EOFError, ValueError) as error:
            raise Retry(f"the wandb process ended: {self._last_words()}") from error
        if "error" in answer:
            raise Retry(f"wandb could not {request['do']}: {answer['error']}")
        return answer

    def end(self) -> None:
        """End the process, and with it the service process of the library."""
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr] # both are pipes
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)

    def _send(self, line: bytes, deadline: float) -> None:
        while line:
            _wait(self._to, selectors.EVENT_WRITE, deadline)
            line = line[os.write(self._to, line[:65536]) :]

    def _receive(self, deadline: float) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            _wait(self._from, selectors.EVENT_READ, deadline)
            piece = os.read(self._from, 65536)
            if not piece:
                raise EOFError
            line += piece
        return line

    def _last_words(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(_END_S)
            if code < 0:
                return f"killed by signal {-code}; 9 is most likely the memory limit of the container"
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1][:500] if lines else f"no message in {self._log}"


def _wait(descriptor: int, event: int, deadline: float) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, event)
        if not selector.select(max(0.0, deadline - time.monotonic())):
            raise TimeoutError
