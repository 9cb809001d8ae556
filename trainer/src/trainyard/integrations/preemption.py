"""SIGTERM in a training that somebody else's loop runs: what callbacks ask after each step."""

import os
import signal
from pathlib import Path
from typing import Never

from trainyard import distributed
from trainyard.checkpoint import Preempted, ranks
from trainyard.environment import JobEnvironment
from trainyard.interruption import of_this_process
from trainyard.tracking.session import say_to_stderr


class Preemption:
    """Listens from now on; must be made in the main thread."""

    def __init__(self) -> None:
        self._interruption = of_this_process()
        self._interruption.limit(JobEnvironment.read(os.environ).grace_s, say_to_stderr)

    def requested(self) -> bool:
        """Whether SIGTERM came to any rank; to be asked by all of them. Raises Interrupted after SIGINT."""
        if self._interruption.received == signal.SIGINT:
            self._interruption.check()
        return distributed.any_rank(self._interruption.requested)

    def leave(self, step: int, place: str | Path) -> Never:
        """Raise Preempted: `place` has a complete checkpoint of `step`."""
        distributed.any_rank(True)  # no rank leaves while another one still writes
        preempted = Preempted(step, str(place))
        if ranks.own_rank() == 0:
            say_to_stderr(str(preempted))
        raise preempted
