"""What a writer logs: the same from the same seed, in the process that logs it and in the test that looks for it."""

import hashlib
import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

End = Literal["finish", "raise", "linger"]
"""`linger`: wait to be ended by a signal."""

_SPECIAL = (math.nan, math.inf, -math.inf, 0.0, 5e-324, -1.7976931348623157e308, 0.1 + 0.2)
_HIGHEST = 1.7976931348623157e308
"""What MLflow stores for infinity."""


class Row(NamedTuple):
    """A row of MLflow's table `metrics`, its run apart."""

    key: str
    step: int
    time_ms: int
    value: float
    is_nan: bool


@dataclass(frozen=True, slots=True)
class LogMetrics:
    """One call with all of its values."""

    step: int
    time_ms: int
    values: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class LogParams:
    """One call."""

    values: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class SetTags:
    """One call; the same tag again replaces it."""

    values: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class LogBytes:
    """An artifact."""

    name: str
    size: int

    @property
    def content(self) -> bytes:
        """Random, and the same each time."""
        return random.Random(self.name).randbytes(self.size)


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing is logged for so long."""

    seconds: float


Call = LogMetrics | LogParams | SetTags | LogBytes | Pause


@dataclass(frozen=True, slots=True)
class Plan:
    """What one process logs."""

    name: str
    threads: tuple[tuple[Call, ...], ...]
    """In order within a thread."""
    end: End
    tracking: str


def make_plan(seed: int, end: End) -> Plan:
    """A writer's life: 1 to 3 threads, calm or hasty."""
    chance = random.Random(seed)
    name = f"writer-{seed}"
    count = chance.choice((1, 1, 2, 3))
    return Plan(
        name=name,
        threads=tuple(tuple(_calls(chance, name, thread, hasty=chance.random() < 0.5)) for thread in range(count)),
        end=end,
        tracking=chance.choice(("mlflow", "mlflow", "json,mlflow")),
    )


def _calls(chance: random.Random, name: str, thread: int, *, hasty: bool) -> Iterable[Call]:
    keys = [f"thread {thread}/metric-{number}" for number in range(300)]
    time_ms = 1_700_000_000_000 + thread
    for step in range(chance.randrange(20, 250 if hasty else 60)):
        kind = chance.random()
        # Mostly another millisecond than the call before, now and then the same, and sometimes an earlier one.
        time_ms += chance.choice((0, 1, 7, 1000, -3))
        if kind < 0.9:
            width = chance.choice((1, 1, 2, 3, 3, 10)) if chance.random() < 0.97 else chance.randrange(100, 300)
            chosen = chance.sample(keys[: 2 * width], width)
            yield LogMetrics(step, time_ms, tuple((key, _value(chance)) for key in chosen))
        elif kind < 0.93:
            yield LogParams(tuple((f"{thread}.{step}.{number}", "x" * number) for number in range(1, 4)))
        elif kind < 0.96:
            yield SetTags(((f"tag {thread}", str(step)), (f"tag {thread} of {step}", "é" * 100)))
        elif kind < 0.97:
            yield LogBytes(f"files/{name}-{thread}-{step}.bin", chance.choice((0, 1, 1000, 200_000)))
        elif not hasty:
            yield Pause(chance.uniform(0, 0.05))


def _value(chance: random.Random) -> float:
    return chance.choice(_SPECIAL) if chance.random() < 0.1 else chance.uniform(-1e6, 1e6)


def rows(call: Call) -> set[Row]:
    """What MLflow is to store of it."""
    if not isinstance(call, LogMetrics):
        return set()
    return {Row(key, call.step, call.time_ms, *_stored(value)) for key, value in call.values}


def _stored(value: float) -> tuple[float, bool]:
    if math.isnan(value):
        return 0.0, True
    return max(-_HIGHEST, min(value, _HIGHEST)), False


def params(calls: Sequence[Call]) -> dict[str, str]:
    """Of all the calls."""
    return {key: value for call in calls if isinstance(call, LogParams) for key, value in call.values}


def tags(calls: Sequence[Call]) -> dict[str, str]:
    """Of all the calls: the last value of each."""
    return {key: value for call in calls if isinstance(call, SetTags) for key, value in call.values}


def artifacts(calls: Sequence[Call]) -> dict[str, str]:
    """SHA-256 by name."""
    return {call.name: hashlib.sha256(call.content).hexdigest() for call in calls if isinstance(call, LogBytes)}
