"""python -m tests.bench [calls|steps|shipper|checkpoints|resume|sweeps|lm]...: start the servers, run the parts named or all, remove everything again."""

import os
import signal
import sys
import time

from tests.bench.servers import servers

_PARTS = ("calls", "steps", "shipper", "checkpoints", "resume", "sweeps", "lm")
_DONE, _WRONG_USAGE = 0, 2


def main(names: list[str]) -> int:
    """Returns the exit code. Fails if something does not work; how fast it was is for the reader to judge."""
    if unknown := [name for name in names if name not in _PARTS]:
        print(f"There is no part '{unknown[0]}': choose from {', '.join(_PARTS)}.", file=sys.stderr)
        return _WRONG_USAGE
    began = time.monotonic()
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    with servers() as ground:
        for name in [part for part in _PARTS if part in (names or _PARTS)]:
            print(f"\n== {name}: {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
            if not ground.run(f"tests.bench.{name}"):
                raise SystemExit(f"{name} did not work; its output is above, the last lines of the servers above that")
    print(f"\nThe bench took {time.monotonic() - began:.0f} s.")
    return _DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
