"""A signal at a chosen line of our own code: moments that last a microsecond are met as often as those that last a second.

`python -m tests.unit.delivery.ambush AMBUSH ARGUMENT...` is `python -m trainyard ARGUMENT...` with one.
"""

import json
import os
import random
import runpy
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import trainyard

SOURCE = Path(trainyard.__file__).parent


@dataclass(frozen=True, slots=True)
class Ambush:
    """The signal comes before the line is executed for the `count`th time."""

    file: str
    line: int
    count: int
    signal: int = signal.SIGKILL

    def dump(self) -> str:
        """As an argument of a command."""
        return json.dumps(asdict(self))


def lay(ambush: Ambush) -> None:
    """From now on, in this thread and those that it starts."""
    left = ambush.count

    def watch_lines(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal left
        if event == "line" and frame.f_lineno == ambush.line:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), ambush.signal)
                time.sleep(0.05)  # another thread may be the one that takes it: this one must not go on before
        return watch_lines

    def watch_calls(frame: FrameType, _event: str, _argument: Any) -> Any:
        return watch_lines if frame.f_code.co_filename.endswith(ambush.file) else None

    threading.settrace(watch_calls)
    sys.settrace(watch_calls)


def somewhere(chance: random.Random, files: tuple[str, ...], number: signal.Signals = signal.SIGKILL) -> Ambush:
    """At any line of any function in `files`, relative to the package."""
    file = chance.choice(files)
    return Ambush(file, chance.choice(_lines(SOURCE / file)), 1 + int(chance.expovariate(0.3)), number)


def lines_of(file: str, function: str) -> list[int]:
    """Where `function` of that file can be met."""
    return _lines(SOURCE / file, function)


def _lines(path: Path, function: str | None = None) -> list[int]:
    module = compile(path.read_text(), str(path), "exec")
    codes = [code for code in _functions(module) if function in (None, code.co_name)]
    return sorted({line for code in codes for _, _, line in code.co_lines() if line is not None})


def _functions(code: CodeType) -> Iterator[CodeType]:
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            if inner.co_flags & 0x02:  # CO_NEWLOCALS: a function, not the body of a class
                yield inner
            yield from _functions(inner)


def _main() -> None:
    lay(Ambush(**json.loads(sys.argv[1])))
    sys.argv = ["trainyard", *sys.argv[2:]]
    runpy.run_module("trainyard", run_name="__main__")


if __name__ == "__main__":
    _main()
