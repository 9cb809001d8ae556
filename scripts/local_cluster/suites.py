"""scripts/test: every test there is, a line a suite at the end, and nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from local_cluster import cluster, down, engine, foundation, images, state
from local_cluster.command import run_logged
from local_cluster.errors import CommandError, UserError
from local_cluster.report import say, step, table
from local_cluster.settings import REPOSITORY, Settings
from local_cluster.tools import content_key

USAGE = "Usage: scripts/test [--keep] [lint|chart|unit|bench|kind]... [-- PYTEST-ARGUMENT...]"
TEST_CLUSTER = "trainyard-test"
COVERAGE_PERCENT = 90
"""Lines of the package that the trainer's tests must reach."""
PASSED, FAILED, WRONG_USAGE = 0, 1, 2
NOTHING_SELECTED = 5
"""Exit code of pytest when its arguments (-k) leave no test."""


@dataclass(frozen=True, kw_only=True)
class Session:
    """What the suites share."""

    settings: Settings
    python: Path
    """Interpreter of the environment that the tests run in."""
    arguments: tuple[str, ...]
    """Handed on to pytest."""
    ground: foundation.Foundation | None = None
    """None for suites that need no engine."""


def run(settings: Settings, arguments: list[str]) -> int:
    """Run the suites named, or all. Returns the exit code."""
    own, handed_on = _split(arguments)
    keep = "--keep" in own
    names = [name for name in own if name != "--keep"] or list(SUITES)
    if unknown := sorted(set(names) - set(SUITES)):
        print(f"There is no suite '{unknown[0]}'.\n{USAGE}", file=sys.stderr)
        return WRONG_USAGE
    if "TRAINYARD_CLUSTER" not in os.environ:
        settings = replace(settings, cluster=TEST_CLUSTER)
    try:
        with state.exclusive(settings.state / "test.lock", "scripts/test"):
            return _run_all(
                Session(settings=settings, python=_environment(settings), arguments=tuple(handed_on)), names
            )
    finally:
        if keep:
            say(f"kept: cluster {settings.cluster}; remove it with TRAINYARD_CLUSTER={settings.cluster} scripts/down")
        elif set(names) - {"lint"}:
            down.down(settings)


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """What stands before `--`, for us, and after it, for pytest."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:at], arguments[at + 1 :]


def _run_all(session: Session, names: list[str]) -> int:
    rows: list[tuple[str, ...]] = [("suite", "result", "time")]
    failed = False
    for name in [suite for suite in SUITES if suite in names]:
        say(f"== {name}")
        began = time.monotonic()
        if name != "lint" and session.ground is None:
            session = replace(session, ground=_lay_foundation(session.settings, names))
        passed = SUITES[name](session)
        failed = failed or not passed
        rows.append((name, "passed" if passed else "FAILED", f"{time.monotonic() - began:.0f} s"))
    print(f"\n{table(rows)}", flush=True)
    return FAILED if failed else PASSED


def _lay_foundation(settings: Settings, names: list[str]) -> foundation.Foundation:
    """What the suites of these names need, built in one go."""
    wanted: tuple[images.Image, ...] = images.IMAGES if {"unit", "bench", "kind"} & set(names) else ()
    if {"unit", "kind"} & set(names):
        wanted += (images.RAY,)
    if {"unit", "bench"} & set(names):
        wanted += (images.TRAINER_TEST,)
    engine.ensure(settings)
    return foundation.lay(settings, wanted, cluster="kind" in names)


def _environment(settings: Settings) -> Path:
    """A virtual environment with the locked test requirements; made once for each lock file."""
    tests = REPOSITORY / "tests"
    folder = (
        settings.cache
        / "test-environments"
        / f"{content_key(tests, 'requirements.txt')}-{sys.version_info[0]}.{sys.version_info[1]}"
    )
    python = folder / "bin/python"
    if (folder / "complete").exists():
        return python
    log = settings.logs / "test-environment.log"
    with step("install the test requirements", log):
        try:
            run_logged(sys.executable, "-m", "venv", "--clear", folder, log=log)
        except CommandError as failed:
            raise UserError(
                f"Python's venv module does not work here; on Debian and Ubuntu: apt-get install python3-venv.\n{failed}"
            ) from failed
        run_logged(
            python, "-m", "pip", "install", "--require-hashes", "--no-deps", "-r", tests / "requirements.txt", log=log
        )
    (folder / "complete").touch()
    return python


def _lint(session: Session) -> bool:
    scripts = [REPOSITORY / f"scripts/{name}" for name in ("up", "down", "image", "test")] + [REPOSITORY / ".ci/run"]
    scripts += sorted(path for path in REPOSITORY.glob("images/**/*") if path.is_file() and _is_shell(path))
    commands = [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy"],
        ["shellcheck", "--external-sources", *(str(path.relative_to(REPOSITORY)) for path in scripts)],
    ]
    results = [_call([str(session.python.parent / command[0]), *command[1:]], {}) for command in commands]
    return all(results)


def _is_shell(path: Path) -> bool:
    with path.open("rb") as file:
        first = file.readline()
    return first.startswith(b"#!") and b"sh" in first


def _unit(session: Session) -> bool:
    assert session.ground is not None
    suites = ("local_cluster", "images", "delivery", "checkpoint_s3", "sweeps")
    # They mostly wait, each file for servers of its own.
    here = _pytest(session, "-n", "3", "--dist", "loadfile", *[f"tests/unit/{name}" for name in suites])
    return _trainer_tests(session, session.ground.references["trainer-test"]) and here


def _trainer_tests(session: Session, image: str) -> bool:
    """The trainer's tests run where the trainer runs: in its image, and without a network."""
    command = [
        "docker",
        "run",
        "--rm",
        "--network=none",
        "--read-only",
        "--tmpfs=/tmp:exec",
        f"--volume={REPOSITORY}:/repository:ro",
    ]
    # The folder in front makes every process that a test starts measure its coverage, too.
    path = "/repository/tests/unit/trainer/coverage:/repository/trainer/src:/repository"
    command += [f"--env=PYTHONPATH={path}", "--env=COVERAGE_PROCESS_START=/repository/pyproject.toml"]
    # As many workers as cores: threads of their own would only be in each other's way.
    command += ["--env=COVERAGE_FILE=/tmp/coverage", "--env=OMP_NUM_THREADS=1", "--workdir=/repository", image]
    command += ["pytest", "-p", "no:cacheprovider", "-n", "auto", "--dist", "worksteal", "tests/unit/trainer"]
    command += session.arguments
    # A selection of tests covers what it covers.
    command += (
        [] if session.arguments else ["--cov", f"--cov-fail-under={COVERAGE_PERCENT}", "--cov-report=term:skip-covered"]
    )
    return _call(command, {}, accept=_accepted(session))


