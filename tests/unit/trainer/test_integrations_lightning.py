"""Lightning with our callback: stopped at any moment, it ends with the numbers of a training that was not."""

import signal
from pathlib import Path

import pytest

from tests.unit.trainer.conftest import Laptop
from tests.unit.trainer.examples import FOLDER, finished, measured, same_weights, status, stopped

_SCRIPT = FOLDER / "lightning_loop.py"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Laptop:
    laptop = Laptop(tmp_path_factory.mktemp("undisturbed"))
    finished(laptop, _SCRIPT)
    return laptop


def _assert_same(laptop: Laptop, undisturbed: Laptop) -> None:
    assert measured(laptop) == measured(undisturbed)
    assert same_weights(laptop.folder / "model.pt", undisturbed.folder / "model.pt")
    assert status(laptop) == "FINISHED"


def test_it_records_what_the_module_logs(undisturbed: Laptop) -> None:
    run = undisturbed.json_run()
    assert run["params"] == {"lr": "0.01"}
    # Lightning counts from 0, and validates after each of ten epochs with 16 steps.
    assert [step for step, key, _ in run["points"] if key == "train/loss"] == list(range(160))
    assert [step for step, key, _ in run["points"] if key == "val/loss"] == list(range(15, 160, 16))


# 47 is the last step of an epoch: the validation belongs to it, and Lightning cannot take it up there.
@pytest.mark.parametrize(("step", "saved"), [(37, 39), (47, 49)])
def test_it_goes_on_after_sigterm(laptop: Laptop, undisturbed: Laptop, step: int, saved: int) -> None:
    ended = stopped(laptop, _SCRIPT, step, signal.SIGTERM)
    assert ended.code == 75, ended.stderr
    assert f"checkpoint of step {saved} is written" in ended.stderr
    assert status(laptop) == "SCHEDULED"
    assert not (laptop.folder / "model.pt").exists()
    finished(laptop, _SCRIPT)
    _assert_same(laptop, undisturbed)


def test_it_goes_on_after_sigkill_and_passes_over_half_a_checkpoint(laptop: Laptop, undisturbed: Laptop) -> None:
    assert stopped(laptop, _SCRIPT, 57, signal.SIGKILL).code == -signal.SIGKILL
    (checkpoint,) = laptop.folder.glob(".trainyard/checkpoints/*/*step=40.ckpt")
    cut = checkpoint.with_name("newer.ckpt")
    cut.write_bytes(checkpoint.read_bytes()[:1000])
    ended = finished(laptop, _SCRIPT)
    assert "newer.ckpt is not taken: it is cut" in ended.stderr
    _assert_same(laptop, undisturbed)


# With validations inside epochs, each of which may stop the training, gradients of three batches, and epochs that end with two.
_HARDER = (
    ("max_epochs=10,", "max_epochs=4, accumulate_grad_batches=3, val_check_interval=6,"),
    ("every_n_train_steps=20)", 'every_n_epochs=99), pl.callbacks.EarlyStopping("val/loss", patience=8)'),
)


def test_with_validations_inside_epochs_and_accumulated_gradients(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    text = _SCRIPT.read_text()
    for old, new in _HARDER:
        assert old in text
        text = text.replace(old, new)
    undisturbed, laptop = (Laptop(tmp_path_factory.mktemp(name)) for name in ("undisturbed", "stopped"))
    script = Path(tmp_path_factory.mktemp("script"), "harder.py")
    script.write_text(text)
    finished(undisturbed, script)
    for step in (6, 11, 15):
        ended = stopped(laptop, script, step, signal.SIGTERM)
        assert ended.code == 75, ended.stderr
    finished(laptop, script)
    _assert_same(laptop, undisturbed)
