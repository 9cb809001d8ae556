"""A run that is made to see whether that works, and removed again."""

import time
import uuid
from collections.abc import Mapping
from typing import Final

from trainyard.spool.records import Start

EXPERIMENT: Final = "trainyard-doctor"


def trial_start(settings: Mapping[str, str] | None = None) -> Start:
    """How it begins."""
    uid = uuid.uuid4().hex
    return Start(
        uid=uid,
        name=f"doctor_{uid[:6]}",
        experiment=EXPERIMENT,
        tags={},
        time_ms=time.time_ns() // 1_000_000,
        backends=(),
        settings=settings or {},
    )
