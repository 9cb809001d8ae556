"""Sweeps on the platform's Postgres, side by side: what happens to each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

from local_cluster.settings import RELEASE

from tests.kind.interruptions import CLUSTER_WIDE
from tests.kind.platform import Platform
from tests.kind.sweep_jobs import Ended, SweepJob, side_by_side, start_sweep

WORKERS: Final = 4
TRIALS: Final = 20
STEPS: Final = 20
CROWD: Final = 16
_STEP_S: Final = 0.5
_AT_ONCE: Final = 0.0
_SECRET: Final = f"{RELEASE}-optuna"
"""Address of the database for studies."""


def reset(platform: Platform) -> None:
    """Let there be no study, and no table, as after the installation."""
    platform.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public AUTHORIZATION optuna", database="optuna")


def searches(platform: Platform, token: str) -> Mapping[str, Future[Ended]]:
    """The same search by several workers that are disturbed, and by one that is not."""
    return side_by_side(
        search=lambda: _disturbed(platform, f"search-{token}"),
        serial=lambda: _serial(platform, f"serial-{token}"),
    )


def meeting(platform: Platform, token: str) -> Mapping[str, Future[Ended]]:
    """Many workers, each of which has a trial in hand at the same time, or the trials fail."""
    program = ["python3", "/programs/meet.py", str(CROWD), "{x}"]

    def live() -> Ended:
        sweep = _sweep(program, trials=CROWD)
        job = start_sweep(platform, f"meeting-{token}", sweep, workers=CROWD, secrets=[_SECRET])
        return Ended(job, job.end(), trials=CROWD)

    return side_by_side(meeting=live)


def _disturbed(platform: Platform, name: str) -> Ended:
    """The first worker is evicted, another one killed, both in the middle of a trial; and the database is restarted."""
    job = start_sweep(platform, name, _search(_STEP_S), workers=WORKERS, secrets=[_SECRET])
    with ThreadPoolExecutor() as together:
        evicted = together.submit(job.worker(0).evict, STEPS)
        killed = together.submit(job.worker(1).kill_worker, STEPS)
        interrupted = (killed.result(), evicted.result())
    # In the middle of others.
    job.worker(2).trial_in_hand(STEPS)
    restart_postgres(platform)
    return Ended(job, job.end(), interrupted, trials=TRIALS, steps=STEPS)


def _serial(platform: Platform, name: str) -> Ended:
    job = start_sweep(platform, name, _search(_AT_ONCE), workers=1, secrets=[_SECRET])
    return Ended(job, job.end(), trials=TRIALS, steps=STEPS)


def _search(step_s: float) -> dict[str, Any]:
    return _sweep(["python3", "/programs/sweep_trial.py", str(STEPS), str(step_s), "{x}"], trials=TRIALS)


def _sweep(program: list[str], *, trials: int) -> dict[str, Any]:
    """A random search: by its seed the same trials, whoever runs them."""
    return {
        "backend": "optuna",
        "method": "random",
        "seed": 1,
        "metric": {"name": "loss", "goal": "minimize"},
        "parameters": {"x": {"min": 0.0, "max": 1.0}},
        "program": program,
        "trials": trials,
        "experiment": "sweeps",
        # A worker that was killed is missed after three of them.
        "heartbeat_s": 4,
    }


def restart_postgres(platform: Platform) -> None:
    """As after the loss of its node: no goodbye to anybody."""
    selector = f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/component=postgres"
    with CLUSTER_WIDE:
        (old,) = [pod["metadata"]["uid"] for pod in platform.objects("pods", selector)]
        platform.kubectl("delete", "pod", "--selector", selector, "--grace-period=0", "--force")
        platform.wait_for(
            "a new Postgres pod",
            lambda: old not in {pod["metadata"]["uid"] for pod in platform.objects("pods", selector)},
        )
        platform.wait_ready()


def states(job: SweepJob) -> Counter[str]:
    """How many trials the study has in each of Optuna's states."""
    return Counter({state: int(count) for state, count in _of_study(job, "state, count(*)", "GROUP BY state")})


def tried(job: SweepJob) -> Counter[float]:
    """How often each `x` was tried to its end."""
    joined = "JOIN trial_params USING (trial_id)"
    found = _of_study(job, "param_value", "AND state IN ('COMPLETE', 'PRUNED')", joined)
    return Counter(float(value) for (value,) in found)


def best(job: SweepJob) -> float:
    """The study's best value."""
    ((value,),) = _of_study(job, "min(value)", "AND state = 'COMPLETE'", "JOIN trial_values USING (trial_id)")
    return float(value)


def _of_study(job: SweepJob, columns: str, rest: str, joined: str = "") -> list[list[str]]:
    """Of the Job's study, whose name is the sweep's and a hash."""
    study = f"study_name LIKE '{job.job}-________'"
    return job.platform.sql(
        f"SELECT {columns} FROM trials JOIN studies USING (study_id) {joined} WHERE {study} {rest}", database="optuna"
    )
