"""SIGTERM and SIGINT while training."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest
from trainyard.errors import Interrupted
from trainyard.interruption import Interruption

from tests.unit.trainer.conftest import Ended, Laptop

Stop = Callable[["subprocess.Popen[str]", str, signal.Signals], Ended]


@pytest.fixture
def interruption() -> Iterator[Interruption]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts us in the background ignores it
    interruption = Interruption()
    interruption.install()
    yield interruption
    for number, handler in before.items():
        signal.signal(number, handler)


def test_sigterm_ends_the_run_at_a_step_and_loses_nothing(laptop: Laptop, stop_at: Stop) -> None:
    """Neither exit 0, which would count as success, nor a run that stays RUNNING for ever."""
    ended = stop_at(laptop.start("digits", "--set", "epochs=10000"), "epoch     2/", signal.SIGTERM)
    assert ended.code == 143
    assert ended.stderr == "trainyard: stopped by SIGTERM\n"
    (run,) = laptop.runs()
    assert run.info.status == "KILLED"
    assert run.data.tags["trainyard.end_reason"] == "interrupted"
    steps = [each.step for each in laptop.client.get_metric_history(run.info.run_id, "train/loss_step")]
    assert sorted(steps) == list(range(1, len(steps) + 1))
    assert len(steps) > 40, "two epochs were printed"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_waits_for_the_next_check(interruption: Interruption, number: signal.Signals, code: int) -> None:
    interruption.check()
    os.kill(os.getpid(), number)
    with pytest.raises(Interrupted, match=f"stopped by {number.name}") as caught:
        interruption.check()
    assert caught.value.exit_code == code


def test_a_second_signal_does_not_wait(interruption: Interruption) -> None:
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(Interrupted):
        interruption.check()


def test_sleep_ends_at_a_signal(interruption: Interruption) -> None:
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    start = time.monotonic()
    with pytest.raises(Interrupted):
        interruption.sleep(30)
    assert time.monotonic() - start < 20
