"""Many workers, one real Postgres, and what happens to pods."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

import psycopg2

from tests.unit.images.image_containers import docker, wait_for_postgres, wait_until
from tests.unit.sweeps.conftest import Site

_SIXTEEN = """
for index in $(seq 0 15); do
  (JOB_COMPLETION_INDEX=$index TRAINYARD_STATE_DIR=/tmp/state-$index python -m trainyard sweep run /shared/sweep.yaml \
     > /shared/log-$index 2>&1; echo $? > /shared/exit-$index) &
done
wait
"""
_OUTAGE_S = 5.0
"""Longer than three heartbeats: afterwards, every trial's last one is old."""
_CONNECTIONS = """
SELECT application_name, count(*) FROM pg_stat_activity WHERE datname = 'optuna' AND application_name LIKE 'trainyard%'
GROUP BY application_name
"""


@contextmanager
def watched(site: Site) -> Iterator[Callable[[], Counter[str]]]:
    """The most connections that each worker had at once, whoever it was."""
    most: Counter[str] = Counter()
    done = Event()

    def watch() -> None:
        while not done.wait(0.05):
            try:
                most.update(
                    {name: count - most[name] for name, count in site.query(_CONNECTIONS) if count > most[name]}
                )
            except (psycopg2.Error, AssertionError):  # it is being restarted
                continue

    thread = Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield lambda: most
    finally:
        done.set()
        thread.join()


def test_sixteen_workers_start_at_once_on_an_empty_database(site: Site) -> None:
    site.describe(trials=20)
    with watched(site) as most:
        crowd = site.start("sh", "-c", _SIXTEEN)
        assert crowd.exit_code() == 0
    logs = {index: (site.shared / f"log-{index}").read_text() for index in range(16)}
    codes = {index: (site.shared / f"exit-{index}").read_text().strip() for index in range(16)}
    assert set(codes.values()) == {"0"}, {index: logs[index] for index, code in codes.items() if code != "0"}
    assert site.states() == {"COMPLETE": 20}
    assert len(site.lines("starts")) == 20
    assert len(most()) == 16 and set(most().values()) <= {1, 2}, most()


def test_twenty_trials_end_once_whatever_happens(site: Site) -> None:
    site.describe(trials=20)
    gates = [site.gate(trial, 2) for trial in range(4)]
    with watched(site) as most:
        workers = [site.worker(0)]
        wait_until(lambda: len(site.lines("starts")) == 1, f"a trial of worker 0: {workers[0].logs()}")
        workers += [site.worker(index) for index in (1, 2, 3)]
        wait_until(lambda: all(gate.with_suffix(".reached").exists() for gate in gates), "four trials at once")
        workers[1].kill()
        code, _ = workers[2].stop()
        assert code == 75, workers[2].logs()
        site.postgres.container.kill()
        wait_until(lambda: "does not answer" in workers[0].logs(), "worker 0 misses the database")
        workers += [site.worker(1), site.worker(2)]
        time.sleep(_OUTAGE_S)
        site.postgres.container.start()
        wait_for_postgres(site.postgres.container)
        for gate in gates:
            gate.unlink()
        for worker in (workers[0], *workers[3:]):
            assert worker.exit_code() == 0, worker.logs()
    assert "answers again" in workers[0].logs()
    states = site.states()
    assert states == {"COMPLETE": 20, "FAIL": 2}, states
    ended = Counter(trial for (trial,) in site.lines("starts.ended"))
    assert len(ended) == 20 and set(ended.values()) == {1}, ended
    # The two that were cut short went on where they were.
    assert sorted(step for _, step, _ in site.lines("starts")) == ["1"] * 20 + ["2"] * 2
    assert set(most().values()) <= {1, 2}, most()
    assert parameters(site) == serial_parameters(site)


def test_a_worker_that_was_cut_off_gives_up_what_others_do(site: Site) -> None:
    site.describe(trials=3)
    gates = [site.gate(trial, 2) for trial in range(2)]
    first = site.worker(0)
    wait_until(gates[0].with_suffix(".reached").exists, f"trial 0: {first.logs()}")
    other = site.worker(1)
    wait_until(gates[1].with_suffix(".reached").exists, f"trial 1: {other.logs()}")
    docker("network", "disconnect", site.sandbox.network, other.name)
    wait_until(lambda: "does not answer" in other.logs(), "the other worker misses the database")
    gates[0].unlink()
    wait_until(lambda: ["1", "2"] in [line[:2] for line in site.lines("starts")], f"trial 1 again: {first.logs()}")
    docker("network", "connect", site.sandbox.network, other.name)
    wait_until(lambda: "given to another worker" in other.logs(), f"the other worker gives up: {other.logs()}")
    gates[1].unlink()
    for worker in (first, other):
        assert worker.exit_code() == 0, worker.logs()
    assert site.states() == {"COMPLETE": 3, "FAIL": 1}
    assert sorted(trial for (trial,) in site.lines("starts.ended")) == sorted(
        {trial for trial, *_ in site.lines("starts")}
    )


def test_a_wrong_password_is_a_mistake_of_the_configuration(site: Site) -> None:
    site.describe(trials=1)
    address = f"postgresql+psycopg2://optuna:wrong@{site.postgres.container.name}:5432/optuna"
    worker = site.worker(0, TRAINYARD_OPTUNA_URL=address)
    assert worker.exit_code() == 42, worker.logs()
    assert "password authentication failed" in worker.logs()
    assert "wrong@" not in worker.logs()


def parameters(site: Site, **environ: str) -> list[str]:
    """Of the trials, in order."""
    return [value for row in site.export(**environ) for name, value in row.items() if name == "params.x"]


def serial_parameters(site: Site) -> list[str]:
    """The same search, by one worker that nothing happens to."""
    aside = {"STARTS": "/tmp/starts", "GATES": "/tmp"}
    worker = site.worker(0, TRAINYARD_OPTUNA_URL="sqlite:////shared/serial.db", **aside)
    assert worker.exit_code() == 0, worker.logs()
    return parameters(site, TRAINYARD_OPTUNA_URL="sqlite:////shared/serial.db")
