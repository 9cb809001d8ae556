"""Real processes: signals, exit codes, and several ranks that have to agree."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.unit.trainer.checkpoints import saved
from tests.unit.trainer.conftest import Laptop


@dataclass
class Process:
    """One rank."""

    process: "subprocess.Popen[str]"
    lines: list[dict[str, Any]]
    stderr: str = ""

    def read_until(self, key: str, value: object = None) -> dict[str, Any]:
        """The next line that has `key`."""
        assert self.process.stdout is not None
        for text in self.process.stdout:
            self.lines.append(json.loads(text))
            if key in self.lines[-1] and value in (None, self.lines[-1][key]):
                return self.lines[-1]
        raise AssertionError(
            f"ended without {key}: {self.lines[-5:]} {self.process.stderr and self.process.stderr.read()}"
        )

    def end(self) -> int:
        stdout, self.stderr = self.process.communicate(timeout=120)
        self.lines += [json.loads(text) for text in stdout.splitlines()]
        return self.process.returncode

    def drawn(self) -> dict[int, list[float]]:
        return {line["step"]: line["drawn"] for line in self.lines if "step" in line}

    def said(self, text: str) -> list[str]:
        return [line["said"] for line in self.lines if "said" in line and text in line["said"]]


@contextmanager
def ranks(uri: Path, size: int, of_rank: Sequence[dict[str, Any]] = (), **options: Any) -> Iterator[list[Process]]:
    """Start them; none is left behind."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = []
    for rank in range(size):
        environment = {
            **os.environ,
            "RANK": str(rank),
            "WORLD_SIZE": str(size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "USE_LIBUV": "0",
            "TRAINYARD_STATE_DIR": str(uri.parent / "state"),
        }
        mine = {**options, **(of_rank[rank] if of_rank else {})}
        command = [sys.executable, "-m", "tests.unit.trainer.checkpoints", str(uri), json.dumps(mine)]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(Process(process, []))
    try:
        yield started
    finally:
        for each in started:
            each.process.kill()
            each.process.communicate()


def test_one_process_resumes_after_sigterm(tmp_path: Path) -> None:
    with ranks(tmp_path / "c", 1, pause_s=0.01) as (one,):
        one.read_until("step", 5)
        one.process.send_signal(signal.SIGTERM)
        assert one.end() == 75
    last = max(one.drawn())
    assert one.said("")[-1] == (
        f"checkpoint of step {last} is written to {tmp_path}/c; exit code 75: the same again goes on"
    )
    with ranks(tmp_path / "c", 1, steps=last + 5) as (two,):
        assert two.end() == 0
    assert min(two.drawn()) == last + 1
    with ranks(tmp_path / "undisturbed", 1, steps=last + 5) as (three,):
        assert three.end() == 0
    assert one.drawn() | two.drawn() == three.drawn()


def test_a_second_sigterm_does_not_wait_for_the_checkpoint(tmp_path: Path) -> None:
    with ranks(tmp_path / "c", 1, pause_s=0.01, slow_sync=True) as (one,):
        one.read_until("step", 5)
        one.process.send_signal(signal.SIGTERM)
        one.read_until("said", "in sync")
        one.process.send_signal(signal.SIGTERM)
        assert one.end() == 143
    assert saved(tmp_path / "c") == []


def test_the_grace_deadline_does_not_wait_for_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_GRACE_S", "1")
    with ranks(tmp_path / "c", 1, pause_s=0.01, slow_sync=True) as (one,):
        one.read_until("step", 5)
        one.process.send_signal(signal.SIGTERM)
        assert one.end() == 143
    assert one.said("SIGTERM was 1 s ago")


@pytest.mark.parametrize("receiver", [0, 1])
def test_sigterm_to_either_rank_ends_both_at_the_same_step(tmp_path: Path, receiver: int) -> None:
    with ranks(tmp_path / "c", 2, pause_s=0.01) as both:
        for each in both:
            each.read_until("step", 5)
        both[receiver].process.send_signal(signal.SIGTERM)
        assert [each.end() for each in both] == [75, 75]
    last = max(both[0].drawn())
    assert max(both[1].drawn()) == last
    assert len(both[0].said("exit code 75")) == 1
    assert not both[1].said("exit code 75"), "rank 0 speaks for all"
    with ranks(tmp_path / "c", 2, steps=last + 5) as again:
        assert [each.end() for each in again] == [0, 0]
    with ranks(tmp_path / "undisturbed", 2, steps=last + 5) as undisturbed:
        assert [each.end() for each in undisturbed] == [0, 0]
    for rank in (0, 1):
        assert both[rank].drawn() | again[rank].drawn() == undisturbed[rank].drawn(), f"random numbers of rank {rank}"
        (restored,) = [line for line in again[rank].lines if "restored" in line]
        assert restored == {"restored": last, "progress": {"rank": rank, "steps": last}}
    assert undisturbed[0].drawn() != undisturbed[1].drawn()


def test_sigint_to_one_rank_ends_both_without_a_checkpoint(tmp_path: Path) -> None:
    with ranks(tmp_path / "c", 2, pause_s=0.01) as both:
        for each in both:
            each.read_until("step", 5)
        both[1].process.send_signal(signal.SIGINT)
        assert [each.end() for each in both] == [130, 130]
    assert max(both[0].drawn()) == max(both[1].drawn())
    assert not (tmp_path / "c").exists() or saved(tmp_path / "c") == []


@pytest.mark.parametrize("options", [{"every_steps": 2}, {"every_minutes": 0.001}])
def test_rank_0_decides_when_it_is_time(tmp_path: Path, options: dict[str, Any]) -> None:
    with ranks(tmp_path / "c", 2, steps=30, pause_s=0.01, **options) as both:
        assert [each.end() for each in both] == [0, 0]
    assert saved(tmp_path / "c")
    with ranks(tmp_path / "c", 2, steps=30, **options) as again:
        assert [each.end() for each in again] == [0, 0]
    first, second = ([line["restored"] for line in each.lines if "restored" in line] for each in again)
    assert first == second
    assert first[0] > 0


@pytest.mark.parametrize(("before", "now"), [(1, 2), (2, 1), (2, 3)])
def test_another_number_of_ranks(tmp_path: Path, before: int, now: int) -> None:
    with ranks(tmp_path / "c", before, interrupt_self=3, signal=signal.SIGTERM) as first:
        assert [each.end() for each in first] == [75] * before
    drawn = []
    for attempt in range(2):
        with ranks(tmp_path / "c", now, steps=6) as second:
            assert [each.end() for each in second] == [0] * now
        assert len(second[0].said(f"saved by {before} process(es), now there are {now}")) == 1
        drawn.append([each.drawn() for each in second])
        assert attempt == 0 or drawn[0] == drawn[1], "what is new is so in the same way each time"
    assert len({json.dumps(each[4][:3]) for each in drawn[0]}) == now, "each rank has random numbers of its own"
    if before == 2:
        assert len({each[4][4] for each in drawn[0]}) == 1, "what was common to all ranks is so still"


def test_a_refused_checkpoint_ends_all_ranks(tmp_path: Path) -> None:
    with ranks(tmp_path / "c", 2, interrupt_self=3, signal=signal.SIGTERM, config_hash="sha256:one") as both:
        assert [each.end() for each in both] == [75, 75]
    with ranks(tmp_path / "c", 2, config_hash="sha256:two") as both:
        assert [each.end() for each in both] == [42, 42]
    assert all("sha256:one, and this training has sha256:two" in each.stderr for each in both)


def test_a_folder_in_the_way_ends_all_ranks(tmp_path: Path) -> None:
    (tmp_path / "c").write_text("in the way")
    with ranks(tmp_path / "c", 2) as both:
        assert [each.end() for each in both] == [1, 1]
    with ranks(tmp_path / "c", 2, interrupt_self=3, signal=signal.SIGTERM) as both:
        assert [each.end() for each in both] == [1, 1]


SCRIPT = """
    import time
    import torch, trainyard
    from trainyard.checkpoint import Checkpointer

    model = torch.nn.Linear(1, 1)
    with trainyard.run("resumed", tracking="json") as run:
        with Checkpointer(run, uri="checkpoints", model=model) as checkpoint:
            step = checkpoint.restore()
            while True:
                step += 1
                run.log_metrics({"loss": step}, step=step)
                print(f"step {step}", flush=True)
                checkpoint.after_step(step)
                time.sleep(0.01)
"""


def test_a_users_script_is_scheduled_again_after_sigterm(laptop: Laptop) -> None:
    process = laptop.start_script(SCRIPT)
    assert process.stdout is not None
    for line in process.stdout:
        if line == "step 5\n":
            break
    process.send_signal(signal.SIGTERM)
    ended = laptop.wait(process)
    assert ended.code == 75
    run = laptop.json_run()
    assert run["status"] == "SCHEDULED"
    (name,) = saved(laptop.folder / "checkpoints")
    assert int(name.removeprefix("step-")) == max(step for step, _, _ in run["points"])
    assert "exit code 75: the same again goes on" in ended.stderr
