"""Attempts at a trial of a sweep: real workers with real programs."""

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from trainyard.environment import JobEnvironment

from tests.unit.trainer.conftest import Ended, Laptop

_WORKER = Path(__file__).with_name("sweep_worker.py")
_NEVER = ("-1", "pruned")
_JSON = {"TRAINYARD_TRACKING": "json"}

LOG = """
import os, time
import trainyard

with trainyard.run("trials") as run:
    run.log_metrics({"size": 4, "lr": 0.5}, step=0)
    for step in range(1, 4):
        run.log_metrics({"loss": 1 / step, "other": step}, step=step)
        run.log_metrics({"score": 10 * step}, step=step)
    %s
"""
HANG = "while True: time.sleep(0.1)"


@dataclass(frozen=True)
class Attempt:
    """What a worker printed."""

    outcome: dict[str, Any]
    reports: list[tuple[int, dict[str, float]]]
    ended: Ended


def read(ended: Ended) -> Attempt:
    lines = ended.stdout.splitlines()
    outcomes = [json.loads(line.removeprefix("outcome ")) for line in lines if line.startswith("outcome ")]
    assert ended.code == 0 and len(outcomes) == 1, ended.stdout + ended.stderr
    reports = [line.split(" ", 2) for line in lines if line.startswith("report ")]
    return Attempt(outcomes[0], [(int(step), json.loads(values)) for _, step, values in reports], ended)


def start(laptop: Laptop, *program: str, stop: tuple[str, str] = _NEVER, **environment: str) -> "subprocess.Popen[str]":
    return laptop.python(str(_WORKER), *stop, *program, **{**_JSON, **environment})


def attempt(laptop: Laptop, *program: str, stop: tuple[str, str] = _NEVER, **environment: str) -> Attempt:
    return read(laptop.wait(start(laptop, *program, stop=stop, **environment)))


def script(laptop: Laptop, text: str) -> tuple[str, str]:
    path = laptop.folder / "my_trial.py"
    path.write_text(text)
    return sys.executable, str(path)


Stop = Callable[["subprocess.Popen[str]", str, signal.Signals], Ended]


def test_a_trial_is_a_run_that_tells_its_sweep(laptop: Laptop) -> None:
    told = attempt(laptop, *script(laptop, LOG % "pass"), JOB_COMPLETION_INDEX="3")
    assert told.outcome == {
        "code": 0,
        "state": "finished",
        "values": [1 / 3, 30.0],
        "constraints": {"size": 4.0},
        "reason": "",
        "interrupted": False,
    }
    measured = [(step, values) for step in (1, 2, 3) for values in ({"loss": 1 / step}, {"score": 10.0 * step})]
    assert told.reports == [(0, {"size": 4.0}), *measured]
    run = laptop.json_run("trials")
    assert run["name"].endswith("_t7")
    assert run["tags"]["trainyard.sweep_id"] == "s-0123abcd"
    assert run["tags"]["trainyard.trial"] == "7"
    assert run["tags"]["mlflow.parentRunId"] == "f00d"
    assert run["status"] == "FINISHED"


def test_what_the_program_is_told(laptop: Laptop) -> None:
    code = "import json, os; json.dump(dict(os.environ), open('told.json', 'w'))"
    secrets = {"TRAINYARD_OPTUNA_URL": "postgresql://u:p@h/d", "TRAINYARD_RUN_UID": "u", "MLFLOW_RUN_ID": "r"}
    environment = {**secrets, "JOB_COMPLETION_INDEX": "3", "TRAINYARD_GRACE_S": "20"}
    assert read(laptop.wait(start(laptop, sys.executable, "-c", code, stop=_NEVER, **environment))).outcome["code"] == 0
    told = json.loads((laptop.folder / "told.json").read_text())
    assert not secrets.keys() & told.keys()
    assert (told["TRAINYARD_SWEEP_ID"], told["TRAINYARD_TRIAL"]) == ("s-0123abcd", "7")
    assert json.loads(told["TRAINYARD_PARAMETERS"]) == {"lr": 0.5, "epochs": 3}
    assert (told["JOB_COMPLETION_INDEX"], told["TRAINYARD_GRACE_S"]) == ("0", "15")
    assert not Path(told["TRAINYARD_TRIAL_DIR"]).exists(), "what is left of an attempt"


