"""Runs in W&B: the real library against a server on this machine that remembers what it was sent."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trainyard
from trainyard.shipping.backend import Retry, Unusable
from trainyard.shipping.wandb import WandbBackend
from trainyard.shipping.wandb.transaction_log import TransactionLog
from trainyard.spool.records import Artifact, End, EndStatus, Metrics, Model, Params, Record, Start, Tags

from tests.kind.wandb_server.server import Server

UID = "0123456789abcdef0123456789abcdef"
KILLED_ROWS = 200


class Kept:
    """A cursor in memory."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}
        self.warnings: list[str] = []

        self.durable = "{}"

    def save(self) -> None:
        self.durable = json.dumps(self.state)

    def crash(self) -> None:
        self.state = json.loads(self.durable)

    def warn(self, text: str) -> None:
        self.warnings.append(text)


class Shipped:
    """A spool's folder, and a backend that gets its records."""

    def __init__(self, folder: Path, server: Server, **environment: str) -> None:
        self.spool = folder / "state" / "spool" / UID
        (self.spool / "artifacts").mkdir(parents=True)
        self.wandb = folder / "state" / "wandb"
        self.server = server
        self.cursor = Kept()
        self.environment = {
            **{name: text for name, text in os.environ.items() if not name.startswith("WANDB_")},
            "WANDB_MODE": "online",
            "WANDB_BASE_URL": server.store.public_url,
            "WANDB_API_KEY": server.store.key,
            "WANDB_FINISH_TIMEOUT": "10",
            **environment,
        }
        self.backend = WandbBackend(self.environment, patience_s=1.0)

    def open(self, **fields: Any) -> None:
        known: dict[str, Any] = {"name": "calm-run", "experiment": "digits", "tags": {"team": "vision"}}
        self.start = Start(uid=UID, time_ms=1000, backends=("wandb",), **{**known, **fields})
        self.backend.open(self.start, self.spool, self.cursor)

    def deliver(self, *records: Record) -> None:
        self.backend.deliver(records)

    def finish(self, status: EndStatus = "FINISHED", reason: str = "finished") -> None:
        self.backend.finish(End(status=status, reason=reason, time_ms=2000))

    def artifact(self, name: str, text: str) -> None:
        """Delivered from a copy that is deleted at once, as the shipper does."""
        copy = self.spool / "artifacts" / "1-copy"
        copy.write_text(text)
        self.deliver(Artifact(name, "artifacts/1-copy"))
        copy.unlink()

    @property
    def run(self) -> dict[str, Any]:
        (run,) = self.server.store.as_json()["runs"].values()
        return dict(run)

    @property
    def values(self) -> list[tuple[int, float]]:
        """Our step and the loss, in the order of the history."""
        return [(row["trainyard/step"], row["loss"]) for row in self.run["history"]]


@pytest.fixture
def server(wandb_server: Server) -> Server:
    return wandb_server


@pytest.fixture
def shipped(tmp_path: Path, server: Server) -> Iterator[Shipped]:
    shipped = Shipped(tmp_path, server)
    yield shipped
    shipped.backend.close()


def losses(first: int, last: int) -> list[Metrics]:
    return [Metrics(step, 1_700_000_000_000 + 1000 * step, (("loss", 1.0 + step),)) for step in range(first, last)]


def model(folder: Path) -> Model:
    (folder / "artifacts/model/data").mkdir(parents=True)
    (folder / "artifacts/model/MLmodel").write_text("flavors: {}")
    (folder / "artifacts/model/data/weights").write_bytes(b"w" * 1000)
    return Model(name="best model", folder="artifacts/model", step=7, alias="challenger")


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_a_run_arrives_whole(shipped: Shipped) -> None:
    shipped.open()
    shipped.deliver(
        Params({"lr": "0.1", "layers": "3", "bias": "True", "version": "1.10"}),
        *losses(100, 120),
        Tags({"team": "audio"}),
    )
    shipped.deliver(Metrics(3, 1_700_000_999_000, (("loss", 0.5), ("val/accuracy", 0.9))))  # a step that goes back
    shipped.artifact("plots/loss.txt", "first")
    shipped.artifact("plots/loss.txt", "second")
    shipped.deliver(model(shipped.spool))
    shipped.finish()

    run = shipped.run
    assert (run["project"], run["name"], run["display_name"]) == ("digits", UID, "calm-run")
    assert shipped.values == [*((step, 1.0 + step) for step in range(100, 120)), (3, 0.5)]
    assert [row["_step"] for row in run["history"]] == list(range(21))
    assert [row["_timestamp"] for row in run["history"]] == [
        *(1_700_000_000 + step for step in range(100, 120)),
        1_700_000_999,
    ]
    assert {key: run["config"][key]["value"] for key in ("lr", "layers", "bias", "version")} == {
        "lr": 0.1,
        "layers": 3,
        "bias": True,
        "version": "1.10",
    }
    assert run["config"]["trainyard"]["value"] == {
        "experiment": "digits",
        "uid": UID,
        "tags": {"team": "audio", "trainyard.end_reason": "finished"},
    }
    assert (run["summary"]["loss"], run["summary"]["val/accuracy"]) == (0.5, 0.9)
    assert {"1": "trainyard/step", "6": [3, 2], "7": []} in run["config"]["_wandb"]["value"][
        "m"
    ]  # the x axis of all charts
    assert run["files"]["plots/loss.txt"]["sha256"] == sha256("second")
    assert (run["state"], run["exit_code"]) == ("finished", 0)
    assert (run["output"], run["system_metrics"]) == ([], 0)

    (stored,) = shipped.server.store.as_json()["artifacts"]
    assert (stored["collection"], stored["type"], stored["state"]) == ("best-model", "model", "COMMITTED")
    assert sorted(stored["aliases"]) == ["challenger", "latest", "step-7"]
    assert stored["files"]["data/weights"] == {"size": 1000, "sha256": sha256("w" * 1000)}
    assert not list(shipped.wandb.glob("run-*")), "an uploaded run takes no disk"


