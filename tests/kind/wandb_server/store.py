"""What the stand-in knows: runs and artifacts, in memory, behind one lock."""

import hashlib
import json
import threading
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
        }


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
        self.operations: dict[str, int] = {}
        self.unknown_operations: list[str] = []
        self.refused_keys = 0
        self.outage = 0
        """HTTP status that every request of a client gets; 0 = served."""

    def run(self, entity: str | None, project: str | None, name: str) -> Run | None:
        """The run of that path, if it was created."""
        return self.runs.get(f"{entity or ENTITY}/{project or 'uncategorized'}/{name}")

    def create_run(self, entity: str | None, project: str | None, name: str) -> Run:
        """A new, empty run."""
        run = Run(id=f"run-{len(self.runs)}", entity=entity or ENTITY, project=project or "uncategorized", name=name)
        self.runs[run.path] = run
        return run

    def as_json(self) -> dict[str, Any]:
        """The answer to `GET /standin/state`."""
        with self.lock:
            return {
                "runs": {path: run.as_json() for path, run in self.runs.items()},
                "artifacts": [artifact.as_json() for artifact in self.artifacts.values()],
                "operations": dict(self.operations),
                "unknown_operations": list(self.unknown_operations),
                "refused_keys": self.refused_keys,
            }
