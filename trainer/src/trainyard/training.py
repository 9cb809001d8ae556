"""One training's life: meet the other ranks, check, start, train or go on, and a truthful end whatever happens."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# Every optimizer imports it when it is made: too late, since then a thread imports MLflow, and both may fail.
import torch._dynamo  # noqa: F401

from trainyard import distributed, provenance
from trainyard.checkpoint import Checkpointer
from trainyard.config import Config, config_hash, flatten, to_yaml
from trainyard.environment import JobEnvironment
from trainyard.interruption import Interruption
from trainyard.spool.records import Start
from trainyard.system_metrics import SystemMetrics
from trainyard.tasks import Task
from trainyard.tasks.base import Context, Outcome, Trainer
from trainyard.tracking.run import NoRun, Run
from trainyard.tracking.session import Session, new_start


def execute(
    task: Task, config: Config, environment: JobEnvironment, interruption: Interruption, say: Callable[[str], None]
) -> None:
    """Train `task` as `config` says, recorded by rank 0. Returns when the record is delivered.

    Raises Preempted, Interrupted, ConfigError, SpoolError, or whatever training raises; the run has ended by then.
    """
    interruption.limit(environment.grace_s, say)
    world = distributed.join(environment, device=str(flatten(config)["device"]))
    try:
        trainer = task.load()(config, world)
        interruption.check()
        if world.rank == 0:
            _record(task, trainer, world, environment, interruption, say)
        else:
            _train(task, trainer, NoRun(task.name), world, environment, interruption, _say_nothing)
    finally:
        distributed.leave()


def _record(
    task: Task,
    trainer: Trainer,
    world: distributed.World,
    environment: JobEnvironment,
    interruption: Interruption,
    say: Callable[[str], None],
) -> None:
    session = Session(environment, _start(task, trainer, environment), say=say, pause=interruption.sleep)
    say(f"training {session.run.name} on {world.description}, recorded in {_places(environment)}")
    with session.run as run:
        run.log_params(flatten(trainer.config))
        run.log_bytes("config.yaml", to_yaml(task.name, trainer.config).encode())
        run.log_dict(trainer.dataset, "dataset.json")
        run.log_dict(provenance.describe_machine(environment, device=world.description), "environment.json")
        for name, content in provenance.artifacts(environment, Path.cwd()).items():
            run.log_bytes(name, content)
        outcome = _train(task, trainer, run, world, environment, interruption, say)
    _show(session, outcome, say)


def _train(
    task: Task,
    trainer: Trainer,
    run: Run,
    world: distributed.World,
    environment: JobEnvironment,
    interruption: Interruption,
    say: Callable[[str], None],
) -> Outcome:
    made: list[Checkpointer] = []

    def checkpointer(**objects: Any) -> Checkpointer:
        checkpoint = Checkpointer(
            run,
            config=getattr(trainer.config, "checkpoint"),  # noqa: B009 - every task has this section, which Config does not know
            uri=environment.checkpoints(run.uid),
            config_hash=config_hash(task.name, trainer.config),
            interruption=interruption,
            say=say,
            **objects,
        )
        made.append(checkpoint)
        return checkpoint

    def step() -> int:
        return made[-1].latest_step if made else 0

    context = Context(run=run, world=world, say=say, checkpointer=checkpointer)
    with _system_metrics(run, world, environment.system_metrics_s, step):
        return trainer.train(context)


def _system_metrics(
    run: Run, world: distributed.World, every_s: float, step: Callable[[], int]
) -> AbstractContextManager[object]:
    return SystemMetrics(run, world, every_s=every_s, step=step) if every_s else nullcontext()


def _say_nothing(_text: str) -> None:
    """What rank 0 says is enough."""


def _start(task: Task, trainer: Trainer, environment: JobEnvironment) -> Start:
    settings = flatten(trainer.config)
    day = datetime.now(UTC).strftime("%Y%m%d")
    return new_start(
        environment,
        experiment=str(settings["tracking.experiment"]),
        default_name=f"{trainer.model_name}_{task.name}_{day}_{settings['tracking.variant']}",
        config_hash=config_hash(task.name, trainer.config),
        dataset_version=trainer.dataset_version,
    )


def _places(environment: JobEnvironment) -> str:
    return ", ".join(environment.tracking_uri if name == "mlflow" else name for name in environment.tracking)


def _show(session: Session, outcome: Outcome, say: Callable[[str], None]) -> None:
    mlflow: Mapping[str, Any] = session.receipt.get("mlflow", {}).get("state", {})
    say(f"run: {session.run.name} ({mlflow.get('run_id', session.run.uid)})")
    for name, value in outcome.metrics.items():
        say(f"{name}: {value:.4f}")
    for model in mlflow.get("models", ()):
        say(f"model: {model}")