@pytest.mark.parametrize(
    ("end", "state", "reason"),
    [
        ("raise SystemExit(42)", "failed", "exit code 42: its configuration or its data is wrong; its output is above"),
        ("raise RuntimeError('the bug')", "failed", "exit code 1; its output is above"),
        ("os.kill(os.getpid(), 9)", "failed", "exit code 137: killed; where nobody did that, it was the kernel"),
        ("run.log_metrics({'loss': float('nan')}, step=4)", "failed", "loss is nan"),
        ("raise SystemExit(75)", "waiting", ""),
    ],
)
def test_how_it_ends_by_itself(laptop: Laptop, end: str, state: str, reason: str) -> None:
    outcome = attempt(laptop, *script(laptop, LOG % end)).outcome
    assert (outcome["state"], outcome["values"], outcome["interrupted"]) == (state, [], False)
    assert outcome["reason"].startswith(reason) and bool(outcome["reason"]) == bool(reason)


def test_a_program_that_measures_nothing(laptop: Laptop) -> None:
    outcome = attempt(laptop, sys.executable, "-c", "print('done')").outcome
    assert (outcome["state"], outcome["values"]) == ("finished", [])
    assert outcome["reason"] == (
        "no value of loss, score: the program ended with exit code 0 and logged no metric of that name"
    )


def test_a_program_that_knows_nothing_of_us(laptop: Laptop) -> None:
    """And does a step again, as one that goes on from a checkpoint."""
    rows = [{"step": step, "values": {"loss": 10 * step, "score": place}} for place, step in enumerate((1, 2, 2, 3, 1))]
    (laptop.folder / "rows").write_text("\n".join(["broken", *map(json.dumps, rows), ""]))
    told = attempt(laptop, "sh", "-c", "cat rows >> $TRAINYARD_TRIAL_DIR/metrics.jsonl")
    assert told.reports == [(step, {"loss": 10 * step, "score": place}) for step, place in ((1, 0), (2, 1), (3, 3))]
    assert told.outcome["values"] == [10.0, 4.0]
    assert "left out, since it is not like" in told.ended.stdout


@pytest.mark.parametrize(("reason", "state"), [("pruned", "pruned"), ("stopped", "stopped"), ("lost", "stopped")])
def test_a_trial_that_is_ended_for_good(laptop: Laptop, reason: str, state: str) -> None:
    told = attempt(laptop, *script(laptop, LOG % HANG), stop=("2", reason))
    assert (told.outcome["state"], told.outcome["reason"]) == (state, reason)
    run = laptop.json_run("trials")
    assert (run["status"], run["tags"]["trainyard.end_reason"]) == ("KILLED", reason)


def test_a_trial_that_would_save_and_go_on_is_ended_all_the_same(laptop: Laptop) -> None:
    """As a training with a Checkpointer ends at SIGTERM."""
    save = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(75)); " + HANG.replace(
        "while True: ", "[time.sleep(0.1) for _ in iter(int, 1)] #"
    )
    told = attempt(laptop, *script(laptop, LOG % save), stop=("3", "pruned"))
    assert told.outcome["state"] == "pruned"
    run = laptop.json_run("trials")
    assert (run["status"], run["tags"]["trainyard.end_reason"]) == ("KILLED", "pruned")


def test_a_plain_program_is_ended_by_trainyard_run(laptop: Laptop) -> None:
    """Which has the run, and sees only an exit code."""
    program = (sys.executable, "-m", "trainyard", "run", "--experiment", "trials", "--", "sh", "-c")
    told = attempt(
        laptop,
        *program,
        """echo '{"step": 5, "values": {"loss": 1}}' >> $TRAINYARD_TRIAL_DIR/metrics.jsonl; sleep 600""",
        stop=("5", "pruned"),
    )
    assert told.outcome["state"] == "pruned"
    run = laptop.json_run("trials")
    assert (run["status"], run["tags"]["trainyard.end_reason"]) == ("KILLED", "pruned")
    assert run["params"] == {"lr": "0.5", "epochs": "3"}
    assert "said trial 7 left sleep running" in told.ended.stdout