def _bench(session: Session) -> bool:
    """Prints its tables; it fails where something does not work, never because it is slow."""
    return _call([str(session.python), "-m", "tests.bench"], _test_environment(session))


def _chart(session: Session) -> bool:
    return _pytest(session, "tests/chart")


def _kind(session: Session) -> bool:
    assert session.ground is not None
    settings, ground = session.settings, session.ground
    assert ground.node is not None
    with state.exclusive(settings.home / "lock", "scripts/test"):
        cluster.ensure(settings, ground.tools, ground.node, ground.base, workers=1)
        platform = {image.name: ground.references[image.name] for image in (*images.IMAGES, images.RAY)}
        images.load(settings, platform, cluster.workload_nodes(settings.cluster))
        return _pytest(session, "tests/kind")


def _pytest(session: Session, *arguments: str) -> bool:
    command = [str(session.python), "-m", "pytest", *arguments, *session.arguments]
    return _call(command, _test_environment(session), accept=_accepted(session))


def _test_environment(session: Session) -> dict[str, str]:
    """What tests on this machine are told."""
    assert session.ground is not None
    ground = session.ground
    return {
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY / "scripts"), str(REPOSITORY / "trainer/src")]),
        "TRAINYARD_CLUSTER": session.settings.cluster,
        "HELM": ground.tools.helm,
        "KUBECTL": ground.tools.kubectl,
        "KIND": ground.tools.kind,
        **{f"TRAINYARD_IMAGE_{name.upper().replace('-', '_')}": tagged for name, tagged in ground.references.items()},
    }


def _accepted(session: Session) -> tuple[int, ...]:
    """Exit codes of pytest that are no failure: a selection need not touch every suite."""
    return (PASSED, NOTHING_SELECTED) if session.arguments else (PASSED,)


def _call(command: list[str], environment: dict[str, str], *, accept: tuple[int, ...] = (PASSED,)) -> bool:
    """Run with the output in plain sight; whether it ended well."""
    return subprocess.run(command, cwd=REPOSITORY, env={**os.environ, **environment}, check=False).returncode in accept


SUITES: dict[str, Callable[[Session], bool]] = {
    "lint": _lint,
    "chart": _chart,
    "unit": _unit,
    "bench": _bench,
    "kind": _kind,
}
