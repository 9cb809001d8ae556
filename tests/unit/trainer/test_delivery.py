"""Delivery to MLflow when things go wrong: outages, refusals, lost answers, deadlines."""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from trainyard.shipping.delivery import Deadline
from trainyard.shipping.shipper import Shipment, Shipper
from trainyard.spool.folder import SpoolFolder
from trainyard.spool.records import Artifact, Model, Params, Start, Tags
from trainyard.spool.writer import SpoolWriter

from tests.unit.trainer.conftest import Laptop
from tests.unit.trainer.spools import DONE, abandon, start, write
from tests.unit.trainer.stub_mlflow import Answer, StubMlflow, refusal, serving

DOWN = (503, "text/plain", "down")


@pytest.fixture
def stub() -> Iterator[StubMlflow]:
    with serving(StubMlflow()) as server:
        yield server


def begin(stub: StubMlflow, *backends: str, **fields: Any) -> Start:
    return start(*(backends or ("mlflow",)), settings={"MLFLOW_TRACKING_URI": stub.uri}, **fields)


def ended(parent: Path, begin: Start, *, count: int = 3) -> SpoolWriter:
    """A spool with `count` points whose run has ended well."""
    writer = write(parent, begin)
    for step in range(count):
        writer.metrics({"loss": step}, step=step)
    writer.end(DONE, {})
    return writer


def ship(folder: SpoolFolder, *, within_s: float = 30) -> tuple[Shipment, list[str]]:
    said: list[str] = []
    deadline = Deadline()
    deadline.expire_in(within_s)
    return Shipper(folder, deadline=deadline, say=said.append).run(), said


def test_a_run_arrives(stub: StubMlflow, tmp_path: Path) -> None:
    writer = write(tmp_path, begin(stub, tags={"team": "a"}))
    writer.append(Params({"lr": "0.1"}))
    for step in range(2500):
        writer.metrics({"loss": step}, step=step)
    writer.append(Tags({"phase": "2"}))
    (tmp_path / "empty").write_bytes(b"")
    writer.append(Artifact("a dir/ä.txt", writer.stage(tmp_path / "empty")))
    writer.end(DONE, {})
    shipment, said = ship(writer.folder)
    assert shipment == Shipment(complete=True, undelivered={})
    assert stub.points == [("loss", step, step) for step in range(2500)]
    assert stub.params == {"lr": "0.1"}
    assert stub.tags == {"phase": "2", "trainyard.end_reason": "finished"}
    assert stub.files == {"1/run0/artifacts/a%20dir/%C3%A4.txt": b""}
    (run,) = stub.runs.values()
    assert (run["status"], run["tags"]["team"]) == ("FINISHED", "a")
    assert said == ["mlflow: run n is complete there: 2500 points"]


def test_nan_and_infinities_are_written_as_protobuf_has_them(stub: StubMlflow, tmp_path: Path) -> None:
    writer = write(tmp_path, begin(stub))
    writer.metrics({"a": float("nan"), "b": float("inf"), "c": float("-inf")}, step=1)
    writer.end(DONE, {})
    ship(writer.folder)
    assert stub.points == [("a", 1, "NaN"), ("b", 1, "Infinity"), ("c", 1, "-Infinity")]


def test_an_outage_is_waited_for(stub: StubMlflow, tmp_path: Path) -> None:
    answers = iter([DOWN, DOWN, None, None, None, DOWN, (400, "text/plain", "QueuePool limit of size 5 reached"), None])
    stub.fail = lambda _path, _body: next(answers, None)
    writer = ended(tmp_path, begin(stub))
    shipment, said = ship(writer.folder)
    assert shipment.complete
    assert sorted(stub.points) == [("loss", step, step) for step in range(3)]
    assert f"MLflow at {stub.uri} answers 503" in said[0]
    assert "the record waits in" in said[0]
    assert any("takes records again after" in line for line in said)
    assert len(stub.runs) == 1


