"""The spool: what is written is read, whatever happens to the writer, the disk or the bytes."""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trainyard
from trainyard.errors import SpoolError
from trainyard.spool.folder import SpoolFolder, spools
from trainyard.spool.reader import Position, SpoolReader
from trainyard.spool.records import Artifact, Metrics, Model, Params, Tags
from trainyard.spool.space import Limits
from trainyard.spool.writer import SEGMENT_BYTES, SpoolWriter

from tests.unit.trainer.spools import DONE, abandon, points, read, start, write

SMALL_DISK = Path("/dev/shm")


def test_everything_written_is_read_in_order(tmp_path: Path) -> None:
    begin = start("json", "mlflow", tags={"a": "b"}, settings={"X": "y"}, mlflow_run_id="r")
    writer = write(tmp_path, begin)
    writer.append(Params({"lr": "0.1"}))
    writer.metrics({"loss": 0.5, "ünïcode/key 1": -1e300}, step=-3)
    writer.metrics({"loss": float("nan"), "up": float("inf")}, step=2**62)
    writer.append(Artifact("a.txt", "artifacts/1"))
    writer.append(Model(name="m", folder="artifacts/2", step=3, register="r", alias="x"))
    writer.end(DONE, {"t": "1"})
    found = read(writer.folder)
    assert [type(record) for record in found] == [Params, Metrics, Metrics, Artifact, Model, Tags, type(DONE)]
    assert found[0] == Params({"lr": "0.1"})
    assert points(found)[:2] == [(-3, "loss", 0.5), (-3, "ünïcode/key 1", -1e300)]
    assert repr(points(found)[2:]) == f"[({2**62}, 'loss', nan), ({2**62}, 'up', inf)]"
    assert found[4] == Model(name="m", folder="artifacts/2", step=3, register="r", alias="x")
    assert found[-1] == DONE
    assert writer.folder.start() == begin


def test_times_are_taken_when_a_value_is_logged(tmp_path: Path) -> None:
    writer = write(tmp_path)
    before = time.time_ns() // 1_000_000
    writer.metrics({"loss": 1}, step=1)
    after = time.time_ns() // 1_000_000
    (record,) = read(writer.folder, gone=False)
    assert isinstance(record, Metrics)
    assert before <= record.time_ms <= after


def test_a_spool_of_many_segments_is_read_whole(tmp_path: Path) -> None:
    writer = write(tmp_path)
    for step in range(60_000):
        writer.metrics({"loss": step, "accuracy": step / 2}, step=step)
    writer.end(DONE, {})
    assert len(writer.folder.segments()) > 2
    assert points(read(writer.folder)) == [
        (step, key, value) for step in range(60_000) for key, value in (("loss", step), ("accuracy", step / 2))
    ]


def test_a_record_larger_than_a_segment_fits(tmp_path: Path) -> None:
    writer = write(tmp_path)
    many = {f"{'layer' * 20}/{number}": float(number) for number in range(20_000)}
    writer.metrics({"before": 1}, step=0)
    writer.metrics(many, step=1)
    writer.append(Params({"long": "x" * 2 * SEGMENT_BYTES}))
    writer.end(DONE, {})
    found = read(writer.folder)
    assert points(found) == [(0, "before", 1.0), *((1, key, value) for key, value in many.items())]
    assert found[2] == Params({"long": "x" * 2 * SEGMENT_BYTES})


def test_reading_follows_a_writer(tmp_path: Path) -> None:
    """Also over the border of a segment, from any place where it stopped before."""
    writer = write(tmp_path)
    position = Position()
    seen = []
    for step in range(40_000):
        writer.metrics({"loss": step}, step=step)
        if step % 997 == 0:
            reader = SpoolReader(writer.folder, position)
            while records := reader.read(points=100, writer_gone=False):
                seen += points(records)
            position = reader.position
    assert seen == [(step, "loss", float(step)) for step in range(len(seen))]
    assert len(seen) > 39_000


@pytest.mark.parametrize("leave", ["cut", "zeros", "garbage"])
def test_a_tail_torn_at_any_byte_costs_the_torn_record_only(tmp_path: Path, leave: str) -> None:
    writer = write(tmp_path / "whole")
    ends = []
    for step in range(6):
        writer.metrics({"loss": step, f"key{step}": 1}, step=step)
        ends.append(writer._at)
    abandon(writer)
    segment = writer.folder.segment(1)
    whole = segment.read_bytes()[: ends[-1]]
    for at in range(64, len(whole) + 1):
        folder = SpoolFolder(tmp_path / "torn" / writer.folder.uid)
        shutil.copytree(writer.folder.path, folder.path, dirs_exist_ok=True)
        rest = {"cut": b"", "zeros": bytes(500), "garbage": b"\xa5" * 37}[leave]
        folder.segment(1).write_bytes(whole[:at] + rest)
        expected = [(step, "loss", float(step)) for step, end in enumerate(ends) if end <= at]
        assert [each for each in points(read(folder)) if each[1] == "loss"] == expected, f"torn at byte {at}"


