"""The tracking record that a checkpoint carries, for a pod whose disk is gone."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from trainyard.checkpoint.finding import check_sizes, find_newest
from trainyard.checkpoint.layout import RECORD, Manifest, Name
from trainyard.checkpoint.patience import Patience
from trainyard.checkpoint.store import store_at

PATIENCE_S: Final = 300.0
"""Seconds that a start waits for a store which does not answer."""


def saved_record(uri: str, say: Callable[[str], None], *, pause: Callable[[float], None] = time.sleep) -> bytes | None:
    """What the newest complete checkpoint below `uri`, a Checkpointer's, has of the run's record; None if it has none.

    Of the training's state only the size is looked at. Raises CheckpointError, ConfigError, and what `pause` raises.
    """

    def wait(seconds: float) -> bool:
        pause(seconds)
        return True

    store = store_at(uri, staging=Path(tempfile.gettempdir()))
    patiently = Patience(limit_s=PATIENCE_S, wait=wait, say=say)

    def take(name: Name, manifest: Manifest) -> bytes | None:
        check_sizes(store, name, manifest, patiently)
        if RECORD not in manifest.files:
            return None
        with patiently(lambda: store.fetch(name, RECORD, manifest.files[RECORD])) as file:
            return file.read()

    return find_newest(store, take, patiently=patiently, say=say).content