def test_nobody_is_asked_too_often(stub: StubMlflow, tmp_path: Path) -> None:
    stub.fail = lambda _path, _body: DOWN
    ship(ended(tmp_path, begin(stub)).folder, within_s=4)
    assert 2 <= sum(stub.calls.values()) <= 6


def test_what_is_missing_at_the_deadline_stays_and_is_named(stub: StubMlflow, tmp_path: Path) -> None:
    stub.fail = lambda path, _body: DOWN if "log-batch" in path else None
    writer = ended(tmp_path, begin(stub))
    shipment, said = ship(writer.folder, within_s=1)
    assert not shipment.complete
    assert "answers 503" in shipment.undelivered["mlflow"]
    assert any("run n is incomplete there" in line for line in said)
    assert f"{writer.folder.path}; `trainyard spool ship` delivers it" in said[-1]
    stub.fail = lambda _path, _body: None
    assert ship(writer.folder)[0].complete
    assert stub.points == [("loss", step, step) for step in range(3)]
    assert len(stub.runs) == 1


@pytest.mark.parametrize("path", ["runs/create", "runs/log-batch", "runs/update", "experiments/create"])
def test_a_lost_answer_does_no_harm(stub: StubMlflow, tmp_path: Path, path: str) -> None:
    stub.lose_answer_to = path
    assert ship(ended(tmp_path, begin(stub)).folder)[0].complete
    assert len(stub.runs) == 1
    assert set(stub.points) == {("loss", step, step) for step in range(3)}
    assert next(iter(stub.runs.values()))["status"] == "FINISHED"


def test_a_create_that_is_carried_out_late_leaves_no_second_run(stub: StubMlflow, tmp_path: Path) -> None:
    writer = ended(tmp_path, begin(stub))

    def late(path: str, body: Any) -> None:
        if path.endswith("log-batch") and body["metrics"]:
            (run,) = stub.runs.values()
            stub.runs["late"] = {**run, "info": {**run["info"], "run_id": "late"}}

    stub.fail = late
    assert ship(writer.folder)[0].complete
    assert list(stub.runs) == ["run0"]


def test_a_clean_up_that_was_cut_short_is_finished(stub: StubMlflow, tmp_path: Path) -> None:
    writer = ended(tmp_path / "spool", begin(stub))
    segment = writer.folder.segment(1).read_bytes()
    assert ship(writer.folder)[0].complete
    writer.folder.segment(1).write_bytes(segment)
    writer.folder.artifacts.mkdir()
    assert Laptop(tmp_path).command("spool", "ship", ".").code == 0
    assert sorted(path.name for path in writer.folder.path.iterdir()) == [
        "cursors", "shipped.json", "shipper.lock", "start.json", "writer.lock"
    ]  # fmt: skip


def test_a_missing_sidecar_is_told(laptop: Laptop, stub: StubMlflow) -> None:
    ended = laptop.script(
        TestScript.TEXT, MLFLOW_TRACKING_URI=stub.uri, TRAINYARD_SHIPPER="sidecar", TRAINYARD_SHIP_DEADLINE_S="1"
    )
    assert ended.code == 1
    assert "nobody delivers it: does the container with `trainyard spool ship --follow` run?" in ended.stderr


def test_summaries_are_forgotten_after_a_week(stub: StubMlflow, tmp_path: Path) -> None:
    old, new, waiting = (ended(tmp_path / "spool", begin(stub)).folder for _ in range(3))
    for folder in (old, new):
        ship(folder)
    week_ago = time.time() - 8 * 86400
    os.utime(old.shipped, (week_ago, week_ago))
    os.utime(waiting.path / "start.json", (week_ago, week_ago))
    assert Laptop(tmp_path).command("spool", "ship", ".").code == 0
    assert {folder.name for folder in (tmp_path / "spool").iterdir()} == {new.uid, waiting.uid}
    assert len(stub.points) == 9


