"""What the stand-in knows: runs, artifacts and sweeps, in memory, behind one lock."""

import hashlib
import json
import random
import threading
import time
from dataclasses import dataclass, field
from typing import Any

ENTITY = "standin"
KEY = "standin-0000000000000000000000000000000000000000"  # the client wants 40 characters at least


@dataclass
class File:
    """An uploaded file; the bytes themselves are not kept."""

    size: int
    sha256: str

    @classmethod
    def of(cls, body: bytes) -> "File":
        """Describe `body`."""
        return cls(len(body), hashlib.sha256(body).hexdigest())


@dataclass
class Run:
    """One run as the client left it."""

    id: str
    entity: str
    project: str
    name: str
    display_name: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    history: list[str | None] = field(default_factory=list)
    events: list[str | None] = field(default_factory=list)
    output: list[str | None] = field(default_factory=list)
    state: str = "running"
    exit_code: int | None = None
    preempting: bool = False
    files: dict[str, File] = field(default_factory=dict)
    rewritten_lines: int = 0  # history lines that a later request replaced by something else
    sweep: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)  # that its sweep chose
    agents: list[str] = field(default_factory=list)  # whom the run was handed to, one after the other
    stop_asked: bool = False
    seen_s: float = 0.0

    @property
    def path(self) -> str:
        """How state and URLs name the run."""
        return f"{self.entity}/{self.project}/{self.name}"

    def as_json(self) -> dict[str, Any]:
        """The run for `GET /standin/state`."""
        return {
            "entity": self.entity,
            "project": self.project,
            "name": self.name,
            "display_name": self.display_name,
            "config": self.config,
            "summary": self.summary,
            "tags": self.tags,
            "history": [None if line is None else json.loads(line) for line in self.history],
            "system_metrics": len(self.events),
            "output": self.output,
            "state": self.state,
            "exit_code": self.exit_code,
            "preempting": self.preempting,
            "files": {name: vars(file) for name, file in sorted(self.files.items())},
            "rewritten_lines": self.rewritten_lines,
            "sweep": self.sweep,
            "parameters": self.parameters,
            "agents": self.agents,
            "stop_asked": self.stop_asked,
        }


@dataclass
class Sweep:
    """A search, and what people did to it."""

    id: str
    entity: str
    project: str
    name: str
    config: dict[str, Any]
    dice: random.Random
    display_name: str = ""
    state: str = "PENDING"

    @property
    def path(self) -> str:
        """How state and agents name the sweep."""
        return f"{self.entity}/{self.project}/{self.name}"


@dataclass(frozen=True)
class Agent:
    """Somebody who asks for runs."""

    id: str
    host: str
    sweep: str


@dataclass
class Artifact:
    """One version of an artifact collection."""

    id: str
    run: str
    project: str
    collection: str
    type: str
    digest: str
    client_id: str
    version: int
    aliases: list[str]
    state: str = "PENDING"
    manifest: dict[str, Any] | None = None
    files: dict[str, File] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The version for `GET /standin/state`."""
        return {
            **{
                name: getattr(self, name)
                for name in ("run", "project", "collection", "type", "digest", "state", "aliases")
            },
            "version": f"v{self.version}",
            "files": {name: vars(file) for name, file in sorted(self.files.items())},
        }


class Store:
    """Everything received since the start; hold `lock` while you touch it."""

    def __init__(self, public_url: str, key: str = KEY) -> None:
        self.lock = threading.RLock()
        self.public_url = public_url.rstrip("/")
        self.key = key
        self.runs: dict[str, Run] = {}
        self.artifacts: dict[str, Artifact] = {}
        self.sweeps: dict[str, Sweep] = {}
        self.agents: dict[str, Agent] = {}
        self.operations: dict[str, int] = {}
        self.unknown_operations: list[str] = []
        self.refused_keys = 0
        self.outage = 0
        """HTTP status that every request of a client gets; 0 = served."""
        self.silence_s = 300.0
        """After which a run of which nothing is heard counts as crashed."""

    def run(self, entity: str | None, project: str | None, name: str) -> Run | None:
        """The run of that path, if it was created."""
        return self.runs.get(f"{entity or ENTITY}/{project or 'uncategorized'}/{name}")

    def create_run(self, entity: str | None, project: str | None, name: str) -> Run:
        """A new, empty run."""
        run = Run(id=f"run-{len(self.runs)}", entity=entity or ENTITY, project=project or "uncategorized", name=name)
        self.runs[run.path] = run
        self.seen(run)
        return run

    def seen(self, run: Run) -> None:
        """Something was heard of the run."""
        run.seen_s = time.monotonic()

    def note_silence(self) -> None:
        """Runs of which nothing was heard for long have crashed; an outage of ours is no silence of theirs."""
        for run in self.runs.values():
            if run.state in ("pending", "running") and time.monotonic() > run.seen_s + self.silence_s:
                run.state = "crashed"

    def outage_ends(self) -> None:
        """Everybody gets the time again in which to be heard."""
        self.outage = 0
        for run in self.runs.values():
            self.seen(run)

    def sweep(self, entity: str | None, project: str | None, name: str) -> Sweep | None:
        """The sweep of that path, unless it was deleted."""
        return self.sweeps.get(f"{entity or ENTITY}/{project or 'uncategorized'}/{name}")

    def create_sweep(self, entity: str | None, project: str | None, name: str, config: dict[str, Any]) -> Sweep:
        """A new one that nobody works on."""
        sweep = Sweep(
            id=f"sweep-{len(self.sweeps)}-{name}",
            entity=entity or ENTITY,
            project=project or "uncategorized",
            name=name,
            config=config,
            dice=random.Random(name),
        )
        self.sweeps[sweep.path] = sweep
        return sweep

    def as_json(self) -> dict[str, Any]:
        """The answer to `GET /standin/state`."""
        with self.lock:
            self.note_silence()
            return {
                "sweeps": {path: self._sweep_as_json(sweep) for path, sweep in self.sweeps.items()},
                "runs": {path: run.as_json() for path, run in self.runs.items()},
                "artifacts": [artifact.as_json() for artifact in self.artifacts.values()],
                "operations": dict(self.operations),
                "unknown_operations": list(self.unknown_operations),
                "refused_keys": self.refused_keys,
            }

    def _sweep_as_json(self, sweep: Sweep) -> dict[str, Any]:
        return {
            "name": sweep.name,
            "display_name": sweep.display_name,
            "state": sweep.state,
            "config": sweep.config,
            "runs": [
                run.name
                for run in self.runs.values()
                if run.path == f"{sweep.entity}/{sweep.project}/{run.name}" and run.sweep == sweep.name
            ],
            "agents": [agent.host for agent in self.agents.values() if agent.sweep == sweep.path],
        }
