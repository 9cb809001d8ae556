"""The state directory: whether a spool can be written, bounded and locked there."""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from trainyard.doctor.examination import Check, Doubt, Trouble
from trainyard.doctor.trial import trial_start
from trainyard.environment import JobEnvironment
from trainyard.errors import SpoolError
from trainyard.spool.folder import SpoolFolder, spools
from trainyard.spool.reader import SpoolReader
from trainyard.spool.records import End, Metrics
from trainyard.spool.space import Limits
from trainyard.spool.writer import SEGMENT_BYTES, SpoolWriter

STATE: Final = "state directory"
_ELSEWHERE: Final = "set TRAINYARD_STATE_DIR to a directory of a local disk that this user may write"
_TAKE_LOCK: Final = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)"


def state_checks(environment: JobEnvironment) -> Sequence[Check]:
    """In the order in which they make sense."""
    state = environment.state_dir
    return (
        Check(name=STATE, look=lambda: _write_and_read(state)),
        Check(name="disk space", look=lambda: _space(environment), needs=[STATE]),
        Check(name="file locks", look=lambda: _locks(state), needs=[STATE]),
    )


def _write_and_read(state: Path) -> str:
    """A whole small spool, as a run makes it: files mapped into memory, renamed folders, fsync."""
    with _scratch(state) as folder:
        try:
            writer = SpoolWriter.create(folder, trial_start(), limits=Limits(wait_s=0), warn=lambda _: None)
            writer.metrics({"doctor": 1.5}, step=1)
            writer.sync()
            writer.end(End(status="FINISHED", reason="finished", time_ms=time.time_ns() // 1_000_000), {})
            (record,) = SpoolReader(writer.folder).read(points=1, writer_gone=True)
        except (OSError, SpoolError) as error:
            raise Trouble(f"{state} cannot hold a spool: {error}", _ELSEWHERE) from error
    if not isinstance(record, Metrics) or record.values != (("doctor", 1.5),):
        raise Trouble(f"{state} gives back other bytes than were written", _ELSEWHERE)
    return f"{state}: a record was written and read back"


def _space(environment: JobEnvironment) -> str:
    """Free space and what spools use already must be enough for the bound of one."""
    state, bound = environment.state_dir, environment.spool_bytes
    status = os.statvfs(state)
    free = status.f_bavail * status.f_frsize
    used = sum(folder.used_bytes() for folder in spools(environment.spools))
    seen = f"{_mib(free)} free in {state}; undelivered records may use {_mib(bound)} (TRAINYARD_SPOOL_BYTES)"
    if free < SEGMENT_BYTES:
        raise Trouble(seen, "free some space, or set TRAINYARD_STATE_DIR to another disk")
    if free + used < bound:
        raise Doubt(
            seen,
            "free some space or lower TRAINYARD_SPOOL_BYTES: while a backend is away for long, the disk would be full first",
        )
    return seen


def _locks(state: Path) -> str:
    """A lock must keep another process out: some network file systems grant it to both."""
    with _scratch(state) as folder:
        folder_of_run, lock = SpoolFolder.create(folder, trial_start())
        path = folder_of_run.path / "writer.lock"
        try:
            # -I: nothing that Python finds in this directory or in its environment may run.
            other = subprocess.run([sys.executable, "-IS", "-c", _TAKE_LOCK, path], capture_output=True, check=False)
        finally:
            os.close(lock)
            folder_of_run.released()
        with path.open() as one, path.open() as two:
            fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shared = _gets_flock(two.fileno())
    if other.returncode == 0 or shared:
        raise Trouble(f"{state}: a lock that one process holds is given to another one too", _ELSEWHERE)
    return f"{state}: a lock keeps other processes out"


def _gets_flock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextmanager
def _scratch(state: Path) -> Iterator[Path]:
    """A folder on the file system of the spools that no shipper looks into."""
    try:
        state.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".doctor-", dir=state))
    except OSError as error:
        raise Trouble(f"{state} cannot be written: {error.strerror or error}", _ELSEWHERE) from error
    try:
        yield folder
    except OSError as error:
        raise Trouble(f"{state} does not work as a file system must: {error}", _ELSEWHERE) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
