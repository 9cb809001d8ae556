"""Checkpoints that are not whole: killed writers, lost files, flipped bits."""

import hashlib
import json
import multiprocessing
import random
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest
import torch
from torch import nn
from trainyard.checkpoint import CheckpointError

from tests.unit.trainer.checkpoints import (
    Lines,
    checkpointer,
    restored_whole,
    save_for_ever,
    saved,
    set_everywhere,
)

_ROUNDS = 40


def two_checkpoints(uri: Path) -> Path:
    """Of steps 10 and 20; returns the folder of the newer one."""
    model = nn.Linear(100, 100)
    with checkpointer(uri, model=model) as checkpoint:
        for step in (10, 20):
            set_everywhere(model, step)
            checkpoint.save(step)
    return uri / "step-000000020"


def truncate(member: str, share: float) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = (folder / member).read_bytes()
        (folder / member).write_bytes(content[: min(int(len(content) * share), len(content) - 1)])

    return damage


def flip(member: str, share: float) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = bytearray((folder / member).read_bytes())
        content[int(len(content) * share)] ^= 4
        (folder / member).write_bytes(content)

    return damage


def remove(member: str) -> Callable[[Path], None]:
    return lambda folder: (folder / member).unlink()


def write(content: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / "manifest.json").write_text(content)

    return damage


def as_if_of_another_configuration(folder: Path) -> None:
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace('"config_hash": null', '"config_hash": "x"'))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        *((truncate("state.pt", share), r"state\.pt has \d+ of \d+ bytes") for share in (0, 0.001, 0.5, 1)),
        *((flip("state.pt", share), r"state\.pt has been changed since it was written") for share in (0, 0.5, 0.999)),
        (remove("state.pt"), r"state\.pt is missing"),
        (remove("manifest.json"), r"manifest\.json is missing"),
        (write(""), r"manifest\.json is no manifest"),
        (write("\x00\x00"), r"manifest\.json is no manifest"),
        (write("[]"), r"manifest\.json is no manifest"),
        (write("{}"), r"manifest\.json is no manifest"),
        (truncate("manifest.json", 0.5), r"manifest\.json is no manifest"),
        (as_if_of_another_configuration, r"manifest\.json has been changed since it was written"),
    ],
)
def test_a_damaged_one_is_skipped(tmp_path: Path, damage: Callable[[Path], None], reason: str) -> None:
    folder = two_checkpoints(tmp_path / "c")
    damage(folder)
    said = Lines()
    model = nn.Linear(100, 100)
    with checkpointer(tmp_path / "c", said.append, config_hash="y", model=model) as checkpoint:
        assert checkpoint.restore() == 10
        assert bool((model.weight == 10).all())
        (line,) = said.about("is skipped, since")
        assert line.startswith(f"checkpoint {folder} is skipped, since ")
        assert line.endswith("; step-000000010 is used instead")
        assert re.search(reason, line)
        # It is in nobody's way.
        set_everywhere(model, 20)
        checkpoint.save(20)
    assert saved(tmp_path / "c") == ["step-000000010", "step-000000020.2"]
    with checkpointer(tmp_path / "c", said.append, model=model) as checkpoint:
        assert checkpoint.restore() == 20
    assert len(said.about("is skipped, since")) == 1


def test_with_nothing_whole_training_begins_at_the_beginning(tmp_path: Path) -> None:
    two_checkpoints(tmp_path / "c")
    for path in (tmp_path / "c").rglob("state.pt"):
        truncate("state.pt", 0.5)(path.parent)
    said = Lines()
    with checkpointer(tmp_path / "c", said.append, model=nn.Linear(100, 100)) as checkpoint:
        assert checkpoint.restore() == 0
    assert len(said) == 2
    assert all(line.endswith("there is no other one: training begins at the beginning") for line in said)


def test_one_of_a_later_format_is_not_skipped(tmp_path: Path) -> None:
    """An older checkpoint would silently undo what a newer trainyard did."""
    folder = two_checkpoints(tmp_path / "c")
    fields = json.loads((folder / "manifest.json").read_text())
    fields["format"] = 2
    del fields["sha256"]
    checksum = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps({**fields, "sha256": checksum}))
    with pytest.raises(CheckpointError, match="step-000000020 is of another format: use the trainyard that wrote it"):
        checkpointer(tmp_path / "c", model=nn.Linear(100, 100)).restore()


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    two_checkpoints(tmp_path / "c")
    for name in ("notes.txt", ".hidden", "step-7", "step-000000030.old"):
        (tmp_path / "c" / name).mkdir()
    said = Lines()
    with checkpointer(tmp_path / "c", said.append, model=nn.Linear(100, 100)) as checkpoint:
        assert checkpoint.restore() == 20
    assert len(said) == 1, said
    assert len(list((tmp_path / "c").iterdir())) == 6


def test_sigkill_at_any_moment(tmp_path: Path) -> None:
    """What was durable is there, whole, whatever else was going on; and nothing is left lying about."""
    seed = random.randrange(10**9)
    print(f"seed {seed}")
    dice = random.Random(seed)
    uri, journal = tmp_path / "c", tmp_path / "journal"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.unit.trainer.checkpoints"])
    weights, progress = nn.Linear(512, 512), {"step": 0}
    for _ in range(_ROUNDS):
        before = journal.read_text() if journal.exists() else "0"
        writer = context.Process(target=save_for_ever, args=(uri, journal))
        writer.start()
        deadline = time.monotonic() + 60
        while (journal.read_text() if journal.exists() else "0") in ("", before):
            assert writer.is_alive() and time.monotonic() < deadline, "the writer does not write"
            time.sleep(0.001)
        time.sleep(dice.uniform(0, 0.06))
        writer.kill()
        writer.join()
        durable = int(journal.read_text() or 0)
        checkpoint = checkpointer(uri, weights=weights, progress=progress)
        assert restored_whole(checkpoint, weights, progress) >= durable
        assert [path for path in uri.iterdir() if path.name.startswith(".")] == []
        assert len(saved(uri)) <= 3


def test_a_living_writer_is_no_leftover(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two processes one may look at the folder while the other one writes."""
    said = Lines()

    def look() -> None:
        with checkpointer(tmp_path / "c", said.append, other={}) as checkpoint:
            assert checkpoint.restore() == 0
        assert [path.name for path in (tmp_path / "c").iterdir() if path.name.startswith(".step-000000001.")]

    save = torch.save

    def save_and_look(state: object, file: IO[bytes]) -> None:
        save(state, file)
        look()

    monkeypatch.setattr(torch, "save", save_and_look)
    with checkpointer(tmp_path / "c", model=nn.Linear(1, 1)) as checkpoint:
        checkpoint.save(1)
    assert saved(tmp_path / "c") == ["step-000000001"]
