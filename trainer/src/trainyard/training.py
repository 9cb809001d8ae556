"""One run's life: check, connect, create, train, and a truthful end whatever happens."""

import json
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from trainyard import provenance
from trainyard.config import Config, config_hash, flatten, to_yaml
from trainyard.environment import JobEnvironment
from trainyard.errors import Interrupted
from trainyard.interruption import Interruption
from trainyard.tasks import Task
from trainyard.tasks.base import Outcome, Trainer
from trainyard.tracking.mlflow_run import MlflowRun, connect
from trainyard.tracking.server import is_server, wait_for_server, without_password

_TAG_LIMIT = 8000


def execute(
    task: Task, config: Config, environment: JobEnvironment, interruption: Interruption, say: Callable[[str], None]
) -> None:
    """Train `task` as `config` says, recorded in MLflow.

    Raises Interrupted, ConfigError, TrackingError, or whatever training raises; the run has its end state by then.
    """
    trainer = task.load()(config)
    uri = environment.tracking_uri
    if is_server(uri):
        wait_for_server(uri, wait_s=environment.tracking_wait_s, interruption=interruption, say=say)
    interruption.check()
    run = _create_run(task, trainer, environment)
    say(f"training {run.name} on {trainer.device}, recorded in {without_password(uri)}")
    try:
        run.log_params(flatten(config))
        run.log_artifact("config.yaml", to_yaml(task.name, config).encode())
        run.log_artifact(
            "environment.json",
            json.dumps(provenance.describe_machine(environment, device=trainer.device), indent=2).encode(),
        )
        outcome = trainer.train(run, interruption, say)
        run.finish("FINISHED", tags={"trainyard.end_reason": "finished"})
    except BaseException as error:
        _end_unfinished(run, error, say)
        raise
    _show(run, outcome, say)


def _create_run(task: Task, trainer: Trainer, environment: JobEnvironment) -> MlflowRun:
    config = trainer.config
    git = provenance.git_state(environment, Path.cwd())
    tags = provenance.tags(
        environment,
        git,
        task=task.name,
        config_hash=config_hash(task.name, config),
        dataset=trainer.dataset_version,
    )
    tracking = flatten(config)
    day = datetime.now(UTC).strftime("%Y%m%d")
    return MlflowRun.create(
        connect(environment.tracking_uri),
        experiment=str(tracking["tracking.experiment"]),
        name=f"{trainer.model_name}_{task.name}_{day}_{tracking['tracking.variant']}",
        tags=tags,
    )


def _end_unfinished(run: MlflowRun, error: BaseException, say: Callable[[str], None]) -> None:
    """Give the run its end state; a server that is gone too must not hide `error`."""
    try:
        if isinstance(error, Interrupted | KeyboardInterrupt):
            run.finish("KILLED", tags={"trainyard.end_reason": "interrupted"})
            return
        text = "".join(traceback.format_exception(error))
        run.log_artifact("traceback.txt", text.encode())
        run.finish("FAILED", tags={"trainyard.end_reason": "failed", "trainyard.traceback": text[-_TAG_LIMIT:]})
    except Exception as second:
        say(f"run {run.run_id} could not be ended in MLflow: {second}")


def _show(run: MlflowRun, outcome: Outcome, say: Callable[[str], None]) -> None:
    say(f"run: {run.name} ({run.run_id})")
    say(f"test/accuracy: {outcome.test_accuracy:.4f}")
    say(f"model: {outcome.model.name} version {outcome.model.version}")
