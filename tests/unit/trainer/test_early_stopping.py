"""When it is enough."""

import math

import pytest
from trainyard.early_stopping import EarlyStopping


def stops_after(stopping: EarlyStopping, values: list[float]) -> int | None:
    """How many values it took."""
    return next((count for count, value in enumerate(values, start=1) if stopping.stop(value)), None)


def test_it_stops_after_as_many_values_without_gain_as_it_has_patience() -> None:
    assert stops_after(EarlyStopping(patience=2), [3.0, 2.0, 2.5, 2.0, 1.0]) == 4
    assert stops_after(EarlyStopping(patience=3), [3.0, 2.0, 2.5, 2.0, 1.0]) is None


def test_a_gain_makes_it_patient_again() -> None:
    assert stops_after(EarlyStopping(patience=2), [3.0, 4.0, 2.0, 4.0, 1.0, 4.0, 4.0]) == 7


def test_patience_0_never_stops() -> None:
    assert stops_after(EarlyStopping(patience=0), [1.0] * 100) is None


def test_a_gain_that_is_too_small_is_none() -> None:
    assert stops_after(EarlyStopping(patience=2, least_gain=0.5), [3.0, 2.6, 2.5, 0.0]) == 3
    assert stops_after(EarlyStopping(patience=2, least_gain=0.5), [3.0, 2.4, 1.8]) is None


def test_a_value_that_is_no_number_is_no_gain() -> None:
    assert stops_after(EarlyStopping(patience=2), [math.nan, math.nan]) == 2
    assert stops_after(EarlyStopping(patience=2), [1.0, math.nan, 0.5, math.nan, math.inf]) == 5


@pytest.mark.parametrize("after", range(7))
def test_it_goes_on_where_it_was(after: int) -> None:
    values = [3.0, 2.0, 2.5, 1.9, 2.5, 2.5, 2.5]
    before, resumed = EarlyStopping(patience=3), EarlyStopping(patience=3)
    for value in values[:after]:
        before.stop(value)
    resumed.load_state_dict(before.state_dict())
    assert (resumed.best, resumed.since_best) == (before.best, before.since_best)
    assert stops_after(resumed, values[after:]) == 7 - after


@pytest.mark.parametrize(("patience", "least_gain"), [(-1, 0.0), (1, -0.1), (1, math.nan), (1, math.inf)])
def test_impossible_settings_are_refused(patience: int, least_gain: float) -> None:
    with pytest.raises(ValueError, match=f"patience {patience}, least_gain {least_gain}"):
        EarlyStopping(patience=patience, least_gain=least_gain)