def test_waiting_for_a_slow_backend_takes_no_cpu(stub: StubMlflow, tmp_path: Path) -> None:
    stub.fail = lambda _path, _body: DOWN
    writer = ended(tmp_path / "spool", begin(stub, "json", "mlflow"))
    before = time.process_time()
    ship(writer.folder, within_s=4)
    assert time.process_time() - before < 1, "one backend is done, and the other one waits"


def test_other_nodes_deliver_what_their_own_pod_wrote(stub: StubMlflow, tmp_path: Path) -> None:
    for pod in ("job-0", "job-1"):
        ended(tmp_path / "spool", begin(stub, tags={"trainyard.pod_name": pod}))
    sidecar = Laptop(tmp_path).python(
        "-m", "trainyard", "spool", "ship", ".", "--follow", JOB_COMPLETION_INDEX="1", TRAINYARD_POD_NAME="job-1"
    )
    assert sidecar.stdout is not None
    assert "delivering" in sidecar.stdout.readline()
    sidecar.terminate()
    sidecar.communicate(timeout=60)
    assert [run["tags"]["trainyard.pod_name"] for run in stub.runs.values()] == ["job-1"]


def test_the_first_node_delivers_what_pods_have_left_and_not_what_they_still_write(
    stub: StubMlflow, tmp_path: Path
) -> None:
    ended(tmp_path / "spool", begin(stub, tags={"trainyard.pod_name": "gone"}))
    begun = write(tmp_path / "spool", begin(stub, tags={"trainyard.pod_name": "alive"}))
    assert begun.folder.writer_alive()
    sidecar = Laptop(tmp_path).python(
        "-m", "trainyard", "spool", "ship", ".", "--follow",
        JOB_COMPLETION_INDEX="0", TRAINYARD_POD_NAME="mine", TRAINYARD_SHIP_GRACE_S="60",
    )  # fmt: skip
    assert sidecar.stdout is not None
    assert "delivering" in sidecar.stdout.readline()
    sidecar.terminate()
    sidecar.communicate(timeout=30)
    assert sidecar.returncode == 0, "it does not wait for what another pod delivers"
    assert [run["tags"]["trainyard.pod_name"] for run in stub.runs.values()] == ["gone"]


MODEL_CALLS = (
    "logged-models/search",
    "logged-models",
    "artifacts/MLmodel",
    "artifacts/data/weights.bin",
    "logged-models/m-0",
    "runs/outputs",
    "registered-models/create",
    "model-versions/search",
    "model-versions/create",
    "registered-models/alias",
)


@pytest.mark.parametrize("lost", ["", *MODEL_CALLS])
def test_a_model_arrives_once_whichever_answer_is_lost(stub: StubMlflow, tmp_path: Path, lost: str) -> None:
    model = tmp_path / "model"
    (model / "data").mkdir(parents=True)
    (model / "MLmodel").write_text("flavors:\n  x: {}\nmodel_id: null\nrun_id: of-another-place\n")
    (model / "data/weights.bin").write_bytes(os.urandom(1000))
    writer = write(tmp_path / "spool", begin(stub))
    writer.append(Model(name="best", folder=writer.stage(model), step=7, register="digits", alias="challenger"))
    writer.end(DONE, {})
    stub.lose_answer_to = lost
    shipment, said = ship(writer.folder)
    assert shipment.complete
    assert not stub.lose_answer_to, "the call was made"
    (known,) = stub.models.values()
    assert known["status"] == "LOGGED_MODEL_READY"
    assert stub.outputs == {"m-0"}
    assert stub.registered == {"digits": ["m-0"]}
    assert stub.aliases == {("digits", "challenger"): "1"}
    files = {path.removeprefix("1/models/m-0/artifacts/"): content for path, content in stub.files.items()}
    assert files.keys() == {"MLmodel", "data/weights.bin"}
    assert files["data/weights.bin"] == (model / "data/weights.bin").read_bytes()
    assert files["MLmodel"].decode().splitlines()[-3:] == [
        "artifact_path: mlflow-artifacts:/1/models/m-0/artifacts", "model_id: m-0", "run_id: run0"
    ]  # fmt: skip
    assert not [line for line in said if "refused" in line or "could not" in line]


