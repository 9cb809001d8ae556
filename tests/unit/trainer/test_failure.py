"""A bug while training."""

from pathlib import Path

import pytest
from trainyard.interruption import Interruption
from trainyard.tasks.digits.config import DigitsConfig
from trainyard.training import execute

from tests.unit.trainer.broken_task import BROKEN
from tests.unit.trainer.conftest import Laptop


def test_a_bug_makes_a_failed_run_with_its_traceback(laptop: Laptop) -> None:
    with pytest.raises(ZeroDivisionError):
        execute(BROKEN, DigitsConfig(), laptop.environment, Interruption(), say=print)
    (run,) = laptop.runs()
    assert run.info.status == "FAILED"
    assert run.data.tags["trainyard.end_reason"] == "failed"
    assert run.data.metrics == {"loss": 1.0}, "what was measured before the bug is kept"
    text = Path(laptop.client.download_artifacts(run.info.run_id, "traceback.txt")).read_text()
    assert text.rstrip().endswith("ZeroDivisionError: a bug in the training code")
    assert "broken_task.py" in text
    assert run.data.tags["trainyard.traceback"] == text
