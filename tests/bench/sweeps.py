"""What a sweep costs around its trials: our workers beside bare `study.optimize` and bare `wandb agent`, with the same program."""

import json
import os
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import optuna
import psycopg2

from tests.bench.table import Row, show, times_better, verdict
from tests.kind.wandb_server.store import ENTITY, KEY

_TRIALS = {"optuna": 20, "wandb": 4}
"""`wandb agent` asks for the next one every 5 s, whoever runs it."""
_ROUNDS = 2
_CROWD = 4
_CROWD_TRIALS = 40
_POLL_S = 0.02
_CONNECTIONS = 2
_PLACE = Path("/var/tmp/sweeps")
_PROGRAM = [sys.executable, "-m", "tests.bench.trial", "{x}"]
_X = {"min": 0.0, "max": 1.0}


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one worker, in seconds."""

    first: float
    """From the start of its process to the first step of its first trial."""
    between: float
    """From the end of a trial to the first step of the next one."""
    end: float
    """From the end of the last trial to that of the process."""
    per_hour: float
    """Trials from the start of the process to its end; 0 s each, so this is the limit for trials that take no time."""


@dataclass(frozen=True, slots=True)
class Way:
    """How a sweep is run."""

    command: Sequence[str]
    environment: dict[str, str]


def _ours(backend: str, url: str, trials: int, **more: str) -> Way:
    """`trainyard sweep run`; its file is new, so that the sweep is."""
    name = f"bench-{uuid.uuid4().hex[:8]}"
    sweep = {
        "name": name,
        "backend": backend,
        "method": "random",
        "metric": {"name": "loss", "goal": "minimize"},
        "parameters": {"x": _X},
        "program": [*_PROGRAM, *(["trainyard"] if backend == "wandb" else [])],
        "trials": trials,
        "experiment": "bench-sweeps",
    }
    if backend == "wandb":
        sweep |= {"entity": ENTITY, "project": "bench"}
    path = _PLACE / f"{name}.yaml"
    path.write_text(json.dumps(sweep))
    address = {"TRAINYARD_OPTUNA_URL": url} if backend == "optuna" else {"WANDB_BASE_URL": url}
    # Nobody else delivers here.
    environment = {"TRAINYARD_SHIPPER": "thread", "TRAINYARD_STATE_DIR": str(_PLACE / name), **address, **more}
    return Way([sys.executable, "-m", "trainyard", "sweep", "run", str(path)], environment)


def _bare_optuna(url: str, trials: int, study: str) -> Way:
    return Way([sys.executable, "-m", "tests.bench.bare_optuna", url, study, str(trials)], {})


def _bare_agent(url: str, trials: int) -> Way:
    """A sweep made beforehand, as by `wandb sweep`, and the agent alone."""
    config = {
        "method": "random",
        "metric": {"name": "loss", "goal": "minimize"},
        "parameters": {"x": _X},
        "command": [sys.executable, "-m", "tests.bench.trial", "${args}", "wandb"],
        "run_cap": trials,
    }
    environment = _of_wandb(url)
    made = subprocess.run(
        [sys.executable, "-c", _MAKE_SWEEP, json.dumps(config)],
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
        text=True,
    )
    sweep = made.stdout.split()[-1]
    return Way([sys.executable, "-m", "wandb", "agent", f"{ENTITY}/bench/{sweep}"], environment)


_MAKE_SWEEP = f"""
import json, sys, wandb
print(wandb.sweep(json.loads(sys.argv[1]), entity={ENTITY!r}, project="bench"))
"""


def _of_wandb(url: str) -> dict[str, str]:
    folders = {f"WANDB_{name}_DIR": str(_PLACE / "wandb") for name in ("CACHE", "CONFIG", "DATA")}
    return {
        "WANDB_BASE_URL": url,
        "WANDB_API_KEY": KEY,
        "WANDB_MODE": "online",
        "WANDB_DIR": str(_PLACE),
        "WANDB_ERROR_REPORTING": "false",
        # Trials that end at once look to it like trials that fail.
        "WANDB_AGENT_DISABLE_FLAPPING": "true",
        **folders,
    }


def _start(way: Way, notes: Path, **more: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, **way.environment, "BENCH_NOTES": str(notes), **more}
    output = notes.with_suffix(".log").open("a")
    with output:
        return subprocess.Popen(list(way.command), env=environment, stdout=output, stderr=output, text=True)


def _noted(notes: Path) -> list[dict[str, float]]:
    lines = notes.read_text().splitlines() if notes.exists() else []
    return sorted((json.loads(line) for line in lines), key=lambda note: note["stepped"])


def _finish(process: "subprocess.Popen[str]", notes: Path) -> None:
    """Raises RuntimeError with what it said if it did not end well."""
    if process.wait(300) != 0:
        raise RuntimeError(f"exit code {process.returncode}: {notes.with_suffix('.log').read_text()[-4000:]}")


def _cost(way: Way, trials: int) -> Cost:
    """One worker alone."""
    notes = _PLACE / f"{uuid.uuid4().hex}.notes"
    began = time.time()
    _finish(_start(way, notes), notes)
    ended = time.time()
    noted = _noted(notes)
    if len(noted) != trials:
        raise RuntimeError(f"{len(noted)} of {trials} trials ran: {notes.with_suffix('.log').read_text()[-4000:]}")
    return Cost(
        first=noted[0]["stepped"] - began,
        between=median(after["stepped"] - before["ended"] for before, after in pairwise(noted)),
        end=ended - noted[-1]["ended"],
        per_hour=3600 * trials / (ended - began),
    )


def _typical(costs: Sequence[Cost]) -> Cost:
    return Cost(*(median(getattr(cost, name) for cost in costs) for name in ("first", "between", "end", "per_hour")))


def _connections(url: str, ways: Sequence[Way]) -> float:
    """The most connections to the database at any time, for each of the workers that run at the same time."""
    notes = _PLACE / f"{uuid.uuid4().hex}.notes"
    processes = [_start(way, notes, JOB_COMPLETION_INDEX=str(index)) for index, way in enumerate(ways)]
    most = 0
    with closing(psycopg2.connect(url.replace("+psycopg2", ""))) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        while any(process.poll() is None for process in processes):
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
                " AND backend_type = 'client backend'"
            )
            ((now,),) = cursor.fetchall()
            most = max(most, int(now))
            time.sleep(_POLL_S)
    for process in processes:
        _finish(process, notes)
    return most / len(ways)


@contextmanager
def _wandb_server() -> Iterator[str]:
    """The stand-in of the tests; gives its address."""
    port = 8080
    process = subprocess.Popen([sys.executable, "-m", "tests.kind.wandb_server", f"--port={port}"])
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(f"{url}/healthz")
        yield url
    finally:
        process.kill()
        process.wait()


def _wait_for(url: str) -> None:
    for _ in range(200):
        try:
            urllib.request.urlopen(url).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"{url} does not answer")


def _rows(backend: str, peer_name: str, ours: Cost, peer: Cost) -> list[Row]:
    def seconds(what: str, mine: float, theirs: float) -> Row:
        return Row(what, f"{mine:.2f} s", f"{peer_name}: {theirs:.2f} s", times_better(mine, theirs))

    rate = times_better(peer.per_hour, ours.per_hour)
    return [
        seconds(f"{backend}: process start to first step", ours.first, peer.first),
        seconds("  end of a trial to first step of the next", ours.between, peer.between),
        seconds("  end of the last trial to end of the process", ours.end, peer.end),
        Row("  trials of 0 s per hour", f"{ours.per_hour:,.0f}", f"{peer_name}: {peer.per_hour:,.0f}", rate),
    ]


def _measure_optuna(url: str) -> list[Row]:
    trials = _TRIALS["optuna"]
    ours, peer = [], []
    for _ in range(_ROUNDS):
        ours.append(_cost(_ours("optuna", url, trials), trials))
        peer.append(_cost(_bare_optuna(url, trials, uuid.uuid4().hex), trials))
    study = uuid.uuid4().hex
    connections = _connections(url, [_ours("optuna", url, _CROWD_TRIALS)] * _CROWD)
    bare = _connections(url, [_bare_optuna(url, _CROWD_TRIALS // _CROWD, study)] * _CROWD)
    few = verdict(f"<= {_CONNECTIONS}", connections <= _CONNECTIONS)
    return [
        *_rows("Optuna", "study.optimize", _typical(ours), _typical(peer)),
        Row(
            f"  database connections per worker, {_CROWD} at work",
            f"{connections:g}",
            f"study.optimize: {bare:g}",
            times_better(connections, bare),
            few,
        ),
    ]


def _measure_wandb() -> list[Row]:
    trials = _TRIALS["wandb"]
    with _wandb_server() as url:
        more: dict[str, Any] = {**_of_wandb(url), "TRAINYARD_TRACKING": "mlflow,wandb"}
        ours = _cost(_ours("wandb", url, trials, **more), trials)
        peer = _cost(_bare_agent(url, trials), trials)
    return _rows("W&B", "wandb agent", ours, peer)


def main() -> None:
    """Measure and print."""
    _PLACE.mkdir(parents=True, exist_ok=True)
    # So that nobody pays for making the tables.
    optuna.storages.RDBStorage(os.environ["TRAINYARD_OPTUNA_URL"]).engine.dispose()
    rows = [*_measure_optuna(os.environ["TRAINYARD_OPTUNA_URL"]), *_measure_wandb()]
    show(
        "A sweep around its trials, which take no time themselves",
        rows,
        "Ours makes the sweep and the run above all trials first, and ends with a report; each trial is supervised, and may be",
        "interrupted and continued by another worker. The peers do none of this. With W&B, where the server must know each trial as a run,",
        "the program logs its value: by `trainyard.run`, and by `wandb.init`; both agents ask for the next trial every 5 s.",
    )


if __name__ == "__main__":
    main()
