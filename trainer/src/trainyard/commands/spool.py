"""`trainyard spool show|verify|ship`: what is recorded and not delivered yet."""

import argparse
import os
import signal
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from trainyard import exit_codes
from trainyard.environment import JobEnvironment, seconds
from trainyard.errors import ConfigError, Interrupted, SpoolError
from trainyard.interruption import Interruption
from trainyard.shipping.cursor import Cursor
from trainyard.shipping.service import Service
from trainyard.spool.folder import SpoolFolder, spools
from trainyard.spool.reader import Damage, Position, SpoolReader
from trainyard.spool.records import End, Metrics, Record

_say = partial(print, flush=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of this command."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="show|verify|ship")
    show = verbs.add_parser("show", help="runs that are recorded here, and how much of each is delivered")
    verify = verbs.add_parser("verify", help="read every record and check it; exit code 1 if one is damaged")
    ship = verbs.add_parser("ship", help="deliver what is not delivered yet; exit code 1 if that fails")
    for verb in (show, verify, ship):
        verb.add_argument("folder", nargs="?", metavar="STATE_DIR", help="in place of TRAINYARD_STATE_DIR")
    ship.add_argument("--follow", action="store_true", help="go on with what is being written, until SIGTERM")


def run(options: argparse.Namespace, environ: "os._Environ[str]", interruption: Interruption) -> int:
    """Look at the spools, or ship them; returns the exit code."""
    environment = JobEnvironment.read(environ)
    parent = Path(options.folder, "spool").absolute() if options.folder else environment.spools
    if options.folder and not parent.is_dir():
        raise ConfigError(f"{options.folder}: there is no spool below this directory")
    match options.verb:
        case "show":
            return _show(parent)
        case "verify":
            return _verify(parent)
    if options.follow:
        return _follow(parent, environment, environ, interruption)
    service = Service(parent, say=_say)
    service.stop_within(environment.ship_deadline_s)
    interruption.check()
    return exit_codes.FINISHED if service.run(only_abandoned=True) else exit_codes.FAILED


def _follow(parent: Path, environment: JobEnvironment, environ: "os._Environ[str]", interruption: Interruption) -> int:
    grace_s = seconds("TRAINYARD_SHIP_GRACE_S", environ.get("TRAINYARD_SHIP_GRACE_S") or "25")
    # Pods of one Job may share a volume: what is left of earlier ones is the first one's business, what others write is theirs.
    first = environ.get("JOB_COMPLETION_INDEX", "0") == "0"
    service = Service(parent, say=_say, only_pod=environment.pod_name, leftovers=first)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: service.stop_within(grace_s))
    try:
        interruption.check()
    except Interrupted:  # before there was anybody to tell
        service.stop_within(grace_s)
    _say(f"delivering what appears in {parent}; after SIGTERM what is there, for {grace_s:.0f} s at most")
    return exit_codes.FINISHED if service.run() else exit_codes.FAILED


def _show(parent: Path) -> int:
    found = spools(parent)
    if not found:
        _say(f"nothing is recorded in {parent}")
    for folder in found:
        start = folder.start()
        began = datetime.fromtimestamp(start.time_ms / 1000, UTC)
        _say(f"{start.name}  experiment {start.experiment}, began {began:%Y-%m-%d %H:%M:%S} UTC, {folder.uid}")
        if folder.shipped.exists():
            _say(f"  delivered to {', '.join(start.backends)}")
            continue
        records, end, _ = _count(folder)
        state = end.status if end else "being written" if folder.writer_alive() else "its process vanished"
        _say(f"  {state}; {folder.used_bytes() / 2**20:.1f} MiB; here: {_describe(records)}")
        for backend in start.backends:
            cursor = Cursor(folder, backend, say=_say)
            _say(f"  {backend}: {cursor.points} points delivered{', complete' if cursor.ended else ''}")
    return exit_codes.FINISHED


def _verify(parent: Path) -> int:
    damaged = False
    for folder in spools(parent):
        try:
            records, _, damage = _count(folder)
        except SpoolError as error:
            damaged = True
            _say(f"{folder.path}: {error}")
            continue
        damaged = damaged or damage.places > 0
        verdict = f"{damage.places} damaged places, {damage.bytes} bytes" if damage.places else "intact"
        _say(f"{folder.path}: {verdict}; {_describe(records)}")
    return exit_codes.FAILED if damaged else exit_codes.FINISHED


def _count(folder: SpoolFolder) -> tuple["Counter[str]", End | None, Damage]:
    """How many of each kind are in the segments that are there, the end, and what is damaged."""
    reader = _reader_of_all(folder)
    gone = not folder.writer_alive()
    counts: Counter[str] = Counter()
    end = None
    for record in _records(reader, gone):
        counts[type(record).__name__.lower()] += 1
        if isinstance(record, Metrics):
            counts["points"] += len(record.values)
        if isinstance(record, End):
            end = record
    return counts, end, reader.damage


def _records(reader: SpoolReader, gone: bool) -> Iterator[Record]:
    while records := reader.read(points=1000, writer_gone=gone):
        yield from records


def _reader_of_all(folder: SpoolFolder) -> SpoolReader:
    return SpoolReader(folder, Position(segment=next(iter(folder.segments()), 1)))


def _describe(counts: "Counter[str]") -> str:
    return ", ".join(f"{number} {kind}" for kind, number in counts.items()) or "no records"
