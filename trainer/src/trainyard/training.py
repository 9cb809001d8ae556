"""One run's life: check, start, train, and a truthful end whatever happens."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from trainyard import provenance
from trainyard.config import Config, config_hash, flatten, to_yaml
from trainyard.environment import JobEnvironment
from trainyard.interruption import Interruption
from trainyard.spool.records import Start
from trainyard.tasks import Task
from trainyard.tasks.base import Outcome, Trainer
from trainyard.tracking.session import Session, new_start


def execute(
    task: Task, config: Config, environment: JobEnvironment, interruption: Interruption, say: Callable[[str], None]
) -> None:
    """Train `task` as `config` says, recorded. Returns when the record is delivered.

    Raises Interrupted, ConfigError, SpoolError, or whatever training raises; the run has ended by then.
    """
    trainer = task.load()(config)
    interruption.check()
    session = Session(environment, _start(task, trainer, environment), say=say, pause=interruption.sleep)
    say(f"training {session.run.name} on {trainer.device}, recorded in {_places(environment)}")
    with session.run as run:
        run.log_params(flatten(config))
        run.log_bytes("config.yaml", to_yaml(task.name, config).encode())
        run.log_dict(provenance.describe_machine(environment, device=trainer.device), "environment.json")
        outcome = trainer.train(run, interruption, say)
    _show(session, outcome, say)


def _start(task: Task, trainer: Trainer, environment: JobEnvironment) -> Start:
    settings = flatten(trainer.config)
    day = datetime.now(UTC).strftime("%Y%m%d")
    return new_start(
        environment,
        experiment=str(settings["tracking.experiment"]),
        name=f"{trainer.model_name}_{task.name}_{day}_{settings['tracking.variant']}",
        config_hash=config_hash(task.name, trainer.config),
        dataset_version=trainer.dataset_version,
    )


def _places(environment: JobEnvironment) -> str:
    return ", ".join(environment.tracking_uri if name == "mlflow" else name for name in environment.tracking)


def _show(session: Session, outcome: Outcome, say: Callable[[str], None]) -> None:
    mlflow: Mapping[str, Any] = session.receipt.get("mlflow", {}).get("state", {})
    say(f"run: {session.run.name} ({mlflow.get('run_id', session.run.uid)})")
    say(f"test/accuracy: {outcome.test_accuracy:.4f}")
    for model in mlflow.get("models", ()):
        say(f"model: {model}")
