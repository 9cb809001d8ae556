"""What a checkpoint holds, when it is written, and which ones stay."""

import collections
import json
import os
import random
import re
import resource
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from trainyard.checkpoint import CheckpointConfig, Checkpointer, CheckpointError, Preempted
from trainyard.early_stopping import EarlyStopping
from trainyard.errors import ConfigError, Interrupted
from trainyard.interruption import Interruption

from tests.unit.trainer.checkpoints import BY_HAND, Lines, StubRun, checkpointer, saved, set_everywhere


@pytest.fixture
def interruption() -> Iterator[Interruption]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    interruption = Interruption()
    interruption.install()
    yield interruption
    for number, handler in before.items():
        signal.signal(number, handler)


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, f"not within 60 s: {what}"
        time.sleep(0.002)


class Anything:
    """An object of a user with all that a state may hold."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state

    def state_dict(self) -> dict[str, Any]:
        return self.state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.state = state


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 1))


STATE: dict[str, Any] = {
    "numbers": [0, -1, 2**130, 0.1, float("inf"), 1 + 2j, True, None],
    "texts": ("ä\n", b"\x00\xff", ""),
    "nested": {1: {"a": [(), {}, {1, 2}]}, None: collections.OrderedDict(b=1, a=2), "c": collections.Counter("abba")},
    "torch": [torch.Size([1, 2]), torch.bfloat16, torch.device("cpu")],
    "numpy": {"array": np.arange(6, dtype=np.uint32).reshape(2, 3), "number": np.float32(0.1), "flag": np.bool_(True)},
}


def test_everything_comes_back(tmp_path: Path) -> None:
    def objects(seed: int) -> dict[str, Any]:
        model = network(seed)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1 * (seed + 1), amsgrad=True)
        return {
            "model": model,
            "compiled": torch.compile(network(seed + 10)),
            "optimizer": optimizer,
            "plateau": torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer),
            "steps": torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 3, 5]),
            "stopping": EarlyStopping(patience=3),
            "generator": torch.Generator().manual_seed(seed),
            "pcg": np.random.default_rng(seed),
            "mersenne": np.random.Generator(np.random.MT19937(seed)),
            "progress": {"sum": seed, "tensor": torch.full((2,), float(seed))},
            "anything": Anything(STATE if seed == 0 else {}),
        }

    first = objects(0)
    for _ in range(3):
        first["model"](torch.randn(5, 3)).sum().backward()
        first["optimizer"].step()
        first["steps"].step()
        first["plateau"].step(1.0)
    first["stopping"].stop(0.5)
    with checkpointer(tmp_path / "c", **first) as checkpoint:
        assert checkpoint.restore() == 0
        checkpoint.save(3)
    following = (random.random(), np.random.rand(), torch.rand(3), *draws(first))

    second = objects(1)
    progress = second["progress"]
    with checkpointer(tmp_path / "c", **second) as checkpoint:
        assert checkpoint.restore() == 3
    assert repr((random.random(), np.random.rand(), torch.rand(3), *draws(second))) == repr(following)
    assert second["progress"] is progress
    assert repr(progress) == repr(first["progress"])
    for name in ("model", "compiled", "optimizer", "plateau", "steps", "stopping"):
        assert repr(second[name].state_dict()) == repr(first[name].state_dict()), name
    assert repr(second["anything"].state) == repr(STATE)


def draws(objects: dict[str, Any]) -> tuple[Any, ...]:
    return torch.rand(2, generator=objects["generator"]), objects["pcg"].normal(), objects["mersenne"].normal()


def test_the_file_is_read_safely_and_does_not_hold_shared_weights_twice(tmp_path: Path) -> None:
    one, other = nn.Linear(1000, 1000, bias=False), nn.Linear(1000, 1000, bias=False)
    other.weight = one.weight
    with checkpointer(tmp_path / "c", model=nn.Sequential(one, other)) as checkpoint:
        checkpoint.save(1, score=0.5)
    file = tmp_path / "c" / "step-000000001" / "state.pt"
    state = torch.load(file, weights_only=True)
    assert (state["step"], state["score"], state["run"]["uid"]) == (1, 0.5, "a" * 32)
    assert torch.equal(state["common"]["model"]["1.weight"], one.weight)
    assert 4_000_000 < file.stat().st_size < 5_000_000
    manifest = json.loads((file.parent / "manifest.json").read_text())
    assert manifest["format"] == 1
    assert manifest["files"]["state.pt"]["bytes"] == file.stat().st_size


def test_versions_of_modules_are_kept(tmp_path: Path) -> None:
    """Old formats of some modules are told by them alone."""
    seen = []

    class Versioned(nn.Linear):
        _version = 7

        def _load_from_state_dict(self, state: Any, prefix: str, metadata: Any, *rest: Any) -> None:
            seen.append(metadata.get("version"))
            super()._load_from_state_dict(state, prefix, metadata, *rest)

    with checkpointer(tmp_path / "c", model=Versioned(2, 2)) as checkpoint:
        checkpoint.save(1)
        checkpoint.restore()
    assert seen == [7]


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"f": print}, r"a\.f: a builtin_function_or_method cannot be saved"),
        ({"d": [collections.deque([1])]}, r"a\.d\.0: a deque cannot be saved"),
        ({(1, 2): 3}, r"a: the key \(1, 2\) cannot be saved"),
        ({"o": np.array(["text"])}, r"a\.o: numpy's <U4 cannot be saved"),
    ],
)
def test_what_cannot_be_read_safely_is_named(tmp_path: Path, state: dict[Any, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message), checkpointer(tmp_path / "c", a=Anything(state)) as checkpoint:
        checkpoint.save(1)


def test_an_object_without_state_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"Checkpointer\(epoch=\.\.\.\): a int has no state_dict"):
        checkpointer(tmp_path / "c", epoch=3)


def test_a_background_save_has_the_state_of_its_step(tmp_path: Path) -> None:
    """The training goes on while it is written, and does not wait for it."""
    writing, go_on = threading.Event(), threading.Event()

    def sync() -> None:
        writing.set()
        assert go_on.wait(60)

    model, progress = nn.Linear(3, 3), {"step": 0, "list": [0]}
    config = CheckpointConfig(every_steps=2, every_minutes=0.0)
    with checkpointer(
        tmp_path / "c", run=StubRun(sync=sync), config=config, model=model, progress=progress
    ) as checkpoint:
        for step in range(1, 8):
            set_everywhere(model, step)
            progress["step"] = step
            progress["list"][0] = step  # type: ignore[index]
            checkpoint.after_step(step)
        assert writing.is_set()
        assert not (tmp_path / "c").exists(), "nothing is committed before the record is synced"
        go_on.set()
        until(lambda: (tmp_path / "c" / "step-000000002").exists(), "the checkpoint of step 2")
        # Due at 4 and at 6, when the writer was busy: it is made up for as soon as it is free.
        step = 8
        while len(saved(tmp_path / "c")) < 2:
            step += 1
            set_everywhere(model, step)
            progress["step"] = step
            checkpoint.after_step(9 if step > 9 else step)
        assert saved(tmp_path / "c")[1] in {"step-000000008", "step-000000009"}
    second, progress = nn.Linear(3, 3), {}
    for name in saved(tmp_path / "c")[1:]:
        (tmp_path / "c" / name).rename(tmp_path / name)
    with checkpointer(tmp_path / "c", model=second, progress=progress) as checkpoint:
        assert checkpoint.restore() == 2
    assert progress == {"step": 2, "list": [2]}
    assert bool((second.weight == 2).all())


def test_by_steps(tmp_path: Path) -> None:
    config = CheckpointConfig(every_steps=5, every_minutes=0.0, keep_last=10)
    with checkpointer(tmp_path / "c", config=config, model=nn.Linear(1, 1)) as checkpoint:
        for step in range(1, 23):
            checkpoint.after_step(step)
            name = f"step-{step:09d}"
            if step % 5 == 0:
                until(lambda name=name: (tmp_path / "c" / name).exists(), name)  # type: ignore[misc]
    assert saved(tmp_path / "c") == [f"step-{step:09d}" for step in (5, 10, 15, 20)]


def test_by_time(tmp_path: Path) -> None:
    config = CheckpointConfig(every_minutes=0.2 / 60, keep_last=10)
    with checkpointer(tmp_path / "c", config=config, model=nn.Linear(1, 1)) as checkpoint:
        begun = time.monotonic()
        steps: list[float] = []
        while len(steps) < 3:
            checkpoint.after_step(len(steps) + 1)
            now = saved(tmp_path / "c") if (tmp_path / "c").exists() else []
            if len(now) > len(steps):
                steps.append(time.monotonic() - begun)
    assert all(after >= 0.2 * (number + 1) for number, after in enumerate(steps))


def test_neither_by_steps_nor_by_time(tmp_path: Path) -> None:
    with checkpointer(tmp_path / "c", config=BY_HAND, model=nn.Linear(1, 1)) as checkpoint:
        for step in range(1, 1000):
            checkpoint.after_step(step)
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("keep_best", "best", "kept"),
    [(1, "min", [3, 6, 7]), (1, "max", [2, 6, 7]), (0, "min", [6, 7])],
)
def test_the_last_and_the_best_stay(tmp_path: Path, keep_best: int, best: str, kept: list[int]) -> None:
    """Also over restarts, and whatever is not a number is not the best."""
    scores = {1: 5.0, 2: 8.0, 3: 1.0, 4: None, 5: float("nan"), 6: 4.0, 7: 4.0}
    config = CheckpointConfig(every_minutes=0.0, keep_last=2, keep_best=keep_best)
    for step, score in scores.items():
        with checkpointer(tmp_path / "c", config=config, best=best, model=nn.Linear(1, 1)) as checkpoint:
            assert checkpoint.restore() == step - 1
            checkpoint.save(step, score=score)
    assert saved(tmp_path / "c") == [f"step-{step:09d}" for step in kept]


def test_the_same_step_saved_again_replaces_it(tmp_path: Path) -> None:
    progress = {"part": 0}
    with checkpointer(tmp_path / "c", progress=progress) as checkpoint:
        for part in (1, 2, 3):
            progress["part"] = part
            checkpoint.save(7)
    assert saved(tmp_path / "c") == ["step-000000007.3"]
    restored: dict[str, int] = {}
    with checkpointer(tmp_path / "c", progress=restored) as checkpoint:
        assert checkpoint.restore() == 7
    assert restored == {"part": 3}


def test_without_an_address_each_run_has_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_STATE_DIR", str(tmp_path / "state"))
    with Checkpointer(StubRun("b" * 32), interruption=Interruption(), say=print, model=nn.Linear(1, 1)) as checkpoint:
        checkpoint.save(1)
    assert saved(tmp_path / "state/checkpoints" / ("b" * 32)) == ["step-000000001"]
    monkeypatch.setenv("TRAINYARD_CHECKPOINT_URI", str(tmp_path / "volume"))
    with Checkpointer(StubRun("b" * 32), interruption=Interruption(), say=print, model=nn.Linear(1, 1)) as checkpoint:
        checkpoint.save(2)
    assert saved(tmp_path / "volume" / ("b" * 32)) == ["step-000000002"]


def test_another_configuration_is_refused(tmp_path: Path) -> None:
    with checkpointer(tmp_path / "c", config_hash="sha256:one", model=nn.Linear(1, 1)) as checkpoint:
        checkpoint.save(4)
    with checkpointer(tmp_path / "c", config_hash="sha256:one", model=nn.Linear(1, 1)) as checkpoint:
        assert checkpoint.restore() == 4
    with (
        pytest.raises(
            ConfigError, match=r"was written with configuration sha256:one, and this training has sha256:two: .*delete"
        ),
        checkpointer(tmp_path / "c", config_hash="sha256:two", model=nn.Linear(1, 1)) as checkpoint,
    ):
        checkpoint.restore()


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ({"model": nn.Linear(5, 5)}, r"step 4 in .* does not fit `model`.*size mismatch.*start another run"),
        ({"model": nn.Linear(1, 1), "average": nn.Linear(1, 1)}, "step 4 in .* has no average"),
        ({"model": nn.Linear(1, 1), "progress": {}}, "step 4 in .* has no progress"),
    ],
)
def test_other_objects_are_refused(tmp_path: Path, objects: dict[str, Any], message: str) -> None:
    with checkpointer(tmp_path / "c", model=nn.Linear(1, 1)) as checkpoint:
        checkpoint.save(4)
    with pytest.raises(ConfigError, match=f"(?s){message}"), checkpointer(tmp_path / "c", **objects) as checkpoint:
        checkpoint.restore()


def test_what_is_no_place_for_checkpoints_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="gs://b/p: must be a directory or s3://BUCKET/PREFIX"):
        checkpointer("gs://b/p", model=nn.Linear(1, 1)).restore()
    (tmp_path / "file").write_text("")
    for uri in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(CheckpointError, match=f"{tmp_path}/file"):
            checkpointer(uri, model=nn.Linear(1, 1)).restore()


@pytest.mark.skipif(os.getuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_that_may_not_be_read_is_no_empty_folder(tmp_path: Path) -> None:
    """Training must not begin at the beginning because of it."""
    with checkpointer(tmp_path / "c", model=nn.Linear(1, 1)) as checkpoint:
        checkpoint.save(4)
    state = tmp_path / "c" / "step-000000004" / "state.pt"
    for forbidden in (tmp_path / "c", state.parent, state):
        mode = stat.S_IMODE(forbidden.stat().st_mode)
        forbidden.chmod(0)
        try:
            with pytest.raises(CheckpointError, match="Permission denied"):
                checkpointer(tmp_path / "c", model=nn.Linear(1, 1)).restore()
        finally:
            forbidden.chmod(mode)
    assert checkpointer(tmp_path / "c", model=nn.Linear(1, 1)).restore() == 4


def test_a_disk_that_takes_nothing_stops_no_training(tmp_path: Path) -> None:
    """A warning, another try when the next one is due, and an error only where somebody relies on it."""
    said = Lines()
    config = CheckpointConfig(every_steps=1, every_minutes=0.0)
    model = nn.Linear(500, 500)
    with checkpointer(tmp_path / "c", said.append, config=config, model=model) as checkpoint:
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, unlimited[1]))
        try:
            checkpoint.after_step(1)
            until(lambda: bool(said), "a warning")
            with pytest.raises(CheckpointError, match=r"checkpoint of step 2 could not be written: .*File too large"):
                checkpoint.save(2)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        (line,) = said
        assert line.startswith("checkpoint of step 1 could not be written: ")
        assert f"File too large; checkpoints are kept in {tmp_path}/c; training goes on" in line
        assert list((tmp_path / "c").iterdir()) == [], "nothing half-written stays"
        checkpoint.after_step(3)
        until(lambda: saved(tmp_path / "c") == ["step-000000003"], "the next one")


def test_a_record_that_cannot_be_synced_leaves_no_checkpoint(tmp_path: Path) -> None:
    """A resumed training does not repeat the steps before its checkpoint, so they must be recorded for good."""

    def fail() -> None:
        raise OSError("no sync today")

    with (
        pytest.raises(CheckpointError, match="no sync today"),
        checkpointer(tmp_path / "c", run=StubRun(sync=fail), model=nn.Linear(1, 1)) as checkpoint,
    ):
        checkpoint.save(1)
    assert not (tmp_path / "c").exists() or saved(tmp_path / "c") == []


@pytest.mark.skipif(os.getuid() == 0, reason="nothing is forbidden to root")
def test_what_cannot_be_removed_stops_no_training(tmp_path: Path) -> None:
    said = Lines()
    config = CheckpointConfig(every_minutes=0.0, keep_last=1, keep_best=0)
    with checkpointer(tmp_path / "c", said.append, config=config, model=nn.Linear(1, 1)) as checkpoint:
        checkpoint.save(1)
        (tmp_path / "c" / "step-000000001").chmod(0o500)
        checkpoint.save(2)
    assert len(said.about("step-000000001 could not be removed: ")) == 1
    for path in (tmp_path / "c").iterdir():
        path.chmod(0o700)
    with checkpointer(tmp_path / "c", model=nn.Linear(1, 1)) as checkpoint:
        assert checkpoint.restore() == 2


def test_sigterm_saves_and_leaves(tmp_path: Path, interruption: Interruption) -> None:
    said = Lines()
    model = nn.Linear(1, 1)
    with (
        pytest.raises(Preempted) as caught,
        checkpointer(tmp_path / "c", said.append, interruption=interruption, model=model) as checkpoint,
    ):
        for step in range(1, 100):
            if step == 5:
                os.kill(os.getpid(), signal.SIGTERM)
            set_everywhere(model, step)
            checkpoint.after_step(step)
    assert (caught.value.code, step) == (75, 5)
    assert said[-1:] == [f"checkpoint of step 5 is written to {tmp_path}/c; exit code 75: the same again goes on"]
    with checkpointer(tmp_path / "c", model=model) as checkpoint:
        assert checkpoint.restore() == 5
    assert bool((model.weight == 5).all())


def test_sigterm_waits_for_the_one_in_flight(tmp_path: Path, interruption: Interruption) -> None:
    """And writes its own, which is newer."""
    syncing = threading.Event()

    def sync() -> None:
        syncing.set()
        until(lambda: interruption.requested, "SIGTERM")

    config = CheckpointConfig(every_steps=1, every_minutes=0.0)
    run = StubRun(sync=sync)
    with (
        pytest.raises(Preempted),
        checkpointer(tmp_path / "c", run=run, config=config, interruption=interruption, model=nn.Linear(1, 1)) as point,
    ):
        point.after_step(1)
        assert syncing.wait(60)
        os.kill(os.getpid(), signal.SIGTERM)
        point.after_step(2)
    assert saved(tmp_path / "c") == ["step-000000001", "step-000000002"]


def test_sigterm_without_a_checkpoint_is_not_75(tmp_path: Path, interruption: Interruption) -> None:
    (tmp_path / "c").write_text("in the way")
    checkpoint = checkpointer(tmp_path / "c", interruption=interruption, model=nn.Linear(1, 1))
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(CheckpointError, match="checkpoint of step 1 could not be written") as caught:
        checkpoint.after_step(1)
    assert caught.value.exit_code == 1


def test_sigint_saves_nothing(tmp_path: Path, interruption: Interruption) -> None:
    checkpoint = checkpointer(tmp_path / "c", interruption=interruption, model=nn.Linear(1, 1))
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(Interrupted) as caught:
        checkpoint.after_step(1)
    assert caught.value.exit_code == 130
    assert not (tmp_path / "c").exists()


@pytest.fixture
def nobody_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A place in S3 whose server is away; with a real one: tests/unit/checkpoint_s3."""
    for name, value in {"ENDPOINT_URL": "http://127.0.0.1:9", "ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "s"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("TRAINYARD_STATE_DIR", str(tmp_path / "state"))
    return "s3://bucket/prefix"


def test_a_start_does_not_take_an_absent_store_for_the_beginning(
    nobody_answers: str, interruption: Interruption
) -> None:
    said = Lines()

    def say(line: str) -> None:
        said.append(line)
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        checkpointer(nobody_answers, say, interruption=interruption, model=nn.Linear(1, 1)).restore()
    assert len(said) == 1
    assert re.match("checkpoints in s3://bucket/prefix: the S3 server does not answer: .*; trying again", said[0])


def test_an_absent_store_is_given_up_when_the_next_checkpoint_is_due(nobody_answers: str) -> None:
    """And does not keep a training from ending."""
    said = Lines()
    config = CheckpointConfig(every_steps=1, every_minutes=0.0)
    with checkpointer(nobody_answers, said.append, config=config, model=nn.Linear(1, 1)) as checkpoint:
        checkpoint.after_step(1)

        def go_on() -> bool:
            checkpoint.after_step(2)
            return bool(said)

        until(go_on, "a warning")
    assert re.match("checkpoint of step 1 could not be written: .* the S3 server does not answer", said[0])