def test_what_a_program_logs_by_mlflow_alone_is_told_at_its_end(laptop: Laptop) -> None:
    (laptop.folder / "plain.py").write_text(
        "import mlflow, os\n"
        "if not os.path.exists('done'):\n"
        "    mlflow.log_param('lr', '0.50')\n"
        "    for step in (1, 2): mlflow.log_metrics({'loss': 1 / step, 'other': 1}, step=step)\n"
        "    mlflow.log_metric('score', 8, step=3)\n"
        "    open('done', 'w')\n"
    )
    program = (sys.executable, "-m", "trainyard", "run", "--experiment", "trials", "--", sys.executable, "plain.py")
    for _ in range(2):  # the second one finds that all is done, as after an interruption late
        told = attempt(laptop, *program, TRAINYARD_TRACKING="mlflow")
        assert told.outcome["values"] == [0.5, 8.0], told.ended.stderr
        assert told.reports == [(2, {"loss": 0.5}), (3, {"score": 8.0})]
    (run,) = laptop.runs("trials")
    assert run.data.params == {"lr": "0.50", "epochs": "3"}
    assert run.data.tags["mlflow.parentRunId"] == "f00d"


def test_sigterm_to_the_worker(laptop: Laptop, stop_at: Stop) -> None:
    told = read(stop_at(start(laptop, *script(laptop, LOG % HANG)), "report 3", signal.SIGTERM))
    assert (told.outcome["state"], told.outcome["code"], told.outcome["interrupted"]) == ("waiting", 143, True)
    assert laptop.json_run("trials")["tags"]["trainyard.end_reason"] == "interrupted"


def test_exit_code_0_after_sigterm_is_not_known_to_be_finished(laptop: Laptop, stop_at: Stop) -> None:
    quiet = "import signal; signal.signal(signal.SIGTERM, lambda *_: os._exit(0)); run.log_metrics({'size': 5}, step=9)\n    "
    told = read(stop_at(start(laptop, *script(laptop, LOG % (quiet + HANG))), "report 9", signal.SIGTERM))
    assert (told.outcome["state"], told.outcome["interrupted"]) == ("waiting", True)


def test_a_program_that_ignores_sigterm(laptop: Laptop, stop_at: Stop) -> None:
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); run.log_metrics({'size': 5}, step=9)\n    "
    worker = start(laptop, *script(laptop, LOG % (deaf + HANG)), TRAINYARD_GRACE_S="2")
    told = read(stop_at(worker, "report 9", signal.SIGTERM))
    assert (told.outcome["state"], told.outcome["code"], told.outcome["interrupted"]) == ("waiting", 137, True)
    assert "said trial 7 had not ended in time after SIGTERM and had to be killed" in told.ended.stdout


def test_a_program_that_ignores_being_stopped(laptop: Laptop) -> None:
    text = """
        import os, signal, sys, time
        from trainyard.interruption import of_this_process
        from trainyard.launch.supervisor import Supervisor
        deaf = "import signal; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"
        with Supervisor(of_this_process()) as supervisor:
            child = supervisor.start("deaf", [sys.executable, "-c", deaf], os.environ, piped=True)
            assert child.process.stdout.readline() == b"deaf\\n"
            began = time.monotonic()
            for _ in range(2):
                supervisor.stop(0.5)
            assert supervisor.wait() == 137 and time.monotonic() - began < 30
            assert supervisor.killed == supervisor.stopped == [child]
    """
    ended = laptop.script(text)
    assert ended.code == 0, ended.stderr