def test_a_trial_of_a_sweep_is_the_run_that_wandb_has_chosen(shipped: Shipped) -> None:
    settings = {"WANDB_RUN_ID": "abcd1234", "WANDB_SWEEP_ID": "sweep123", "WANDB_ENTITY": "standin"}
    told = {**settings, "WANDB_PROJECT": "searches", "TRAINYARD_PARAMETERS": '{"lr": 0.1, "x": 0.7}'}
    shipped.open(settings=told)
    shipped.deliver(Params({"lr": "0.2"}), *losses(0, 5))
    shipped.finish("SCHEDULED", "preempted")
    assert (shipped.run["state"], shipped.run["sweep"]) == ("preempted", "sweep123")

    shipped.cursor = Kept()
    shipped.open(settings=told)
    shipped.deliver(*losses(5, 8))
    shipped.finish("KILLED", "pruned")
    run = shipped.run
    assert (run["entity"], run["project"], run["name"]) == ("standin", "searches", "abcd1234")
    assert shipped.values == [(step, 1.0 + step) for step in range(8)]
    assert run["config"]["x"]["value"] == 0.7
    assert run["config"]["trainyard"]["value"]["tags"]["trainyard.end_reason"] == "pruned"
    assert (run["state"], run["exit_code"]) == ("finished", 0)


@pytest.mark.parametrize("asked", [True, False])
def test_a_run_that_was_stopped_is_killed_where_wandb_asked_for_it(shipped: Shipped, asked: bool) -> None:
    shipped.open()
    shipped.deliver(*losses(0, 2))
    (run,) = shipped.server.store.runs.values()
    run.stop_asked = asked
    shipped.finish("KILLED", "stopped")
    assert shipped.run["state"] == ("killed" if asked else "failed")


def test_a_run_that_somebody_else_ends_stays_open(shipped: Shipped) -> None:
    shipped.open(owner=False)
    shipped.deliver(*losses(0, 3))
    shipped.finish()
    assert (shipped.run["state"], shipped.values[-1]) == ("running", (2, 3.0))


def test_a_run_goes_on_after_a_crash_and_in_a_new_pod(shipped: Shipped) -> None:
    shipped.open()
    shipped.deliver(*losses(0, 10))
    assert len(shipped.values) == 10, "delivered is what the server has, not what the library took"
    shipped.backend.close()

    # The shipper was killed before it moved the cursor: the records come again.
    shipped.cursor.crash()
    shipped.open()
    shipped.deliver(*losses(0, 15))
    shipped.finish("SCHEDULED", "preempted")
    assert (shipped.run["state"], shipped.run["exit_code"]) == ("preempted", 75)

    # A new pod: no cursor and other records.
    shipped.cursor = Kept()
    shipped.open()
    shipped.deliver(*losses(15, 18))
    shipped.finish()
    assert shipped.values == [(step, 1.0 + step) for step in range(18)]
    assert shipped.run["state"] == "finished"
    assert shipped.run["rewritten_lines"] == 0