def test_damage_in_the_middle_costs_what_stood_there_and_is_counted(tmp_path: Path) -> None:
    writer = write(tmp_path)
    ends = []
    for step in range(9):
        writer.metrics({"loss": step}, step=step)
        ends.append(writer._at)
    writer.end(DONE, {})
    segment = writer.folder.segment(1)
    data = bytearray(segment.read_bytes())
    data[ends[4] - 3] ^= 0xFF
    segment.write_bytes(data)
    reader = SpoolReader(writer.folder)
    found = reader.read(points=1000, writer_gone=True)
    assert [step for step, _, _ in points(found)] == [0, 1, 2, 3, 5, 6, 7, 8]
    assert (reader.damage.places, reader.damage.bytes) == (1, ends[4] - ends[3])


def test_a_half_written_record_is_waited_for_while_the_writer_lives(tmp_path: Path) -> None:
    writer = write(tmp_path)
    writer.metrics({"loss": 1}, step=1)
    at = writer._at
    writer.metrics({"loss": 2}, step=2)
    whole = writer._map[at : writer._at]
    writer._map[at + 5 : writer._at] = bytes(writer._at - at - 5)
    reader = SpoolReader(writer.folder)
    assert points(reader.read(points=10, writer_gone=False)) == [(1, "loss", 1.0)]
    assert reader.read(points=10, writer_gone=False) == []
    writer._map[at : writer._at] = whole
    assert points(reader.read(points=10, writer_gone=False)) == [(2, "loss", 2.0)]
    assert reader.damage.places == 0


