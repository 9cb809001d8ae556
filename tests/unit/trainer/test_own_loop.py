"""A loop of one's own with a Checkpointer: stopped at any moment, it ends with the numbers of one that was not."""

import signal
from pathlib import Path

import pytest

from tests.unit.trainer.conftest import Laptop
from tests.unit.trainer.examples import FOLDER, finished, measured, same_weights, status, stopped

_SCRIPT = FOLDER / "own_loop.py"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Laptop:
    laptop = Laptop(tmp_path_factory.mktemp("undisturbed"))
    finished(laptop, _SCRIPT)
    return laptop


def _assert_same(laptop: Laptop, undisturbed: Laptop) -> None:
    assert measured(laptop) == measured(undisturbed)
    assert [step for key, step in measured(laptop) if key == "train/loss"] == list(range(1, 321))
    assert same_weights(laptop.folder / "model.pt", undisturbed.folder / "model.pt")
    assert status(laptop) == "FINISHED"


def test_it_goes_on_after_sigterm(laptop: Laptop, undisturbed: Laptop) -> None:
    ended = stopped(laptop, _SCRIPT, 37, signal.SIGTERM)
    assert ended.code == 75, ended.stderr
    assert status(laptop) == "SCHEDULED"
    assert not Path(laptop.folder, "model.pt").exists()
    assert "going on after step 37" in finished(laptop, _SCRIPT).stderr
    _assert_same(laptop, undisturbed)


def test_it_goes_on_after_sigkill(laptop: Laptop, undisturbed: Laptop) -> None:
    ended = stopped(laptop, _SCRIPT, 57, signal.SIGKILL, beyond="step-000000040")
    assert ended.code == -signal.SIGKILL
    assert "going on after step 40" in finished(laptop, _SCRIPT).stderr
    _assert_same(laptop, undisturbed)


def test_it_may_be_stopped_again_and_again(laptop: Laptop, undisturbed: Laptop) -> None:
    for step in (16, 100, 101):
        assert stopped(laptop, _SCRIPT, step, signal.SIGTERM).code == 75
    finished(laptop, _SCRIPT)
    _assert_same(laptop, undisturbed)