def test_one_refused_item_is_named_and_the_rest_arrives(stub: StubMlflow, tmp_path: Path) -> None:
    def refuse(path: str, body: Any) -> Answer | None:
        if "log-batch" not in path:
            return None
        bad = any(each["key"] == "loss" and each["step"] == 777 for each in body["metrics"])
        bad = bad or any(each["key"] == "lr" for each in body["params"])
        return refusal(400, "INVALID_PARAMETER_VALUE", "Changing param values is not allowed") if bad else None

    stub.fail = refuse
    writer = write(tmp_path, begin(stub))
    writer.append(Params({"lr": "0.2", "epochs": "3"}))
    for step in range(1500):
        writer.metrics({"loss": step}, step=step)
    writer.end(DONE, {})
    shipment, said = ship(writer.folder)
    assert shipment.complete
    assert sorted(step for _, step, _ in stub.points) == [step for step in range(1500) if step != 777]
    assert stub.params == {"epochs": "3"}
    refused = [line for line in said if "refused and left out" in line]
    assert len(refused) == 2
    assert any("('lr', '0.2')" in line and "Changing param values" in line for line in refused)
    assert any("step=777" in line for line in refused)
    assert stub.calls["runs/log-batch"] < 60, "it is searched by halves"


def test_limits_of_one_request_are_kept(stub: StubMlflow, tmp_path: Path) -> None:
    sizes: list[tuple[int, int, int]] = []

    def measure(path: str, body: Any) -> None:
        if "log-batch" in path:
            sizes.append((len(body["metrics"]), len(body["params"]), len(body["tags"])))

    stub.fail = measure
    writer = write(tmp_path, begin(stub))
    writer.metrics({f"m{number}": number for number in range(2345)}, step=0)
    writer.append(Params({f"p{number}": "x" for number in range(250)}))
    writer.append(Tags({f"t{number}": "x" for number in range(101)}))
    writer.end(DONE, {})
    assert ship(writer.folder)[0].complete
    assert len(stub.points) == 2345
    assert (len(stub.params), len(stub.tags)) == (250, 102)
    assert all(points <= 1000 and params <= 100 and tags <= 100 for points, params, tags in sizes)


def test_a_deleted_run_is_no_reason_to_drop_its_record(stub: StubMlflow, tmp_path: Path) -> None:
    deleted = refusal(
        400, "INVALID_PARAMETER_VALUE", "The run run0 must be in the 'active' state. Current state is deleted."
    )
    stub.fail = lambda path, _body: deleted if "log-batch" in path else None
    writer = ended(tmp_path, begin(stub))
    shipment, _ = ship(writer.folder, within_s=1)
    assert "`mlflow runs restore --run-id run0`" in shipment.undelivered["mlflow"]
    stub.fail = lambda _path, _body: None
    assert ship(writer.folder)[0].complete
    assert len(stub.points) == 3


def test_a_vanished_writer_gives_a_failed_run_with_reason_lost(stub: StubMlflow, tmp_path: Path) -> None:
    writer = write(tmp_path, begin(stub))
    for step in range(5):
        writer.metrics({"loss": step}, step=step)
    abandon(writer)
    shipment, said = ship(writer.folder)
    assert shipment.complete
    assert len(stub.points) == 5
    assert next(iter(stub.runs.values()))["status"] == "FAILED"
    assert stub.tags["trainyard.end_reason"] == "lost"
    assert said == ["mlflow: run n is complete there: 5 points"]


