"""Looking at the sweep while the agent works: in a thread, since the server may take its time to answer."""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from trainyard.shipping.backend import Retry
from trainyard.shipping.wandb.graphql import NoAnswer
from trainyard.sweeps.wandb.server import Standing

_EVERY_S: Final = 4.0
_SAY_EVERY_S: Final = 30.0


class Watch:
    """A context manager."""

    def __init__(self, look: Callable[[], Standing | None], say: Callable[[str], None]) -> None:
        self.standing: Standing | None = None
        """As last seen; None before the first look."""
        self.is_gone = False
        """Whether the server said that there is no such sweep."""
        self._news: Standing | None = None
        self._look = look
        self._say = say
        self._said = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trainyard-sweep-watch", daemon=True)

    @property
    def is_enough(self) -> bool:
        """Whether a trial of the sweep is in vain. Not after a mere stop: there W&B itself says which trials are to end."""
        return self.is_gone or (self.standing is not None and self.standing.state == "CANCELED")

    def news(self) -> Standing | None:
        """As last seen, once."""
        standing, self._news = self._news, None
        return standing

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()

    def _run(self) -> None:
        while not self._over.wait(_EVERY_S):
            try:
                standing = self._look()
            except NoAnswer as trouble:
                self._say_now_and_then(f"{trouble}; the trial goes on")
                continue
            except Retry as trouble:  # a key that was revoked: whoever comes to the end of its trial meets it
                self._say_now_and_then(str(trouble))
                continue
            self.is_gone = standing is None
            self.standing = self._news = standing
            if standing is not None and standing.state == "PAUSED":
                self._say_now_and_then("the sweep is paused at W&B: no trial is begun until somebody resumes it there")

    def _say_now_and_then(self, text: str) -> None:
        if time.monotonic() >= self._said + _SAY_EVERY_S:
            self._said = time.monotonic()
            self._say(text)