def test_what_wandb_keeps_for_itself_is_named_and_the_rest_arrives(shipped: Shipped) -> None:
    shipped.open()
    shipped.deliver(Params({"trainyard": "x", "lr": "1"}), Metrics(1, 1000, (("_step", 9.0), ("loss", float("nan")))))
    shipped.artifact("config.yaml", "mine")
    shipped.finish("KILLED", "interrupted")
    assert (shipped.run["state"], shipped.run["exit_code"]) == ("failed", 130)
    (row,) = shipped.run["history"]
    assert (row["_step"], str(row["loss"])) == (0, "nan")
    assert shipped.run["config"]["lr"]["value"] == 1
    assert shipped.run["files"]["trainyard/config.yaml"]["sha256"] == sha256("mine")
    assert [warning.split(" is ")[0] for warning in shipped.cursor.warnings] == [
        "parameter 'trainyard'",
        "metric '_step' at step 1",
        "artifact 'config.yaml'",
    ]


def test_an_outage_is_waited_for(shipped: Shipped) -> None:
    shipped.open()
    shipped.deliver(*losses(0, 3))
    shipped.artifact("a.txt", "text")
    shipped.server.store.outage = 503
    with pytest.raises(Retry, match="answers HTTP 503"):
        shipped.deliver(*losses(3, 6))
    shipped.backend.close()
    with pytest.raises(Retry, match="answers HTTP 503"):
        shipped.open()

    shipped.server.store.outage = 0
    shipped.open()
    shipped.deliver(*losses(3, 6))
    shipped.finish("FAILED", "failed")
    assert shipped.values == [(step, 1.0 + step) for step in range(6)]
    assert (shipped.run["state"], shipped.run["exit_code"]) == ("failed", 1)
    assert shipped.run["config"]["trainyard"]["value"]["tags"]["trainyard.end_reason"] == "failed"
    assert shipped.run["files"]["a.txt"]["sha256"] == sha256("text")


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        (
            {"WANDB_API_KEY": "local-" + "f" * 40},
            "refuses the key (HTTP 401): WANDB_API_KEY must be a key of that server",
        ),
        ({"WANDB_API_KEY": ""}, "WANDB_API_KEY is not set"),
        ({"WANDB_PROJECT": "vision/digits"}, "WANDB_PROJECT is 'vision/digits': W&B takes no /"),
        ({"WANDB_MODE": "on"}, "WANDB_MODE is 'on': use online, offline or disabled"),
        ({"WANDB_BASE_URL": "wandb:8080"}, "WANDB_BASE_URL is 'wandb:8080'"),
        ({"WANDB_FINISH_TIMEOUT": "never"}, "WANDB_FINISH_TIMEOUT is 'never'"),
    ],
)
def test_what_somebody_must_correct_is_named(
    tmp_path: Path, server: Server, environment: dict[str, str], said: str
) -> None:
    with pytest.raises(Unusable) as raised:
        Shipped(tmp_path, server, **environment).open()
    assert said in str(raised.value)
    assert not environment.get("WANDB_API_KEY") or environment["WANDB_API_KEY"] not in str(raised.value)


def test_a_server_that_is_not_there_is_tried_again(tmp_path: Path, server: Server) -> None:
    with pytest.raises(Retry, match=r"http://127\.0\.0\.1:9 cannot be reached") as raised:
        Shipped(tmp_path, server, WANDB_BASE_URL="http://127.0.0.1:9").open()
    assert not isinstance(raised.value, Unusable)


def test_the_library_is_somewhere_else(shipped: Shipped, capfd: pytest.CaptureFixture[str]) -> None:
    """The training process keeps its environment and its own wandb, prints nothing, and need not wait for a call that hangs."""
    before = dict(os.environ)
    shipped.open()
    shipped.deliver(*losses(0, 1))
    assert "wandb" not in sys.modules
    assert dict(os.environ) == before

    (worker,) = workers()
    os.kill(worker, signal.SIGSTOP)
    began = time.monotonic()
    shipped.backend.close()
    assert time.monotonic() - began < 5
    assert workers() == []

    written = [path for path in shipped.wandb.rglob("*") if path.is_file()]
    key = shipped.server.store.key
    assert any(path.suffix == ".log" for path in written)
    assert [path for path in written if key.encode() in path.read_bytes()] == []
    assert key not in json.dumps(shipped.cursor.state)
    assert capfd.readouterr() == ("", "")


def test_offline_is_the_default_and_needs_no_server(tmp_path: Path, server: Server) -> None:
    shipped = Shipped(tmp_path, server, WANDB_MODE="", WANDB_API_KEY="")
    shipped.open()
    shipped.deliver(Params({"lr": "0.1"}), *losses(0, 30))
    shipped.backend.close()  # killed at once: what was delivered is on disk
    shipped.open()
    shipped.artifact("plots/loss.txt", "text")
    shipped.deliver(model(shipped.spool))
    shipped.finish()
    assert server.store.as_json()["operations"] == {}
    before, folder = sorted(shipped.wandb.glob("offline-run-*"))
    assert (folder / "files/plots/loss.txt").read_text() == "text"
    assert (folder / "files/models/best model/data/weights").stat().st_size == 1000

    run = synced(shipped, before, folder)
    assert [(row["trainyard/step"], row["loss"]) for row in run["history"]] == [
        (step, 1.0 + step) for step in range(30)
    ]
    assert (run["config"]["lr"]["value"], run["state"]) == (0.1, "finished")
    assert run["files"]["plots/loss.txt"]["sha256"] == sha256("text")