def test_damage_is_told(stub: StubMlflow, tmp_path: Path) -> None:
    writer = ended(tmp_path, begin(stub))
    segment = writer.folder.segment(1)
    data = bytearray(segment.read_bytes())
    data[data.index(b"loss") + 10 + 30] ^= 0xFF
    segment.write_bytes(data)
    shipment, said = ship(writer.folder)
    assert shipment.complete
    assert len(stub.points) == 2
    assert any("is damaged in 1 places" in line and "bytes could not be read" in line for line in said)


def test_backends_do_not_wait_for_each_other(stub: StubMlflow, tmp_path: Path) -> None:
    stub.fail = lambda _path, _body: DOWN
    writer = ended(tmp_path / "spool", begin(stub, "mlflow", "json"))
    shipment, _ = ship(writer.folder, within_s=2)
    assert list(shipment.undelivered) == ["mlflow"]
    (run,) = tmp_path.glob("runs/e/*/run.json")
    assert json.loads(run.read_text())["status"] == "FINISHED"
    stub.fail = lambda _path, _body: None
    assert ship(writer.folder)[0].complete
    assert len(stub.points) == 3
    assert len((run.parent / "metrics.jsonl").read_text().splitlines()) == 3


def test_segments_and_copies_are_freed_while_the_run_goes_on(stub: StubMlflow, tmp_path: Path) -> None:
    writer = write(tmp_path, begin(stub))
    (tmp_path / "a").write_text("a")
    copy = writer.folder.path / writer.stage(tmp_path / "a")
    writer.append(Artifact("a", copy.relative_to(writer.folder.path).as_posix()))
    for step in range(60_000):
        writer.metrics({"loss": step}, step=step)
    deadline = Deadline()
    thread = threading.Thread(target=Shipper(writer.folder, deadline=deadline, say=print).run)
    thread.start()
    until = time.monotonic() + 30
    while (writer.folder.segments()[0] < 3 or copy.exists()) and time.monotonic() < until:
        time.sleep(0.05)
    assert writer.folder.segments()[0] >= 3
    assert not copy.exists()
    writer.end(DONE, {})
    deadline.expire_in(30)
    thread.join()
    assert len(stub.points) == 60_000


def test_points_that_come_one_by_one_are_sent_together(stub: StubMlflow, tmp_path: Path) -> None:
    writer = write(tmp_path, begin(stub))
    thread = threading.Thread(target=Shipper(writer.folder, deadline=Deadline(), say=print).run)
    thread.start()
    for step in range(300):
        writer.metrics({"loss": step}, step=step)
        time.sleep(0.01)
    writer.end(DONE, {})
    thread.join(timeout=30)
    assert len(stub.points) == 300
    assert stub.calls["runs/log-batch"] <= 3 + 5, "about one request a second, and the end"


def test_two_shippers_do_not_meet(stub: StubMlflow, tmp_path: Path) -> None:
    writer = ended(tmp_path, begin(stub))
    with writer.folder.shipping() as mine:
        assert mine
        shipment, _ = ship(writer.folder)
    assert shipment.undelivered == {"all": "another process is delivering this spool"}
    assert stub.points == []


def test_an_artifact_that_somebody_deleted_is_named(stub: StubMlflow, tmp_path: Path) -> None:
    writer = write(tmp_path, begin(stub))
    writer.append(Artifact("a", "artifacts/000001-a"))
    writer.end(DONE, {})
    shipment, said = ship(writer.folder)
    assert shipment.complete
    assert any("artifacts/000001-a is gone" in line for line in said)


def test_a_damaged_cursor_is_named(stub: StubMlflow, tmp_path: Path) -> None:
    writer = ended(tmp_path / "spool", begin(stub))
    writer.folder.cursor("mlflow").write_text("{")
    laptop = Laptop(tmp_path)
    ended_ = laptop.command("spool", "ship", ".", TRAINYARD_SHIP_DEADLINE_S="2")
    assert ended_.code == 1
    assert "cursors/mlflow.json is damaged" in ended_.stdout
    assert "delete it to deliver the spool to mlflow again" in ended_.stdout


