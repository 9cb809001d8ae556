"""Whether what is stored is what was logged."""

import json
import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainyard.spool.folder import SpoolFolder, spools

from tests.unit.delivery import plan as plans
from tests.unit.delivery.crew import Order, journal_of
from tests.unit.delivery.plan import Call, Plan, Row
from tests.unit.delivery.processes import Site
from tests.unit.delivery.servers import StoredRun, Tracking

_LOST = ("FAILED", "lost")
_ENDS = {"finish": ("FINISHED", "finished"), "raise": ("FAILED", "failed")}
_TRACEBACK = "traceback.txt"
_LEFT = {"start.json", "shipped.json", "writer.lock", "shipper.lock", "cursors"}


@dataclass(frozen=True)
class Content:
    """Of a run, or of what one thread put into it."""

    points: "Counter[Row]"
    params: dict[str, str]
    tags: dict[str, str]
    artifacts: dict[str, str]

    @classmethod
    def logged(cls, calls: Sequence[Call]) -> "Content":
        """What MLflow is to have after these calls."""
        points = Counter(row for each in calls for row in plans.rows(each))
        return cls(points, plans.params(calls), plans.tags(calls), plans.artifacts(calls))

    @classmethod
    def stored(cls, run: StoredRun) -> "Content":
        """What MLflow has, without what we did not log."""
        tags = {key: value for key, value in run.tags.items() if not key.startswith(("trainyard.", "mlflow."))}
        artifacts = {name: digest for name, digest in run.artifacts.items() if name != _TRACEBACK}
        return cls(run.points, run.params, tags, artifacts)

    def of_thread(self, name: str, thread: int) -> "Content":
        """The names tell."""
        return Content(
            Counter({row: n for row, n in self.points.items() if row.key.startswith(f"thread {thread}/")}),
            {key: value for key, value in self.params.items() if key.startswith(f"{thread}.")},
            {key: value for key, value in self.tags.items() if key.startswith(f"tag {thread}")},
            {key: value for key, value in self.artifacts.items() if key.startswith(f"files/{name}-{thread}-")},
        )

    def size(self) -> int:
        """How many things."""
        return sum(self.points.values()) + len(self.params) + len(self.tags) + len(self.artifacts)

    def lacks(self, other: "Content") -> str:
        """What is different, for people."""
        missing, extra = other.points - self.points, self.points - other.points
        rest = [
            f"{name}: {sorted(set(mine.items()) ^ set(theirs.items()))[:5]}"
            for name, mine, theirs in (
                ("params", self.params, other.params),
                ("tags", self.tags, other.tags),
                ("artifacts", self.artifacts, other.artifacts),
            )
            if mine != theirs
        ]
        return (
            f"{missing.total()} points missing {list(missing)[:3]}, {extra.total()} too many {list(extra)[:3]} {rest}"
        )


def judge(tracking: Tracking, site: Site, experiment: str, orders: Sequence[Order], codes: Sequence[int]) -> int:
    """Fails for the first writer whose record is wrong. Returns the number of points that are right."""
    folders = {folder.start().name: folder for folder in spools(site.state / "spool")}
    runs = tracking.runs(experiment)
    for order, code in zip(orders, codes, strict=True):
        plan = plans.make_plan(order.seed, order.end)
        found = [run for run in runs.values() if run.tags.get("mlflow.runName") == plan.name]
        try:
            _judge_one(plan, code, folders.get(plan.name), found, site)
        except AssertionError as wrong:
            raise AssertionError(f"{wrong}\n{order}, exit code {code}\n{site.last_words()}") from None
    assert len(runs) == len(folders), f"{len(folders)} spools became {len(runs)} runs"
    return sum(run.points.total() for run in runs.values())


def _judge_one(plan: Plan, code: int, folder: SpoolFolder | None, found: list[StoredRun], site: Site) -> None:
    returned = [_size(journal_of(site.journal, plan.name, number)) for number in range(len(plan.threads))]
    if folder is None:
        assert (code < 0, sum(returned), found) == (True, 0, []), "a run without a spool"
        return
    assert len(found) == 1, f"{len(found)} runs for one spool"
    (run,) = found
    assert run.uid == folder.uid
    whole = Content.stored(run)
    parts = [whole.of_thread(plan.name, number) for number in range(len(plan.threads))]
    for calls, count, part in zip(plan.threads, returned, parts, strict=True):
        # The call that was under way has been recorded or not, but never in part.
        possible = [Content.logged(calls[:count]), Content.logged(calls[: count + 1])]
        assert part in possible, f"after {count} calls that returned: {part.lacks(possible[0])}"
    assert sum(part.size() for part in parts) == whole.size(), "something is stored that nobody logged"
    complete = returned == [len(calls) for calls in plan.threads]
    _judge_end(plan, code, complete, run)
    judge_folder(folder)
    if "json" in plan.tracking:
        _judge_json(site.state / "runs", plan.name, folder.uid, run)


def _judge_end(plan: Plan, code: int, complete: bool, run: StoredRun) -> None:
    end = (run.status, run.tags.get("trainyard.end_reason"))
    if code in (-signal.SIGKILL, -signal.SIGTERM):
        # It may have been met after its record of the end.
        assert end == _LOST or (complete and end == _ENDS.get(plan.end)), f"{end} after signal {-code}"
    elif code == 128 + signal.SIGTERM:
        assert end == ("KILLED", "interrupted"), f"{end} after SIGTERM"
    else:
        assert complete, f"exit code {code} before everything was logged"
        assert (code, end) == ({"finish": 0, "raise": 1}[plan.end], _ENDS[plan.end])
    assert run.end_ms is not None, "ended without a time"
    assert (_TRACEBACK in run.artifacts) >= (end == _ENDS["raise"]), "failed without a traceback"


def judge_folder(folder: SpoolFolder) -> None:
    """Fails unless its disk is freed."""
    names = {path.name for path in folder.path.iterdir() if not path.name.startswith(".")}
    assert "shipped.json" in names, "not marked as shipped"
    assert names <= _LEFT, f"not freed: {sorted(names - _LEFT)}"


def _judge_json(root: Path, name: str, uid: str, run: StoredRun) -> None:
    (folder,) = root.glob(f"*/{name}-{uid[:8]}")
    points: Counter[Row] = Counter()
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        record: dict[str, Any] = json.loads(line)
        values = tuple((key, float(value)) for key, value in record["metrics"].items())
        points.update(plans.rows(plans.LogMetrics(record["step"], record["time_ms"], values)))
    assert points == run.points, "the JSON backend has other points than MLflow"
    described = json.loads((folder / "run.json").read_bytes())
    assert (described["status"], described["params"]) == (run.status, run.params)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
