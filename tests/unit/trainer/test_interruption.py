"""SIGTERM and SIGINT while training."""

import os
import signal
import subprocess
import textwrap
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


@pytest.mark.parametrize(
    ("number", "code", "status", "reason"),
    [(signal.SIGTERM, 75, "SCHEDULED", "preempted"), (signal.SIGINT, 130, "KILLED", "interrupted")],
)
def test_a_signal_ends_the_run_at_a_step_and_loses_nothing(
    laptop: Laptop, stop_at: Stop, number: signal.Signals, code: int, status: str, reason: str
) -> None:
    """Neither exit 0, which would count as success, nor a run that stays RUNNING for ever."""
    ended = stop_at(laptop.start("digits", "--set", "epochs=10000"), "epoch     2/", number)
    assert ended.code == code, ended.stderr
    (run,) = laptop.runs()
    assert run.info.status == status
    assert run.data.tags["trainyard.end_reason"] == reason
    steps = [each.step for each in laptop.client.get_metric_history(run.info.run_id, "train/loss_step")]
    assert sorted(steps) == list(range(1, len(steps) + 1))
    assert len(steps) > 40, "two epochs were printed"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_waits_for_the_next_check(interruption: Interruption, number: signal.Signals, code: int) -> None:
    interruption.check()
    assert not interruption.requested
    assert interruption.received is None
    os.kill(os.getpid(), number)
    assert interruption.requested
    assert interruption.received is number
    with pytest.raises(Interrupted, match=f"stopped by {number.name}") as caught:
        interruption.check()
    assert caught.value.exit_code == code


def test_sleep_ends_at_a_signal(interruption: Interruption) -> None:
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    start = time.monotonic()
    with pytest.raises(Interrupted):
        interruption.sleep(30)
    assert time.monotonic() - start < 20


def listening(laptop: Laptop, *parts: str) -> "subprocess.Popen[str]":
    """A script that listens, goes on with `parts`, and has printed `ready`."""
    begin = """
        import os, signal, time
        from trainyard.interruption import of_this_process
        interruption = of_this_process()
        def say(text):
            print(text, flush=True)
    """
    process = laptop.start_script("\n".join(textwrap.dedent(part) for part in (begin, *parts)))
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(("second", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_second_signal_ends_the_process_at_once(laptop: Laptop, second: signal.Signals, code: int) -> None:
    process = listening(
        laptop,
        """
        say("ready")
        while not interruption.requested:
            time.sleep(0.01)
        say("told")
        time.sleep(300)
        """,
    )
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None
    assert process.stdout.readline() == "told\n"
    process.send_signal(second)
    assert laptop.wait(process).code == code


LIMIT = "interruption.limit(0.3, say)"
IN_A_LOOP = """
    say("ready")
    while True:
        time.sleep(0.01)
"""
IN_C = """
    import hashlib
    say("ready")
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # minutes, in which Python runs no handler
"""
LIMIT_AFTER_THE_SIGNAL = """
    say("ready")
    while not interruption.requested:
        time.sleep(0.01)
    interruption.limit(0.3, say)
    time.sleep(300)
"""


@pytest.mark.parametrize(
    "parts",
    [
        (LIMIT, IN_A_LOOP),
        (LIMIT, IN_C),
        (LIMIT_AFTER_THE_SIGNAL,),
        ("interruption.limit(300, say)", LIMIT, IN_A_LOOP),
        # An event loop's, which stays.
        ("signal.set_wakeup_fd(os.pipe2(os.O_NONBLOCK)[1])", LIMIT, IN_A_LOOP),
    ],
    ids=["in a loop", "in C", "limit after the signal", "limited anew", "beside an event loop"],
)
def test_the_process_ends_with_the_grace_period(laptop: Laptop, parts: tuple[str, ...]) -> None:
    process = listening(laptop, *parts)
    process.send_signal(signal.SIGTERM)
    ended = laptop.wait(process)
    assert ended.code == 143, ended.stderr
    assert ended.stdout.startswith("SIGTERM was 0.3 s ago and this process has not ended: it ends now")
    assert "raise TRAINYARD_GRACE_S" in ended.stdout


def test_nobody_reading_does_not_keep_it_alive(laptop: Laptop) -> None:
    process = listening(laptop, "def stuck(_text): time.sleep(300)", "interruption.limit(0.3, stuck)", IN_A_LOOP)
    process.send_signal(signal.SIGTERM)
    assert laptop.wait(process).code == 143


def test_sigint_has_no_deadline(laptop: Laptop) -> None:
    """A person who pressed Ctrl-C is there to press it again."""
    process = listening(
        laptop,
        "interruption.limit(0, say)",
        """
        say("ready")
        while not interruption.requested:
            time.sleep(0.01)
        time.sleep(0.5)
        say("still here")
        """,
    )
    process.send_signal(signal.SIGINT)
    ended = laptop.wait(process)
    assert (ended.code, ended.stdout) == (0, "still here\n")


def test_what_multiprocessing_forks_ends_by_sigterm(laptop: Laptop) -> None:
    """Pool.terminate sends it, and waits for the end."""
    ended = laptop.script(
        """
        import multiprocessing, time
        from trainyard.interruption import of_this_process
        interruption = of_this_process()
        interruption.limit(0, print)
        for _ in range(20):  # the signal arrives sooner or later
            process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
            process.start()
            process.terminate()
            process.join()
            print(process.exitcode, interruption.requested)
        """
    )
    assert ended.stdout == "-15 False\n" * 20, ended.stderr


def test_a_process_has_one(laptop: Laptop) -> None:
    ended = laptop.script(
        """
        import os, signal
        from trainyard.interruption import of_this_process
        of_this_process()
        os.kill(os.getpid(), signal.SIGTERM)
        print(of_this_process() is of_this_process(), of_this_process().received.name)
        """
    )
    assert ended.stdout == "True SIGTERM\n", ended.stderr
