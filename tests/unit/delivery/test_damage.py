"""Spools whose last bytes never reached the disk, or that were left in the middle of being delivered."""

import random
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

from trainyard.spool.folder import SpoolFolder, spools

from tests.unit.delivery.crew import Order
from tests.unit.delivery.plan import Call, LogMetrics, Pause, Row, make_plan, rows
from tests.unit.delivery.processes import Crew, Site
from tests.unit.delivery.recording import record
from tests.unit.delivery.segments import HEADER_BYTES, KEY, cursor, records
from tests.unit.delivery.servers import Tracking
from tests.unit.delivery.verdict import Content, judge, judge_folder
from tests.unit.images.image_containers import wait_until

_SPOOLS = 16
_PAGE_BYTES = 4096


def _calls_in(data: bytes) -> int:
    return sum(each.body[0] != KEY for each in records(data))


def _damage(chance: random.Random, path: Path) -> str:
    """Cut the file at a random byte: no bytes behind, or zeros as of a page that was not written, or anything."""
    data = path.read_bytes()
    last = records(data)[-1].end
    cut = chance.randrange(HEADER_BYTES) if chance.random() < 0.15 else chance.randrange(HEADER_BYTES, last)
    kind = chance.choice(("nothing", "zeros", "more zeros", "noise"))
    behind = {
        "nothing": b"",
        "zeros": bytes(len(data) - cut),
        "more zeros": bytes(2**16),
        "noise": chance.randbytes(len(data) - cut),
    }[kind]
    path.write_bytes(data[:cut] + behind)
    return f"{path} has {kind} behind byte {cut} of {len(data)}"


def test_what_lies_before_the_cut_arrives_and_nothing_else(
    tracking: Tracking, site: Site, chance: random.Random
) -> None:
    expected = {}
    for number in range(_SPOOLS):
        plan = make_plan(chance.randrange(10**9), "finish")
        calls: list[Call] = [each for each in plan.threads[0] if not isinstance(each, Pause)]
        folder = record(site, plan.name, "cut", tracking.uri, calls)
        segments = [folder.segment(sequence) for sequence in folder.segments()]
        damage = _damage(chance, segments[-1])
        # A header that is cut makes all of its segment unreadable.
        whole = segments if segments[-1].stat().st_size >= HEADER_BYTES else segments[:-1]
        survived = sum(_calls_in(path.read_bytes()) for path in whole)
        expected[plan.name] = (Content.logged(calls[:survived]), f"spool {number}: {damage}; {survived} calls survived")
    site.deliver_all()
    runs = {run.tags["mlflow.runName"]: run for run in tracking.runs("cut").values()}
    for name, (content, damage) in expected.items():
        stored = Content.stored(runs[name])
        assert stored == content, f"{stored.lacks(content)}; {damage}"
        assert (runs[name].status, runs[name].tags["trainyard.end_reason"]) == ("FAILED", "lost"), damage
    assert len(runs) == _SPOOLS
    for folder in spools(site.state / "spool"):
        judge_folder(folder)


def test_lost_pages_cost_what_was_on_them(tracking: Tracking, site: Site, chance: random.Random) -> None:
    """Pages of a mapped file reach the disk in any order: after a loss of power some are there, and some are zeros."""
    expected: dict[str, tuple[set[Row], set[Row]]] = {}
    for _ in range(_SPOOLS):
        plan = make_plan(chance.randrange(10**9), "finish")
        calls: list[Call] = [each for each in plan.threads[0] if not isinstance(each, Pause)]
        folder = record(site, plan.name, "pages", tracking.uri, calls)
        remaining = iter(calls)
        safe: set[Row] = set()
        for sequence in folder.segments():
            path = folder.segment(sequence)
            data = path.read_bytes()
            lost = {page for page in range(0, len(data), _PAGE_BYTES) if chance.random() < 0.3}
            kept = b"".join(
                bytes(min(_PAGE_BYTES, len(data) - page)) if page in lost else data[page : page + _PAGE_BYTES]
                for page in range(0, len(data), _PAGE_BYTES)
            )
            path.write_bytes(kept)
            safe |= set(_safe(data, kept, remaining))
        expected[plan.name] = safe, {row for each in calls for row in rows(each)}
    site.deliver_all()
    for run in tracking.runs("pages").values():
        safe, logged = expected.pop(run.tags["mlflow.runName"])
        points = set(run.points)
        assert safe <= points, f"{len(safe - points)} points are whole, and missing: {list(safe - points)[:3]}"
        # A point whose key is lost is kept under another name.
        values = {row[1:] for row in logged}
        invented = {row for row in points - logged if not row.key.startswith("unnamed/") or row[1:] not in values}
        assert not invented, f"nobody logged {list(invented)[:3]}"
        assert run.status in ("FAILED", "FINISHED")
    assert not expected


def _safe(data: bytes, kept: bytes, calls: Iterator[Call]) -> Iterator[Row]:
    """Points of a segment whose record and whose key are as they were written."""
    keys = set()
    for each in records(data):
        intact = kept[each.start : each.end] == data[each.start : each.end]
        if each.body[0] == KEY:
            keys |= {each.body[5:].decode()} if intact else set()
            continue
        logged = next(calls, None)  # none is behind the tags and the end
        if intact and isinstance(logged, LogMetrics) and keys >= {key for key, _ in logged.values}:
            yield from rows(logged)


def _is_delivered(folder: SpoolFolder) -> bool:
    sequence, offset = cursor(folder)
    found = records(folder.segment(sequence).read_bytes()) if folder.segments()[-1:] == [sequence] else []
    return bool(found) and found[-1].end == offset


def _all_delivered(site: Site, count: int) -> bool:
    folders = spools(site.state / "spool")
    return len(folders) == count and all(folder.shipped.exists() or _is_delivered(folder) for folder in folders)


def test_a_cut_before_the_cursor_takes_nothing_back(tracking: Tracking, site: Site, chance: random.Random) -> None:
    """A loss of power: the cursor was on the disk, the records that it had passed were not."""
    orders = [Order(chance.randrange(10**9), "linger", signal=signal.SIGKILL, after_s=2) for _ in range(4)]
    crew = Crew(site, "cut before the cursor", orders)
    shipper = site.shipper(follow=True)

    wait_until(lambda: _all_delivered(site, len(orders)), "cursors at the end of each record")
    shipper.kill()
    shipper.wait()
    codes = crew.exit_codes()
    for folder in spools(site.state / "spool"):
        # One that has logged more since then, or whose writer was killed too early, is left alone.
        if not folder.shipped.exists() and _is_delivered(folder):
            sequence, offset = cursor(folder)
            data = folder.segment(sequence).read_bytes()
            cut = chance.randrange(HEADER_BYTES, offset)
            folder.segment(sequence).write_bytes(data[:cut] + bytes(chance.choice((0, len(data) - cut))))
    site.deliver_all()
    judge(tracking, site, "cut before the cursor", orders, codes)


def test_a_shipper_killed_before_it_has_tidied_up_leaves_nothing(
    tracking: Tracking, site: Site, tmp_path: Path, seed: int
) -> None:
    plan = make_plan(seed, "finish")
    folder = record(site, plan.name, "tidy", tracking.uri, [*plan.threads[0]])
    kept = shutil.copytree(folder.path, tmp_path / "kept")
    site.deliver_all()
    shutil.copytree(kept, folder.path, dirs_exist_ok=True)
    folder.segment(9).with_suffix(".new").write_bytes(b"of a writer that was killed")
    site.deliver_all()
    judge_folder(folder)
