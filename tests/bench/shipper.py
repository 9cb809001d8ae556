"""How fast a full spool is delivered, and how much memory that takes: our shipper, and MLflow's client with the same points."""

import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trainyard.spool.records import End, Start
from trainyard.spool.writer import SpoolWriter

from tests.bench.table import Row, show, times_better, verdict

KEYS = tuple(f"train/metric_{number}" for number in range(10))
"""Logged together at every step."""
_TAKER = "a server that only counts"
_POLL_S = 0.05
_GOAL_POINTS_PER_S = 20_000
_GOAL_MB = 120


@dataclass(frozen=True, slots=True)
class Delivery:
    """What it took."""

    points_per_s: float
    peak_rss_mb: float
    peak_pss_mb: float

    def __str__(self) -> str:
        return f"{self.points_per_s:,.0f} points/s, {self.peak_rss_mb:.0f} MB (its share of shared pages: {self.peak_pss_mb:.0f})"


def _ours(uri: str, points: int) -> Delivery:
    """`trainyard spool ship` of a spool that is there already, from the start of the process to the receipt."""
    state = Path("/var/tmp", uuid.uuid4().hex)
    _fill(state / "spool", uri, points)
    (folder,) = (state / "spool").iterdir()
    began = time.monotonic()
    with _watched("-m", "trainyard", "spool", "ship", str(state)) as peak:
        receipt = folder / "shipped.json"
        while not receipt.exists() and peak.process.poll() is None:
            time.sleep(0.01)
        taken_s = time.monotonic() - began
    delivered = json.loads(receipt.read_bytes())["mlflow"]
    if delivered["points"] != points or delivered["warnings"]:
        raise RuntimeError(f"of {points} points were delivered: {delivered}")
    return Delivery(points / taken_s, peak.rss_mb, peak.pss_mb)


def _fill(parent: Path, uri: str, points: int) -> None:
    start = Start(
        uid=uuid.uuid4().hex,
        name="bench-shipper",
        experiment="bench-shipper",
        tags={},
        time_ms=time.time_ns() // 1_000_000,
        backends=("mlflow",),
        settings={"MLFLOW_TRACKING_URI": uri},
    )
    writer = SpoolWriter.create(parent, start, warn=print)
    for step in range(points // len(KEYS)):
        writer.metrics(dict.fromkeys(KEYS, step + 0.5), step=step)
    writer.end(End(status="FINISHED", reason="finished", time_ms=start.time_ms + 1), {})


def _mlflow(uri: str, points: int) -> Delivery:
    """`MlflowClient.log_batch` with as many points a request as MLflow allows; its time is that of the requests alone."""
    with _watched("-W", "ignore", "-m", "tests.bench.mlflow_client", uri, str(points)) as peak:
        output, _ = peak.process.communicate()
    return Delivery(points / float(output), peak.rss_mb, peak.pss_mb)


class _Peak:
    """The most memory that a process has had, in MB of 1,000,000 bytes."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.rss_mb = 0.0
        self.pss_mb = 0.0

    def watch(self) -> None:
        """Until it ends."""
        while self.process.poll() is None:
            try:
                self.rss_mb = max(self.rss_mb, self._field("status", "VmHWM:"))
                self.pss_mb = max(self.pss_mb, self._field("smaps_rollup", "Pss:"))
            except (OSError, StopIteration):  # it is ending
                return
            time.sleep(_POLL_S)

    def _field(self, file: str, name: str) -> float:
        lines = Path(f"/proc/{self.process.pid}/{file}").read_text().splitlines()
        return int(next(line for line in lines if line.startswith(name)).split()[1]) * 1024 / 1e6


@contextmanager
def _watched(*arguments: str) -> Iterator[_Peak]:
    """Python with these arguments. Raises RuntimeError if it does not end well."""
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True)
    peak = _Peak(process)
    watcher = threading.Thread(target=peak.watch)
    watcher.start()
    try:
        yield peak
        process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
        watcher.join()
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(arguments)} ended with exit code {process.returncode}")


@contextmanager
def _taker() -> Iterator[str]:
    """A server that takes what it gets; gives its address."""
    process = subprocess.Popen([sys.executable, "-m", "tests.bench.taker"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


def _taken(uri: str) -> int:
    with urllib.request.urlopen(f"{uri}/taken") as answer:
        return int(json.load(answer)["points"])


def _to_taker() -> tuple[Delivery, Delivery]:
    with _taker() as uri:
        ours = _ours(uri, 1_000_000)
        peer = _mlflow(uri, 200_000)
        if _taken(uri) != 1_200_000:
            raise RuntimeError(f"the server that takes everything got {_taken(uri)} of 1,200,000 points")
    return ours, peer


def _to_mlflow() -> tuple[Delivery, Delivery]:
    uri = os.environ["MLFLOW_TRACKING_URI"]
    return _ours(uri, 30_000), _mlflow(uri, 30_000)


def main() -> None:
    """Measure and print."""
    rows = []
    for place, (ours, peer) in ((_TAKER, _to_taker()), ("MLflow on Postgres", _to_mlflow())):
        fast = verdict(f">= {_GOAL_POINTS_PER_S:,} points/s", ours.points_per_s >= _GOAL_POINTS_PER_S)
        goal = fast if place == _TAKER else "none: the server is the limit"
        peer_name = "MlflowClient.log_batch of 1,000"
        rows.append(
            Row(
                f"delivery to {place}",
                f"{ours.points_per_s:,.0f} points/s",
                f"{peer_name}: {peer.points_per_s:,.0f} points/s",
                times_better(peer.points_per_s, ours.points_per_s),
                goal,
            )
        )
        rows.append(
            Row(
                "  peak memory of the process",
                f"RSS {ours.peak_rss_mb:.0f}, PSS {ours.peak_pss_mb:.0f} MB",
                f"{peer_name}: RSS {peer.peak_rss_mb:.0f}, PSS {peer.peak_pss_mb:.0f} MB",
                times_better(ours.peak_rss_mb, peer.peak_rss_mb),
                verdict(f"<= {_GOAL_MB} MB", ours.peak_rss_mb <= _GOAL_MB),
            )
        )
    show(
        f"Delivery of a full spool, {len(KEYS)} values a step, by Python {sys.version.split()[0]}",
        rows,
        "Ours: `trainyard spool ship` from its start to the receipt, reading and checking the spool included. MLflow's client: its requests",
        "alone, of points it has in memory. The server that only counts parses the JSON, checks and counts every point, and stores nothing.",
    )


if __name__ == "__main__":
    main()
