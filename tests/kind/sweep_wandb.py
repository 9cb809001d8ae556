"""W&B sweeps on the stand-in server, side by side: what happens to each."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Final

from tests.kind import wandb_standin
from tests.kind.platform import Platform
from tests.kind.sweep_jobs import Ended, SweepJob, start_sweep
from tests.kind.wandb_server.store import ENTITY

WORKERS: Final = 3
TRIALS: Final = 6
STEPS: Final = 50
OUTAGE_S: Final = 60
END_S: Final = 30
"""So soon a sweep has ended that is stopped at the server."""
PROJECT: Final = "sweeps"
_ANYWHERE: Final = {"min": 0.0, "max": 1.0}
_STEP_S: Final = 0.5
_FOR_EVER: Final = 10_000
_WRONG_KEY: Final = "wrong-" + "0" * 40
_OUTAGE_STATUS: Final = 503


def searches(platform: Platform, token: str) -> Mapping[str, Future[Ended]]:
    """A bayes and a grid search whose workers are interrupted, and for which the server is away for a minute; and three that cannot end well.

    The server is one for all, so that what needs its answer in time comes first.
    """
    jobs = {
        "bayes": _start(platform, f"bayes-{token}", "bayes", _ANYWHERE),
        "grid": _start(platform, f"grid-{token}", "grid", {"values": [round(0.1 * cell, 1) for cell in range(TRIALS)]}),
    }
    with ThreadPoolExecutor() as together:
        interrupted = {name: together.submit(_interrupt, job) for name, job in jobs.items()}
        others: dict[str, Callable[[Platform, str], Ended]] = {
            "failing": _failing,
            "refused": _refused,
            "stopped": _stopped,
        }
        ended = {name: together.submit(life, platform, token) for name, life in others.items()}
        first: list[Future[Any]] = [*interrupted.values(), *ended.values()]
        wait(first)
        _outage(platform)
        for name, job in jobs.items():
            ended[name] = together.submit(_at_its_end, job, interrupted[name])
    return ended


def _start(platform: Platform, name: str, method: str, x: dict[str, Any], **changes: Any) -> SweepJob:
    """A sweep whose trials take half a minute. `changes`: as for `start_sweep`, and steps, program, workers."""
    steps = changes.pop("steps", STEPS)
    program = ["python3", "/programs/sweep_trial.py", str(steps), str(_STEP_S), "{x}"]
    sweep = {
        "backend": "wandb",
        "method": method,
        "metric": {"name": "loss", "goal": "minimize"},
        "parameters": {"x": x},
        "program": changes.pop("program", program),
        "trials": TRIALS,
        "experiment": "sweeps",
        "entity": ENTITY,
        "project": PROJECT,
    }
    if method == "grid":
        del sweep["trials"]
    environment = {"TRAINYARD_TRACKING": "mlflow,wandb", **wandb_standin.CLIENT, **changes.pop("env", {})}
    return start_sweep(platform, name, sweep, workers=changes.pop("workers", WORKERS), env=environment, **changes)


def _interrupt(job: SweepJob) -> tuple[str, ...]:
    """Two workers lose their pod in the middle of a trial; the first one goes on."""
    with ThreadPoolExecutor() as together:
        both = [together.submit(job.worker(1).delete, STEPS), together.submit(job.worker(2).evict, STEPS)]
        return tuple(each.result() for each in both)


def _at_its_end(job: SweepJob, interrupted: Future[tuple[str, ...]]) -> Ended:
    return Ended(job, job.end(), interrupted.result(), trials=TRIALS, steps=STEPS)


def _failing(platform: Platform, token: str) -> Ended:
    """Every trial raises."""
    program = ["python3", "/programs/always_fails.py", "{x}"]
    job = _start(platform, f"failing-{token}", "random", _ANYWHERE, program=program, workers=1, retries=0)
    return Ended(job, job.end())


def _refused(platform: Platform, token: str) -> Ended:
    """The key is wrong."""
    key = {"WANDB_API_KEY": _WRONG_KEY}
    job = _start(platform, f"refused-{token}", "random", _ANYWHERE, env=key, workers=1)
    return Ended(job, job.end())


def _stopped(platform: Platform, token: str) -> Ended:
    """Somebody stops the sweep at the server while two workers are at it."""
    job = _start(platform, f"stopped-{token}", "random", _ANYWHERE, steps=_FOR_EVER, workers=2)
    in_hand = tuple(job.worker(index).trial_in_hand(_FOR_EVER) for index in range(2))
    began = time.time()
    _stop(platform, job)
    platform.wait_for(f"the workers of job/{job.job} to leave", lambda: not job.at_work, 2 * END_S)
    return Ended(job, job.end(), in_hand, seconds=job.last_end - began)


def _stop(platform: Platform, job: SweepJob) -> None:
    """As a person does in W&B's web page."""
    found = wandb_standin.state(platform)["sweeps"]
    (path,) = [path for path, sweep in found.items() if sweep["display_name"] == job.job]
    _tell(platform, "sweep", {"sweep": path, "do": "stop"})


def _outage(platform: Platform) -> None:
    """The server answers nobody for a minute."""
    _tell(platform, "outage", {"status": _OUTAGE_STATUS})
    try:
        time.sleep(OUTAGE_S)
    finally:
        _tell(platform, "outage", {"status": 0})


def _tell(platform: Platform, what: str, content: dict[str, Any]) -> None:
    """Have the stand-in do something that only tests ask for."""
    url = f"http://127.0.0.1:{wandb_standin.PORT}/standin/{what}"
    code = f"import urllib.request; urllib.request.urlopen({url!r}, data={json.dumps(content).encode()!r})"
    platform.kubectl("exec", wandb_standin.NAME, "--", "python3", "-c", code)