@pytest.mark.parametrize(("mode", "kills"), [("online", 2), ("offline", 1)])
def test_a_shipper_that_is_killed_anywhere_loses_and_doubles_nothing(
    tmp_path: Path, server: Server, mode: str, kills: int
) -> None:
    shipped = Shipped(tmp_path, server, WANDB_MODE=mode)
    dice = random.Random(os.environ.get("TEST_SEED", mode))
    for life_s in [*(dice.uniform(1.0, 4.0) for _ in range(kills)), 60.0]:
        process = subprocess.Popen(
            [sys.executable, __file__, str(shipped.spool)],
            env={
                **shipped.environment,
                "PYTHONPATH": os.pathsep.join([str(Path(trainyard.__file__).parents[1]), *sys.path]),
            },
        )
        try:
            assert process.wait(life_s) == 0
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    else:
        pytest.fail("not delivered within 60 s")
    run = shipped.run if mode == "online" else synced(shipped, *shipped.wandb.glob("offline-run-*"))
    assert [row["loss"] for row in run["history"]] == [1.0 + step for step in range(KILLED_ROWS)]
    assert [row["_step"] for row in run["history"]] == list(range(KILLED_ROWS))
    assert run["rewritten_lines"] == 0
    assert run["state"] == "finished"


def test_an_unfinished_record_at_the_end_of_a_log_is_cut_off(tmp_path: Path, server: Server) -> None:
    shipped = Shipped(tmp_path, server, WANDB_MODE="offline")
    shipped.open()
    shipped.deliver(*losses(0, 3000))  # several blocks
    shipped.backend.close()
    (path,) = shipped.wandb.glob("offline-run-*/*.wandb")
    whole = len(list(TransactionLog(path).new_records()))
    assert whole > 3000
    with path.open("ab") as file:
        file.write(b"\x12\x34\x56\x78\x40\x00\x01half")
    log = TransactionLog(path)
    assert len(list(log.new_records())) == whole
    log.cut_off_rest()
    assert not path.read_bytes().endswith(b"half")


def synced(shipped: Shipped, *folders: Path) -> dict[str, Any]:
    """The run at the server after `wandb sync`."""
    environment = {**shipped.environment, "WANDB_API_KEY": shipped.server.store.key, "WANDB_MODE": "online"}
    elsewhere = {f"WANDB_{name}_DIR": str(shipped.wandb / name) for name in ("CACHE", "CONFIG", "DATA")}
    command = [sys.executable, "-m", "wandb", "sync", *map(str, sorted(folders))]
    done = subprocess.run(
        command,
        env={**environment, **elsewhere, "WANDB_DIR": str(shipped.wandb), "WANDB_ERROR_REPORTING": "false"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return shipped.run


def workers() -> list[int]:
    """Processes of this one that hold the library."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            command = stat.with_name("cmdline").read_bytes()
        except OSError:  # ended meanwhile
            continue
        if parent == os.getpid() and b"trainyard.shipping.wandb.worker" in command:
            found.append(int(stat.parent.name))
    return found


class Cursor:
    """A cursor in a file, for the process that is killed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        stored: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"next": 0, "state": {}}
        self.next: int = stored["next"]
        self.state: dict[str, Any] = stored["state"]

    def save(self) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps({"next": self.next, "state": self.state}))
        new.replace(self.path)

    def warn(self, text: str) -> None:
        raise AssertionError(text)


def ship(spool: Path) -> None:
    """What is killed: deliver the same rows as ever, from where the cursor stands."""
    cursor = Cursor(spool / "cursor.json")
    backend = WandbBackend()
    backend.open(Start(uid=UID, name="n", experiment="e", tags={}, time_ms=1, backends=("wandb",)), spool, cursor)
    while cursor.next < KILLED_ROWS:
        last = min(cursor.next + random.choice([5, 50, 100]), KILLED_ROWS)
        backend.deliver(losses(cursor.next, last))
        cursor.next = last
        cursor.save()
    backend.finish(End(status="FINISHED", reason="finished", time_ms=1))


if __name__ == "__main__":
    ship(Path(sys.argv[1]))
