"""Starting and ending the processes of the test, each of them a real one."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tests.unit.delivery.ambush import SOURCE, Ambush
from tests.unit.delivery.crew import Order
from tests.unit.images.image_containers import wait_until

_REPOSITORY = Path(__file__).parents[3]
_PATIENCE_S = 90.0
"""For what is left in peace."""
_GO_ON_S = 0.2
_START_S = 1.5
"""Until a shipper without words is taken to be at work."""


class Site:
    """A state directory, and the server that its runs go to. As a context manager it leaves no process behind."""

    def __init__(self, folder: Path, uri: str) -> None:
        self.state = folder / "state"
        self.journal = folder / "journal"
        self.logs = folder / "logs"
        """What each process prints."""
        for each in (self.state, self.journal, self.logs):
            each.mkdir(parents=True)
        self._started = 0
        self._logs: dict[subprocess.Popen[str], Path] = {}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TRAINYARD_", "MLFLOW_"))}
        self._environment = {
            **kept,
            "PYTHONPATH": os.pathsep.join((str(SOURCE.parent), str(_REPOSITORY))),
            "MLFLOW_TRACKING_URI": uri,
            "TRAINYARD_STATE_DIR": str(self.state),
            "TRAINYARD_SHIPPER": "sidecar",
            "TRAINYARD_SHIP_DEADLINE_S": str(_PATIENCE_S),
            "TRAINYARD_SHIP_GRACE_S": str(_PATIENCE_S),
            "TRAINYARD_GIT_COMMIT": "not looked for",
        }

    def __enter__(self) -> "Site":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._logs:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # a crew's writers too
                process.wait()

    def start(self, *arguments: str, stdout: int | None = None, **environment: str) -> "subprocess.Popen[str]":
        """Python with these arguments, and more variables than every process here has."""
        self._started += 1
        path = self.logs / f"{self._started:03d}"
        with path.open("w") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=self.state.parent,
                env={**self._environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log if stdout is None else stdout,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        self._logs[process] = path
        return process

    def shipper(self, *, follow: bool, ambush: Ambush | None = None) -> "subprocess.Popen[str]":
        """`trainyard spool ship`, as the sidecar or as a person runs it."""
        module = ["trainyard"] if ambush is None else ["tests.unit.delivery.ambush", ambush.dump()]
        return self.start("-m", *module, "spool", "ship", "--follow" if follow else str(self.state))

    def sidecar(self) -> "subprocess.Popen[str]":
        """A shipper that is left in peace, and ready to be stopped."""
        shipper = self.shipper(follow=True)
        wait_until(lambda: self._at_work(shipper), "the sidecar at work")
        return shipper

    def _at_work(self, shipper: "subprocess.Popen[str]") -> bool:
        """Its first words say that it listens to signals; those that follow nothing have none."""
        return self._logs[shipper].stat().st_size > 0

    def stop(self, sidecar: "subprocess.Popen[str]") -> None:
        """As the kubelet does; fails unless everything is delivered by then."""
        sidecar.terminate()
        assert end_of(sidecar) == 0, f"the sidecar did not deliver everything:\n{self.last_words()}"

    def kill(self, shipper: "subprocess.Popen[str]", after_s: float) -> bool:
        """SIGKILL, so long after its first words, unless it has ended by then. Returns whether it had met one before.

        One that was stopped on its way goes on first.
        """
        begun = time.monotonic()
        while shipper.poll() is None and not self._at_work(shipper) and time.monotonic() < begun + _START_S:
            time.sleep(0.01)
        for seconds in (after_s, _GO_ON_S):
            try:
                return shipper.wait(seconds) == -signal.SIGKILL
            except subprocess.TimeoutExpired:
                shipper.send_signal(signal.SIGCONT)
        shipper.kill()
        shipper.wait()
        return False

    def last_words(self) -> str:
        """For a failure: the crew's, and those of the last shipper."""
        logs = sorted(self.logs.iterdir())
        return "\n".join(f"{log.name}: {line}" for log in logs for line in log.read_text().splitlines()[-15:])[-6000:]

    def deliver_all(self) -> None:
        """Leave one shipper in peace; fails unless it delivers everything that no living process writes."""
        shipper = self.shipper(follow=False)
        assert end_of(shipper) == 0, f"the shipper that was left in peace failed:\n{self.last_words()}"


class Crew:
    """Writers at work."""

    def __init__(self, site: Site, experiment: str, orders: Sequence[Order]) -> None:
        arguments = (experiment, str(site.journal), json.dumps([asdict(order) for order in orders]))
        self._site = site
        self._process = site.start("-m", "tests.unit.delivery.crew", *arguments, stdout=subprocess.PIPE)

    def at_work(self) -> bool:
        """Whether some writer has not ended."""
        return self._process.poll() is None

    def exit_codes(self) -> list[int]:
        """Wait for the end of every writer; negative for a signal, as in `subprocess`."""
        output, _ = self._process.communicate(timeout=_PATIENCE_S)
        assert self._process.returncode == 0, f"the crew failed:\n{self._site.last_words()}"
        codes: list[int] = json.loads(output)
        return codes


def end_of(process: "subprocess.Popen[str]") -> int:
    """Wait for it; returns the exit code."""
    try:
        return process.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return -1