def test_several_threads_may_log(tmp_path: Path) -> None:
    writer = write(tmp_path)

    def log(number: int) -> None:
        for step in range(5000):
            writer.metrics({f"thread{number}": step}, step=step)

    threads = [threading.Thread(target=log, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = points(read(writer.folder, gone=False))
    for number in range(4):
        assert [step for step, key, _ in found if key == f"thread{number}"] == list(range(5000))


@pytest.mark.parametrize(
    ("metrics", "step", "error", "said"),
    [
        ({"loss": "0.5"}, 1, TypeError, "metric loss='0.5' at step 1: is not a number"),
        ({"loss": None}, 1, TypeError, "metric loss=None at step 1: is not a number"),
        ({"loss": [1]}, 7, TypeError, "at step 7"),
        ({"loss": 1}, 1.5, TypeError, "step=1.5 of good, loss"),
        ({"loss": 1}, 2**63, TypeError, "must be a whole number of 64 bits"),
        ({"a=b": 1}, 1, ValueError, "metric name 'a=b'"),
        ({"": 1}, 1, ValueError, "metric name ''"),
        ({"../x": 1}, 1, ValueError, "metric name '../x'"),
        ({"/x": 1}, 1, ValueError, "metric name '/x'"),
        ({"x" * 251: 1}, 1, ValueError, "1 to 250 letters"),
        ({5: 1}, 1, ValueError, "metric name 5"),
    ],
)
def test_what_is_no_metric_is_named_and_nothing_of_it_is_recorded(
    tmp_path: Path, metrics: dict[str, float], step: int, error: type[Exception], said: str
) -> None:
    writer = write(tmp_path)
    writer.metrics({"loss": 1}, step=0)
    with pytest.raises(error, match=None) as caught:
        writer.metrics({"good": 1, **metrics}, step=step)
    assert said in str(caught.value)
    writer.metrics({"loss": 2}, step=1)
    assert points(read(writer.folder, gone=False)) == [(0, "loss", 1.0), (1, "loss", 2.0)]


def test_numbers_of_other_libraries_are_numbers(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    writer = write(tmp_path)
    writer.metrics({"loss": numpy.float32(0.5), "count": numpy.int64(3), "yes": True}, step=numpy.int32(4))
    writer.metrics({"loss": numpy.float32(0.25), "count": numpy.int64(4), "yes": False}, step=numpy.int32(5))
    assert points(read(writer.folder, gone=False)) == [
        (4, "loss", 0.5), (4, "count", 3.0), (4, "yes", 1.0), (5, "loss", 0.25), (5, "count", 4.0), (5, "yes", 0.0)
    ]  # fmt: skip


def test_after_the_end_nothing_can_be_added(tmp_path: Path) -> None:
    writer = write(tmp_path)
    writer.end(DONE, {})
    with pytest.raises(SpoolError, match=r"has ended"):
        writer.metrics({"loss": 1}, step=1)
    with pytest.raises(SpoolError, match=r"has ended"):
        writer.append(Tags({}))
    with pytest.raises(SpoolError, match=r"has ended"):
        writer.sync()


def test_a_forked_child_is_refused_and_does_no_harm(tmp_path: Path) -> None:
    writer = write(tmp_path)
    writer.metrics({"loss": 1}, step=1)
    child = os.fork()
    if child == 0:
        try:
            writer.metrics({"loss": 666}, step=666)
        except SpoolError:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    writer.metrics({"loss": 2}, step=2)
    assert points(read(writer.folder, gone=False)) == [(1, "loss", 1.0), (2, "loss", 2.0)]


def test_a_killed_writer_is_noticed_and_leaves_what_it_logged(tmp_path: Path) -> None:
    code = (
        "import os, sys; from tests.unit.trainer.spools import write; from pathlib import Path\n"
        "writer = write(Path(sys.argv[1]))\n"
        "for step in range(100): writer.metrics({'loss': step}, step=step)\n"
        "print('logged', flush=True); sys.stdin.read()"
    )
    path = os.pathsep.join([str(Path(trainyard.__file__).parents[1]), *sys.path])
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"logged\n"
    (folder,) = spools(tmp_path)
    assert folder.writer_alive()
    process.kill()
    process.wait()
    assert not folder.writer_alive()
    assert [step for step, _, _ in points(read(folder))] == list(range(100))


def test_a_full_spool_makes_training_wait_and_says_so(tmp_path: Path) -> None:
    said: list[str] = []
    limits = Limits(total_bytes=3 * SEGMENT_BYTES, wait_s=60)
    writer = write(tmp_path, limits=limits, warn=said.append)
    freed = threading.Event()

    def deliver() -> None:
        while not said:
            time.sleep(0.01)
        assert writer.folder.used_bytes() <= 3 * SEGMENT_BYTES
        freed.set()
        for sequence in writer.folder.segments()[:-1]:
            writer.folder.segment(sequence).unlink()

    threading.Thread(target=deliver, daemon=True).start()
    for step in range(120_000):
        writer.metrics({"loss": step}, step=step)
    assert freed.is_set()
    assert len(said) == 1
    assert "no room for more records" in said[0]
    assert "TRAINYARD_SPOOL_BYTES" in said[0]
    assert "training waits" in said[0]


def test_waiting_for_space_has_an_end_and_the_run_can_still_say_how_it_ended(tmp_path: Path) -> None:
    writer = write(tmp_path, limits=Limits(total_bytes=2 * SEGMENT_BYTES, wait_s=0.5), warn=lambda _: None)
    with pytest.raises(SpoolError, match=r"no room for more records .*giving up"):
        for step in range(200_000):
            writer.metrics({"loss": step}, step=step)
    writer.end(DONE, {"trainyard.traceback": "x" * 8000})
    found = read(writer.folder)
    assert found[-2:] == [Tags({"trainyard.traceback": "x" * 8000}), DONE]
    steps = [step for step, _, _ in points(found)]
    assert steps == list(range(len(steps))), "what was accepted before is there"


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system with less than one segment left."""
    free = shutil.disk_usage(SMALL_DISK).free if SMALL_DISK.is_dir() else 2**40
    if free > 256 * 2**20:
        pytest.skip("no small file system to fill: this needs the container's /dev/shm of 64 MiB")
    folder = SMALL_DISK / tmp_path.name
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


def fill(folder: Path, leave: int) -> Path:
    filler = folder / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(folder).free - leave)
    return filler


def test_a_full_disk_makes_training_wait_and_loses_nothing(full_disk: Path) -> None:
    said: list[str] = []
    writer = write(full_disk / "spool", warn=said.append)
    filler = fill(full_disk, SEGMENT_BYTES // 2)

    def free() -> None:
        while not said:
            time.sleep(0.01)
        filler.unlink()

    threading.Thread(target=free, daemon=True).start()
    for step in range(40_000):
        writer.metrics({"loss": step}, step=step)
    assert "No space left on device" in said[0]
    writer.end(DONE, {})
    assert [step for step, _, _ in points(read(writer.folder))] == list(range(40_000))


def test_an_artifact_waits_for_space_too_and_is_copied_whole(full_disk: Path, tmp_path: Path) -> None:
    said: list[str] = []
    writer = write(full_disk / "spool", warn=said.append)
    source = tmp_path / "big"
    (source / "inner").mkdir(parents=True)
    for name in ("one", "inner/two"):
        (source / name).write_bytes(os.urandom(2 * SEGMENT_BYTES))
    filler = fill(full_disk, 3 * SEGMENT_BYTES)

    def free() -> None:
        while not said:
            time.sleep(0.01)
        filler.unlink()

    threading.Thread(target=free, daemon=True).start()
    copy = writer.folder.path / writer.stage(source)
    assert "a copy of" in said[0]
    assert {path.relative_to(copy).as_posix(): path.read_bytes() for path in copy.rglob("*") if path.is_file()} == {
        name: (source / name).read_bytes() for name in ("one", "inner/two")
    }


def test_a_state_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(SpoolError, match=rf"no spool can be made in {blocked}/spool: .*set TRAINYARD_STATE_DIR"):
        SpoolWriter.create(blocked / "spool", start(), warn=print)


def test_a_segment_of_a_later_format_is_refused(tmp_path: Path) -> None:
    writer = write(tmp_path)
    writer.end(DONE, {})
    from trainyard.spool import format as layout

    segment = writer.folder.segment(1)
    data = bytearray(segment.read_bytes())
    fields = bytearray(data[:40])
    fields[8] = 2
    import zlib

    data[:44] = fields + zlib.crc32(bytes(fields)).to_bytes(4, "little")
    segment.write_bytes(data)
    with pytest.raises(SpoolError, match="has format 2; this trainyard reads 1"):
        layout.check_header(bytes(data), str(segment))
    with pytest.raises(SpoolError, match="has format 2"):
        read(writer.folder)


@pytest.mark.parametrize("content", [b"", b"hello", b"TYSPOOL\n" + bytes(60)])
def test_a_segment_whose_header_a_loss_of_power_took_is_damage(tmp_path: Path, content: bytes) -> None:
    writer = write(tmp_path)
    for step in range(40_000):
        writer.metrics({"loss": step}, step=step)
    writer.end(DONE, {})
    writer.folder.segment(2).write_bytes(content)
    reader = SpoolReader(writer.folder)
    found = []
    while records := reader.read(points=1000, writer_gone=True):
        found += points(records)
    assert len(found) > 20_000
    assert reader.damage.places >= 1


def test_a_header_lost_alone_costs_no_record(tmp_path: Path) -> None:
    writer = write(tmp_path)
    writer.metrics({"loss": 1}, step=1)
    writer.end(DONE, {})
    data = writer.folder.segment(1).read_bytes()
    writer.folder.segment(1).write_bytes(bytes(64) + data[64:])
    assert points(read(writer.folder)) == [(1, "loss", 1.0)]


def test_a_cursor_behind_the_end_of_its_segment_goes_on_with_what_there_is(tmp_path: Path) -> None:
    """A loss of power may take what was delivered already, while the cursor was brought to the disk."""
    writer = write(tmp_path)
    for step in range(40_000):
        writer.metrics({"loss": step}, step=step)
    writer.end(DONE, {})
    reader = SpoolReader(writer.folder)
    reader.read(points=5000, writer_gone=True)
    position = reader.position
    segment = writer.folder.segment(1)
    segment.write_bytes(segment.read_bytes()[: position.offset - 1000])
    again = SpoolReader(writer.folder, position)
    found = points(again.read(points=10**6, writer_gone=True))
    assert found[0][0] > 20_000
    assert found[-1][0] == 39_999


def test_sync_brings_segments_and_copies_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: set[str] = set()
    real = os.fsync

    def fsync(file: int) -> None:
        synced.add(Path(f"/proc/self/fd/{file}").readlink().name)
        real(file)

    writer = write(tmp_path)
    (tmp_path / "a.txt").write_text("a")
    copy = writer.stage(tmp_path / "a.txt")
    for step in range(40_000):
        writer.metrics({"loss": step}, step=step)
    monkeypatch.setattr(os, "fsync", fsync)
    writer.sync()
    assert {"00000001.spool", "00000002.spool", Path(copy).name, "artifacts", writer.folder.uid} <= synced
