"""Taking a spool along in a checkpoint, for a pod whose disk is lost with it."""

import contextlib
import io
import json
import os
import tarfile
import tempfile
from pathlib import Path

from trainyard.errors import SpoolError
from trainyard.spool.folder import FOLDER_MODE, SpoolFolder, attempts, folder_name
from trainyard.tracking.run import Run
from trainyard.tracking.spooled_run import SpooledRun


def pack(run: Run) -> bytes | None:
    """What is recorded of `run` and not known to be delivered, as a compressed tar; None for a process that records nothing."""
    if not isinstance(run, SpooledRun):
        return None
    archive = io.BytesIO()
    with tempfile.TemporaryDirectory(dir=run.folder.path.parent, prefix=".carried-") as folder:
        while not _collect(run.folder, Path(folder)):
            pass  # the shipper went on meanwhile
        # Reserved space is zeros, which compress to nothing.
        with tarfile.open(fileobj=archive, mode="w:gz", compresslevel=1) as tar:
            tar.add(folder, arcname=".")
    return archive.getvalue()


def unpack(parent: Path, uid: str, record: bytes) -> None:
    """Make the spool that was packed part of the spools in `parent`, unless something is recorded of its run there already.

    Raises SpoolError for what is no packed spool.
    """
    if attempts(parent, uid):
        return
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix=".carried-") as temporary:
        folder = Path(temporary, uid)
        try:
            with tarfile.open(fileobj=io.BytesIO(record)) as tar:
                tar.extractall(folder, filter="data")
        except (tarfile.TarError, OSError, EOFError) as error:
            raise SpoolError(f"the record that a checkpoint brought along cannot be read: {error}") from error
        _forget_rows(folder / "cursors/wandb.json")
        number = SpoolFolder(folder).start().attempt
        folder.chmod(FOLDER_MODE)
        folder.rename(parent / folder_name(uid, number))


def _collect(spool: SpoolFolder, folder: Path) -> bool:
    """Fill `folder`; whether its cursors and its segments are of one time."""
    for each in folder.rglob("*"):
        if not each.is_dir():
            each.unlink()
    for name in ("cursors", "artifacts"):
        (folder / name).mkdir(exist_ok=True)
    segments = spool.segments()
    for sequence in segments:
        _link(spool.segment(sequence), folder)
    copies = [path for path in spool.artifacts.rglob("*") if path.is_file() and not path.name.startswith(".")]
    for path in copies:
        _link(path, folder / path.relative_to(spool.path).parent)
    # The cursors last: what they take for delivered may be missing, what they do not is there.
    positions = []
    for path in (spool.path / "cursors").glob("*.json"):
        content = path.read_bytes()
        (folder / "cursors" / path.name).write_bytes(content)
        positions.append(json.loads(content)["segment"])
    (folder / "start.json").write_bytes((spool.path / "start.json").read_bytes())
    here = {int(path.stem) for path in folder.glob("*.spool")}
    return here == set(segments) and all(position <= max(segments) for position in positions)


def _link(path: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):  # delivered meanwhile
        os.link(path, folder / path.name)


def _forget_rows(cursor: Path) -> None:
    """W&B numbers its rows: what the lost pod delivered after the checkpoint was written has taken the next ones."""
    if cursor.exists():
        content = json.loads(cursor.read_bytes())
        content["state"].pop("base", None)
        content["state"]["rows"] = 0
        cursor.write_text(json.dumps(content))