class TestScript:
    """The same from a user's script, whose own thread delivers."""

    TEXT = """
        import trainyard
        with trainyard.run(experiment="e") as run:
            run.log_metrics({"loss": 1}, step=1)
        print("done")
        """

    def test_credentials_are_sent_and_never_kept(self, stub: StubMlflow, laptop: Laptop) -> None:
        uri = stub.uri.replace("http://", "http://me:s3%20cret@")
        assert laptop.script(self.TEXT, MLFLOW_TRACKING_URI=uri).code == 0
        assert stub.authorizations == {"Basic bWU6czMgY3JldA=="}
        kept = [path for path in laptop.folder.rglob("*") if path.is_file() and b"s3%20cret" in path.read_bytes()]
        assert kept == []

    @pytest.mark.parametrize(
        ("environment", "sent"),
        [
            ({"MLFLOW_TRACKING_USERNAME": "u", "MLFLOW_TRACKING_PASSWORD": "p"}, "Basic dTpw"),
            ({"MLFLOW_TRACKING_TOKEN": "t0ken"}, "Bearer t0ken"),
        ],
    )
    def test_credentials_of_the_environment(
        self, stub: StubMlflow, laptop: Laptop, environment: dict[str, str], sent: str
    ) -> None:
        assert laptop.script(self.TEXT, MLFLOW_TRACKING_URI=stub.uri, **environment).code == 0
        assert stub.authorizations == {sent}

    @pytest.mark.parametrize(
        ("answer", "said"),
        [
            (
                (401, "text/plain", "You are not authenticated"),
                "401 You are not authenticated; check MLFLOW_TRACKING_USERNAME",
            ),
            ((403, "text/plain", "Invalid Host header"), "403 Invalid Host header"),
            ((200, "text/html", "<html>a login page</html>"), "is not an MLflow server: it answers text/html"),
            (
                (
                    200,
                    "application/json",
                    json.dumps({"experiment": {"experiment_id": "7", "lifecycle_stage": "deleted"}}),
                ),
                "experiment e is deleted in MLflow; restore it: mlflow experiments restore --experiment-id 7",
            ),
        ],
    )
    def test_a_mistake_is_told_at_once_and_nothing_is_recorded(
        self, stub: StubMlflow, laptop: Laptop, answer: Answer, said: str
    ) -> None:
        stub.fail = lambda _path, _body: answer
        ended = laptop.script(self.TEXT, MLFLOW_TRACKING_URI=stub.uri)
        assert ended.code == 1
        assert said in ended.stderr.splitlines()[-1]
        wrapped = laptop.command("run", "--experiment", "e", "--", "true", MLFLOW_TRACKING_URI=stub.uri)
        assert wrapped.code == 42, "a retry cannot help"
        assert said in wrapped.stderr
        assert not (laptop.folder / ".trainyard").exists()

    def test_a_server_that_is_away_does_not_stop_training(self, laptop: Laptop) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
        ended = laptop.script(self.TEXT, MLFLOW_TRACKING_URI=f"http://127.0.0.1:{port}", TRAINYARD_SHIP_DEADLINE_S="1")
        assert (
            f"MLflow at http://127.0.0.1:{port} cannot be reached: Connection refused; training goes on" in ended.stderr
        )
        assert ended.code == 1, "exit code 0 would say that nothing is missing"
        assert "could not be delivered within 1 s (TRAINYARD_SHIP_DEADLINE_S)" in ended.stderr
        with serving(StubMlflow()) as stub:
            (spool,) = (laptop.folder / ".trainyard/spool").iterdir()
            text = (spool / "start.json").read_text()
            (spool / "start.json").write_text(text.replace(f"http://127.0.0.1:{port}", stub.uri))
            shipped = laptop.command("spool", "ship")
            assert shipped.code == 0, shipped.stdout
            assert stub.points == [("loss", 1, 1.0)]
            assert next(iter(stub.runs.values()))["status"] == "FINISHED"

    def test_show_and_verify(self, laptop: Laptop) -> None:
        assert "nothing is recorded in" in laptop.command("spool", "show").stdout
        laptop.script(self.TEXT, MLFLOW_TRACKING_URI="http://127.0.0.1:9", TRAINYARD_SHIP_DEADLINE_S="0")
        shown = laptop.command("spool", "show")
        assert shown.code == 0
        assert "experiment e" in shown.stdout
        assert "FINISHED" in shown.stdout
        assert "1 points" in shown.stdout
        assert "mlflow: 0 points delivered" in shown.stdout
        assert "intact" in laptop.command("spool", "verify").stdout
        (segment,) = laptop.folder.glob(".trainyard/spool/*/*.spool")
        data = bytearray(segment.read_bytes())
        data[80] ^= 0xFF
        segment.write_bytes(data)
        verified = laptop.command("spool", "verify")
        assert verified.code == 1
        assert "1 damaged places" in verified.stdout
        assert "1 points" in verified.stdout, "the value is there, only its name is not"
        segment.write_bytes(b"x")
        assert "1 damaged places" in laptop.command("spool", "verify").stdout
        nowhere = laptop.command("spool", "ship", "/nowhere")
        assert nowhere.code == 42
        assert "/nowhere: there is no spool below this directory" in nowhere.stderr


