"""The sweep: started, interrupted, gone on with, reported."""

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, cast

import ray
from ray import tune

from trainyard import exit_codes
from trainyard.cpu import available_cpus
from trainyard.environment import JobEnvironment
from trainyard.errors import Interrupted, SpoolError, TrainyardError
from trainyard.integrations.ray import space
from trainyard.integrations.ray.callback import Watch
from trainyard.integrations.ray.records import trial_records
from trainyard.integrations.ray.storage import Storage
from trainyard.integrations.ray.trainable import TrackedTrainable
from trainyard.interruption import Interruption, of_this_process
from trainyard.shipping.service import Service
from trainyard.sweeps.parent import ParentRun
from trainyard.sweeps.records import TrialRecord
from trainyard.sweeps.sweep import Backend, Objective, Sweep
from trainyard.tracking.session import say_to_stderr

_OBJECT_STORE_BYTES: Final = 100 * 2**20
"""Results are small, and /dev/shm of a pod is, too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    """What is searched, and how far."""

    name: str
    """Of the sweep; the same name in the same storage goes on."""
    space: Mapping[str, Any]
    """Tune's param_space."""
    metric: str
    mode: Literal["min", "max"] = "min"
    trials: int = 1
    """Tune's num_samples."""
    resources: Mapping[str, float] = field(default_factory=lambda: {"cpu": 1})
    """Of each trial."""
    max_failures: int = 2
    """How often a trial is tried again, from its last checkpoint."""
    storage: str | None = None
    """A folder or s3://BUCKET/PREFIX that outlives the pod; None: `ray` in TRAINYARD_STATE_DIR."""

    def run(self, trainable: type[TrackedTrainable], *, scheduler: Any = None, search_alg: Any = None) -> int:
        """The process's exit code: 0 if every trial ended without an error, 75 after SIGTERM with everything saved.

        To be called in the main thread. On the Ray cluster of RAY_ADDRESS, else in one of its own in this pod.
        """
        try:
            return self._run(trainable, scheduler, search_alg)
        except Interrupted:  # nothing had begun
            return exit_codes.PREEMPTED
        except TrainyardError as error:
            say_to_stderr(str(error))
            return error.exit_code

    def _run(self, trainable: type[TrackedTrainable], scheduler: Any, search_alg: Any) -> int:
        environment = JobEnvironment.read(os.environ)
        interruption = of_this_process()
        interruption.limit(environment.grace_s, say_to_stderr)
        storage = Storage(self.storage or str(environment.state_dir / "ray"), self.name)
        sweep = self._described(trainable)
        sweep_id = storage.sweep_id(sweep.key, self.name)
        parent = ParentRun(
            sweep, sweep_id=sweep_id, environment=environment, interruption=interruption, say=say_to_stderr
        )
        try:
            with parent:
                variables = {"TRAINYARD_SWEEP_ID": sweep_id, "TRAINYARD_PARENT_RUN_ID": parent.run_id or ""}
                try:
                    _join_ray(variables, interruption)
                    results = self._tuner(trainable, scheduler, search_alg, storage, sweep_id).fit()
                    _report(parent, trial_records(results, self.metric, sweep), environment, interruption)
                except Interrupted as asked:  # its runs are to be continued, too
                    raise SystemExit(exit_codes.PREEMPTED) from asked
        except SystemExit as end:
            return int(end.code or 0)
        finally:
            ray.shutdown()
        return exit_codes.FINISHED

    def _tuner(
        self, trainable: type[TrackedTrainable], scheduler: Any, search_alg: Any, storage: Storage, sweep_id: str
    ) -> Any:
        sized = tune.with_resources(trainable, dict(self.resources))
        if storage.holds_state():
            say_to_stderr(f"sweep {sweep_id} goes on from {storage.sweep_uri}")
            return tune.Tuner.restore(storage.sweep_uri, sized, resume_unfinished=True, resume_errored=True)
        say_to_stderr(f"sweep {sweep_id} begins in {storage.sweep_uri}")
        return tune.Tuner(
            sized,
            param_space=dict(self.space),
            tune_config=tune.TuneConfig(
                metric=self.metric, mode=self.mode, num_samples=self.trials, scheduler=scheduler, search_alg=search_alg
            ),
            run_config=tune.RunConfig(
                name=self.name,
                storage_path=storage.uri,
                callbacks=[Watch(sweep_id)],
                failure_config=tune.FailureConfig(max_failures=self.max_failures),
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1, num_to_keep=2),
                verbose=0,
            ),
        )

    def _described(self, trainable: type[TrackedTrainable]) -> Sweep:
        """For the report."""
        return Sweep(
            name=self.name,
            program=("python", Path(sys.argv[0]).name),
            objectives=(Objective(name=self.metric, goal="minimize" if self.mode == "min" else "maximize"),),
            parameters=space.parameters(self.space),
            constants=space.constants(self.space),
            # No backend of `trainyard sweep`; the record is to say what it was.
            backend=cast("Backend", "ray"),
            method="random",
            trials=self.trials,
            experiment=trainable.experiment,
        )


def _join_ray(variables: Mapping[str, str], interruption: Interruption) -> None:
    """Ray's cluster, with these variables in each of its processes. Raises Interrupted, SystemExit with 75."""
    interruption.check()
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # Ctrl-C is ours, too
    os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")
    handler = signal.getsignal(signal.SIGTERM)
    own: Mapping[str, Any] = {
        "address": "local",
        "num_cpus": available_cpus(),
        "include_dashboard": False,
        "object_store_memory": _OBJECT_STORE_BYTES,
    }
    try:
        ray.init(runtime_env={"env_vars": dict(variables)}, **({} if "RAY_ADDRESS" in os.environ else own))
    except SystemExit as stopped:  # Ray's own handler of SIGTERM
        raise SystemExit(exit_codes.PREEMPTED) from stopped
    finally:
        signal.signal(signal.SIGTERM, handler)


def _report(
    parent: ParentRun, records: Sequence[TrialRecord], environment: JobEnvironment, interruption: Interruption
) -> None:
    """What the sweep came to. Raises SystemExit with 75 if it has not come to its end, with 1 if trials failed."""
    # A stop that Tune was asked for by somebody else leaves trials that are not done, too.
    if interruption.requested or any(record.state == "waiting" for record in records):
        say_to_stderr(f"the sweep is saved; exit code {exit_codes.PREEMPTED}: the same again goes on")
        raise SystemExit(exit_codes.PREEMPTED)
    _deliver_leftovers(environment)
    parent.report(records)
    failed = sum(record.state == "failed" for record in records)
    if failed:
        say_to_stderr(f"{failed} of {len(records)} trials failed; the same command tries them again")
        raise SystemExit(exit_codes.FAILED)


def _deliver_leftovers(environment: JobEnvironment) -> None:
    """What trials have recorded whose processes Tune ended before they could deliver it. Raises SpoolError."""
    if environment.shipper == "sidecar":
        return
    service = Service(environment.spools, say=say_to_stderr, report=lambda _text: None)
    service.stop_within(environment.ship_deadline_s)
    if not service.run(only_abandoned=True):
        raise SpoolError(
            f"the records of some trials in {environment.spools} are not delivered after {environment.ship_deadline_s:g} s "
            "(TRAINYARD_SHIP_DEADLINE_S): the same command tries again"
        )
