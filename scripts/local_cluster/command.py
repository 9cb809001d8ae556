"""Run other programs, and keep what they said for when they fail."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

from local_cluster.errors import CommandError

TAIL_LINES = 30


def run(
    *argv: str | Path,
    check: bool = True,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout_s: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program and capture its output.

    Raises CommandError if `check` and the exit code is not 0, or when `timeout_s` ran out.
    """
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(
            words,
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            env=_environment(env),
            cwd=cwd,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as expired:
        raise CommandError(shlex.join(words), 124, f"no end after {timeout_s:.0f} s") from expired
    if check and done.returncode != 0:
        raise CommandError(shlex.join(words), done.returncode, _tail(done.stderr + done.stdout))
    return done


def output(*argv: str | Path, env: Mapping[str, str] | None = None, timeout_s: float | None = None) -> str:
    """The standard output of a program, without the last newline. Raises CommandError."""
    return run(*argv, env=env, timeout_s=timeout_s).stdout.rstrip("\n")


def run_logged(*argv: str | Path, log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> None:
    """Run a program whose output goes to the file `log`. Raises CommandError with the end of it."""
    words = [str(word) for word in argv]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as sink:
        done = subprocess.run(
            words,
            stdout=sink,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=_environment(env),
            cwd=cwd,
            check=False,
        )
    if done.returncode != 0:
        raise CommandError(shlex.join(words), done.returncode, _tail(log.read_text(errors="replace")), log)


def pipe(source: list[str], sink: list[str], log: Path) -> None:
    """Run `source | sink`; what the two say apart from the data goes to `log`. Raises CommandError with the end of it."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as said, subprocess.Popen(source, stdout=subprocess.PIPE, stderr=said) as producer:
        consumer = subprocess.run(sink, stdin=producer.stdout, stdout=said, stderr=said, check=False)
        if producer.stdout:
            producer.stdout.close()
    for command, code in ((sink, consumer.returncode), (source, producer.returncode)):
        if code != 0:
            raise CommandError(shlex.join(command), code, _tail(log.read_text(errors="replace")), log)


def _environment(extra: Mapping[str, str] | None) -> dict[str, str] | None:
    return {**os.environ, **extra} if extra else None


def _tail(text: str) -> str:
    return "\n".join(text.rstrip().splitlines()[-TAIL_LINES:])
