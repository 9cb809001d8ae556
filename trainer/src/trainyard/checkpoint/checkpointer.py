"""When a training is saved, and how it goes on: the part that a training loop talks to."""

import math
import os
import signal
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Literal

from trainyard.checkpoint import ranks
from trainyard.checkpoint.archive import Archive, Saved
from trainyard.checkpoint.config import CheckpointConfig
from trainyard.checkpoint.errors import CheckpointError, Preempted
from trainyard.checkpoint.objects import Objects
from trainyard.checkpoint.patience import Patience
from trainyard.checkpoint.record import PATIENCE_S
from trainyard.checkpoint.snapshot import Snapshots
from trainyard.checkpoint.writer import Writer
from trainyard.environment import JobEnvironment
from trainyard.errors import ConfigError, Interrupted
from trainyard.interruption import Interruption, of_this_process
from trainyard.spool.carry import pack
from trainyard.tracking.run import Run
from trainyard.tracking.session import say_to_stderr

_NEVER: Final = math.inf
_QUIET_S: Final = 30.0
"""Nobody waits for a save in the background, so a store that is away for a moment is not worth a line."""


class Checkpointer:
    """Saves and restores a training. A context manager: leaving it without an exception waits for what is being written.

    Made on all ranks, after they have joined; every method is called on all ranks. Rank 0 alone touches the store.
    """

    def __init__(
        self,
        run: Run,
        *,
        config: CheckpointConfig | None = None,
        uri: str | None = None,
        config_hash: str | None = None,
        interruption: Interruption | None = None,
        say: Callable[[str], None] | None = None,
        best: Literal["min", "max"] = "min",
        **objects: Any,
    ) -> None:
        """`objects`, by name: anything with state_dict and load_state_dict, which must be the same on all ranks; and for each
        rank its own torch or numpy Generators and dicts of plain values, which are filled in place.

        `uri`: a directory or `s3://bucket/prefix` for this run alone; else what the environment says, and the run's uid.
        `best`: which score is the best. Raises TypeError for an object of no such kind, ConfigError for the environment.
        """
        environment = JobEnvironment.read(os.environ)
        self._run = run
        self._config = config or CheckpointConfig()
        self._uri = uri or f"{environment.checkpoint_uri or environment.state_dir / 'checkpoints'}/{run.uid}"
        self._staging = environment.state_dir
        self._config_hash = config_hash
        self._say = say or say_to_stderr
        self._best = best
        self._objects = Objects(objects)
        self._snapshots = Snapshots()
        self._writer = Writer()
        self._archive: Archive | None = None
        self._alone = ranks.world_size() == 1
        self._leads = ranks.own_rank() == 0
        if interruption is None:
            interruption = of_this_process()
            interruption.limit(environment.grace_s, self._say)
        self._interruption = interruption
        self.latest_step = 0
        """The step that is done."""
        self._due_step: float = _NEVER
        self._due_time = _NEVER
        self._plan(0)

    def restore(self) -> int:
        """Fill everything from the newest complete checkpoint; returns its step, or 0 if there is none.

        Damaged checkpoints are skipped, with a line each. A store that does not answer is asked for five minutes. Raises
        ConfigError where the checkpoint is of another configuration or the place cannot be used, CheckpointError, and
        Interrupted.
        """
        saved: list[Saved] = []

        def read() -> tuple[int, str] | None:
            found = self._the_archive().newest(
                self._config_hash, Patience(limit_s=PATIENCE_S, wait=self._sleep, say=self._say)
            )
            if found is None:
                return None
            self._refuse_missing(found)
            saved.append(found)
            return found.step, found.run["uid"]

        found = ranks.on_rank_0(read)
        if found is None:
            return 0
        step, uid = found
        self.latest_step = step
        for name in self._objects.names:
            # One after the other: a second copy of everything may be more than the memory holds.
            state = ranks.state_from_rank_0(saved[0].common.pop(name) if saved else None)
            self._objects.load(name, state, f"the checkpoint of step {step} in {self._uri}")
        of_ranks = ranks.state_from_rank_0(saved[0].ranks if saved else None)
        rank = ranks.own_rank()
        self._objects.load_own(of_ranks, rank, (uid, step, rank))
        if self._leads:
            self._say_restored(step, len(of_ranks))
        self._plan(step)
        return step

    def after_step(self, step: int, *, score: float | None = None) -> None:
        """Save if it is time to, which blocks only for a copy in memory. Costs a microsecond if not, with several ranks one
        small collective operation.

        After SIGTERM to one of the ranks: save, wait until that is durable, and raise Preempted on all ranks. After
        SIGINT: raise Interrupted, and save nothing. Raises CheckpointError if the last one cannot be written.
        """
        self.latest_step = step
        if (
            self._alone
            and step < self._due_step
            and time.monotonic() < self._due_time
            and not self._interruption.requested
        ):
            return
        received = self._interruption.received
        terminated, interrupted, due = ranks.any_of(
            received == signal.SIGTERM, received == signal.SIGINT, self._leads and self._is_due(step)
        )
        if terminated:
            self._save(step, score, limit_s=math.inf)  # what ends the trying is the grace period
            preempted = Preempted(step, self._uri)
            if self._leads:
                self._say(str(preempted))
            raise preempted
        if interrupted:
            raise Interrupted(signal.SIGINT, signal.SIGINT.name)
        if due:
            self._save_in_background(step, score)

    def save(self, step: int, *, score: float | None = None) -> None:
        """Save now, and return when that is durable. A store that does not answer is asked for five minutes. Raises
        CheckpointError, and Interrupted after SIGINT."""
        self._save(step, score, limit_s=PATIENCE_S)

    def __enter__(self) -> "Checkpointer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        # A store that is away must not keep a training from ending.
        self._writer.stop_trying()
        if kind is None:
            self._writer.finish(self._leave_at_sigint)

    def _save_in_background(self, step: int, score: float | None) -> None:
        saved = self._snapshot(step, score)
        if saved is not None:

            def write() -> None:
                try:
                    self._write(saved, math.inf, quiet_s=_QUIET_S)
                except Exception as error:
                    self._say(
                        f"checkpoint of step {step} could not be written: {error}; training goes on, and the next one is "
                        "written when it is due"
                    )

            self._writer.start(write)
        self._plan(step)

    def _save(self, step: int, score: float | None, *, limit_s: float) -> None:
        ranks.on_rank_0(self._finish_in_flight)
        saved = self._snapshot(step, score)

        def write() -> None:
            assert saved is not None
            self._writer.start(lambda: self._write(saved, limit_s))
            if (error := self._writer.finish(self._leave_at_sigint)) is not None:
                raise CheckpointError(f"checkpoint of step {step} could not be written: {error}") from error

        ranks.on_rank_0(write)
        self._plan(step)

    def _finish_in_flight(self) -> None:
        """It is older than what is to be saved now: if the store is away, it is given up."""
        self._writer.stop_trying()
        self._writer.finish(self._leave_at_sigint)

    def _snapshot(self, step: int, score: float | None) -> Saved | None:
        """A copy of everything, on rank 0; it is good until the next one is made."""
        state: dict[str, Any] = {"own": self._objects.own()}
        if self._leads:
            state |= {"common": self._objects.common()}
        copy = self._snapshots.take(state)
        of_ranks = ranks.gather_states(copy["own"])
        if not self._leads:
            return None
        return Saved(
            step=step,
            run={"uid": self._run.uid, "name": self._run.name},
            config_hash=self._config_hash,
            score=None if score is None else float(score),
            common=copy["common"],
            ranks=of_ranks,
        )

    def _write(self, saved: Saved, limit_s: float, quiet_s: float = 0.0) -> None:
        """In the writer's thread."""
        archive = self._the_archive()
        # Before the checkpoint: what a resumed training does not do again must be recorded for good.
        self._run.sync()
        record = pack(self._run) if archive.carries_record else None
        patiently = Patience(limit_s=limit_s, wait=self._writer.wait, say=self._say, quiet_s=quiet_s)
        archive.write(saved, record, patiently)

    def _is_due(self, step: int) -> bool:
        """Not while a write is in flight: that one is told not to wait for its store any longer."""
        if step < self._due_step and time.monotonic() < self._due_time:
            return False
        if self._writer.busy:
            self._writer.stop_trying()
            return False
        return True

    def _plan(self, step: int) -> None:
        """The next one is due after a checkpoint of `step`."""
        every = self._config.every_steps
        self._due_step = (step // every + 1) * every if every else _NEVER
        minutes = self._config.every_minutes
        self._due_time = time.monotonic() + 60 * minutes if minutes else _NEVER

    def _the_archive(self) -> Archive:
        if self._archive is None:
            self._archive = Archive(
                self._uri, staging=self._staging, config=self._config, best=self._best, say=self._say
            )
        return self._archive

    def _sleep(self, seconds: float) -> bool:
        self._interruption.sleep(seconds)
        return True

    def _leave_at_sigint(self) -> None:
        if self._interruption.received == signal.SIGINT:
            self._writer.stop_trying()
            self._interruption.check()

    def _refuse_missing(self, found: Saved) -> None:
        missing = self._objects.missing(found.common, found.ranks[0]["objects"])
        if missing:
            raise ConfigError(
                f"the checkpoint of step {found.step} in {self._uri} has no {', '.join(missing)}: it is of another training; "
                f"start this one as another Job, or delete {self._uri} to begin at the beginning"
            )

    def _say_restored(self, step: int, saved_by: int) -> None:
        self._say(f"going on after step {step}, from its checkpoint in {self._uri}")
        size = ranks.world_size()
        if size > saved_by:
            self._say(
                f"it was saved by {saved_by} process(es), now there are {size}: the new ones begin random numbers of their own"
            )
        if size < saved_by:
            self._say(
                f"it was saved by {saved_by} process(es), now there are {size}: the random numbers of the others end here"
            )