def test_an_interrupted_trial_goes_on_in_another_worker_as_the_same_run(laptop: Laptop, stop_at: Stop) -> None:
    program = script(
        laptop,
        """
import time, torch, trainyard
from trainyard.checkpoint import Checkpointer

with trainyard.run("trials") as run:
    weights = torch.nn.Linear(1, 1)
    with Checkpointer(run, model=weights) as checkpoint:
        for step in range(checkpoint.restore() + 1, 31):
            run.log_metrics({"loss": 1 / step, "score": step}, step=step)
            checkpoint.after_step(step)
            time.sleep(0.05)
""",
    )
    first = start(laptop, *program, TRAINYARD_JOB_UID="one", JOB_COMPLETION_INDEX="1")
    interrupted = read(stop_at(first, "report 9 ", signal.SIGTERM))
    assert (interrupted.outcome["state"], interrupted.outcome["code"]) == ("waiting", 75)
    run = laptop.json_run("trials")
    assert (run["status"], run["tags"]["trainyard.end_reason"]) == ("SCHEDULED", "preempted")
    second = attempt(laptop, *program, TRAINYARD_JOB_UID="two", JOB_COMPLETION_INDEX="2")
    assert second.outcome["values"] == [1 / 30, 30.0]
    assert second.reports[0][0] == interrupted.reports[-1][0] + 1
    run = laptop.json_run("trials")
    assert Counter(run["points"]) == Counter(
        point for step in range(1, 31) for point in ((step, "loss", 1 / step), (step, "score", float(step)))
    )
    assert (run["status"], run["tags"]["trainyard.attempt"]) == ("FINISHED", "2")


def test_a_bare_wandb_agent_makes_a_trial_too(laptop: Laptop) -> None:
    agent = {**_JSON, "WANDB_SWEEP_ID": "ab12cd34", "WANDB_RUN_ID": "x1y2z3w4", "JOB_COMPLETION_INDEX": "3"}
    text = """
        import trainyard
        with trainyard.run("trials") as run:
            run.log_metrics({"loss": 1}, step=1)
    """
    for index in "34":
        ended = laptop.script(text, **{**agent, "JOB_COMPLETION_INDEX": index})
        assert ended.code == 0, ended.stderr
    run = laptop.json_run("trials")
    assert run["tags"]["trainyard.attempt"] == "2"
    assert (run["tags"]["trainyard.sweep_id"], run["tags"]["trainyard.trial"]) == ("ab12cd34", "x1y2z3w4")


def test_a_trial_of_another_worker_than_the_first_is_no_stranger(laptop: Laptop) -> None:
    wrong = ("digits", "--set", "lr=fast")
    refused = "JOB_COMPLETION_INDEX=3 without WORLD_SIZE"
    trial = {"WANDB_SWEEP_ID": "ab12cd34", "WANDB_RUN_ID": "x1y2z3w4"}
    assert refused in laptop.train(*wrong, JOB_COMPLETION_INDEX="3").stderr
    ended = laptop.train(*wrong, JOB_COMPLETION_INDEX="3", **trial)
    assert "lr" in ended.stderr and refused not in ended.stderr


def test_what_wandb_says_of_a_trial_goes_where_its_record_goes() -> None:
    ids = {"WANDB_SWEEP_ID": "ab12cd34", "WANDB_RUN_ID": "x1y2z3w4"}
    assert ids.items() <= JobEnvironment.read(ids).backend_settings.items()
    ours = JobEnvironment.read({**ids, "TRAINYARD_SWEEP_ID": "s", "TRAINYARD_TRIAL": "7"})
    assert (ours.sweep_id, ours.trial) == ("s", "7")
    alone = JobEnvironment.read({"WANDB_RUN_ID": "x1y2z3w4"})
    assert alone.trial is None and "WANDB_RUN_ID" not in alone.backend_settings


@pytest.mark.parametrize(
    ("environment", "problem"),
    [
        ({"TRAINYARD_TRIAL": "7"}, "one says nothing without the other"),
        ({"TRAINYARD_PARAMETERS": "[1]"}, "TRAINYARD_PARAMETERS=[1]: must be a JSON object"),
        ({"TRAINYARD_TRIAL_DIR": "/nowhere"}, "TRAINYARD_TRIAL_DIR=/nowhere: has no readable wanted.json"),
    ],
)
def test_what_no_worker_says(laptop: Laptop, environment: dict[str, str], problem: str) -> None:
    ended = laptop.script("import trainyard\ntrainyard.run().start()", **_JSON, **environment)
    assert ended.code == 1 and problem in ended.stderr


def test_outside_of_a_trial_metrics_cost_nothing_more(laptop: Laptop) -> None:
    text = """
        import trainyard
        from trainyard.spool.writer import SpoolWriter
        with trainyard.run("e") as run:
            assert run.log_metrics.__func__ is SpoolWriter.metrics
    """
    assert laptop.script(text, **_JSON).code == 0
