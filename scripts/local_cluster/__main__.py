"""Entry point of the scripts: `python3 -m local_cluster VERB [ARGUMENT...]`."""

from __future__ import annotations

import signal
import sys

if sys.version_info < (3, 11):
    found = ".".join(map(str, sys.version_info[:3]))
    sys.exit(f"Python {found} is too old: 3.11 or newer is needed. Put it first on PATH as python3.")

from local_cluster import down, image, suites, up
from local_cluster.errors import CommandError, UserError
from local_cluster.settings import read_settings


def main(arguments: list[str]) -> int:
    """Run one command. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    verb, *rest = arguments
    # A stopped CI job or a closed terminal must find its way through every clean-up, as Ctrl-C does.
    for ending in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(ending) is not signal.SIG_IGN:  # nohup must keep its meaning
            signal.signal(ending, signal.default_int_handler)
    if verb in ("up", "down") and rest:
        print(
            f"scripts/{verb} takes no arguments; see its first lines for the environment variables it reads.",
            file=sys.stderr,
        )
        return 2
    try:
        settings = read_settings()
        if verb == "up":
            up.up(settings)
        elif verb == "down":
            down.down(settings)
        elif verb == "image":
            image.image(settings, rest)
        else:
            return suites.run(settings, rest)
    except (UserError, CommandError) as failed:
        print(f"\nscripts/{verb} stopped: {failed}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            f"\nscripts/{verb} was interrupted. Run it again to go on; scripts/down removes what is there.",
            file=sys.stderr,
        )
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