def test_the_sidecar_delivers_and_ends_at_sigterm(stub: StubMlflow, laptop: Laptop) -> None:
    sidecar = laptop.python("-m", "trainyard", "spool", "ship", "--follow", TRAINYARD_SHIP_GRACE_S="20")
    try:
        ended = laptop.script(TestScript.TEXT, MLFLOW_TRACKING_URI=stub.uri, TRAINYARD_SHIPPER="sidecar")
        assert (ended.code, ended.stdout) == (0, "done\n"), ended.stderr
        assert stub.points == [("loss", 1, 1.0)], "the script waits for its record"
        lost = laptop.script(
            "import os, trainyard\nrun = trainyard.run(experiment='e').start()\nrun.log_metrics({'a': 2}, step=2)\nos._exit(1)",
            MLFLOW_TRACKING_URI=stub.uri,
            TRAINYARD_SHIPPER="sidecar",
        )
        assert lost.code == 1
    finally:
        sidecar.terminate()
    stdout, stderr = sidecar.communicate(timeout=30)
    assert (sidecar.returncode, stderr) == (0, "")
    assert stub.points == [("loss", 1, 1.0), ("a", 2, 2.0)]
    assert [run["status"] for run in stub.runs.values()] == ["FINISHED", "FAILED"]
    assert stdout.splitlines()[0].startswith("delivering what appears in")
    assert len([line for line in stdout.splitlines() if "is complete there" in line]) == 2


def test_a_sidecar_that_cannot_deliver_says_so_and_fails(laptop: Laptop) -> None:
    script = laptop.start_script(
        TestScript.TEXT,
        MLFLOW_TRACKING_URI="http://127.0.0.1:9",
        TRAINYARD_SHIPPER="sidecar",
        TRAINYARD_SHIP_DEADLINE_S="2",
    )
    sidecar = laptop.python("-m", "trainyard", "spool", "ship", "--follow", TRAINYARD_SHIP_GRACE_S="1")
    ended = laptop.wait(script)
    assert ended.code == 1
    assert "could not be delivered within 2 s" in ended.stderr
    assert "nobody delivers it" not in ended.stderr
    began = time.monotonic()
    sidecar.terminate()
    stdout, _ = sidecar.communicate(timeout=30)
    assert sidecar.returncode == 1
    assert time.monotonic() - began < 15
    assert "is incomplete there: MLflow at http://127.0.0.1:9 cannot be reached" in stdout
    assert os.fspath(laptop.folder / ".trainyard/spool") in stdout
