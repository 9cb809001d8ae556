"""What is asked of W&B's server: who are we, a new sweep, how is it?"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from trainyard.errors import ConfigError
from trainyard.shipping.backend import Unusable
from trainyard.shipping.wandb.graphql import GraphQl
from trainyard.shipping.wandb.options import Options
from trainyard.spool.records import Start
from trainyard.sweeps.records import State, TrialRecord
from trainyard.sweeps.sweep import ParameterValue, Sweep

_SAMPLES: Final = 500
"""Of a metric's course, as many points as a picture can show."""
_STEP: Final = "trainyard/step"
_VIEWER: Final = "query Viewer { viewer { id entity username } }"
_UPSERT: Final = """mutation UpsertSweep($config: String, $entityName: String, $projectName: String, $displayName: String) {
  upsertSweep(input: {config: $config, entityName: $entityName, projectName: $projectName, displayName: $displayName}) {
    sweep { name project { name entity { name } } }
    configValidationWarnings
  }
}"""
_SWEEP: Final = """query SweepWithRuns($entity: String, $project: String, $sweep: String!, $specs: [JSONString!]!) {
  project(name: $project, entityName: $entity) {
    sweep(sweepName: $sweep) {
      name state config
      runs { edges { node { name state config exitcode summaryMetrics sampledHistory(specs: $specs) } } }
    }
  }
}"""
_STATES: Final[Mapping[str, State]] = {
    "finished": "finished",
    "pending": "running",
    "running": "running",
    "preempting": "running",
    "preempted": "waiting",
    "killed": "stopped",
    "failed": "failed",
    "crashed": "failed",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sweep is at the server."""

    entity: str
    project: str
    id: str

    def __str__(self) -> str:
        return f"{self.entity}/{self.project}/{self.id}"

    @classmethod
    def read(cls, text: str) -> Self:
        """From ENTITY/PROJECT/ID."""
        return cls(*text.split("/"))


@dataclass(frozen=True, slots=True)
class Standing:
    """A sweep as its server sees it."""

    state: str
    """PENDING, RUNNING, PAUSED, FINISHED or CANCELED."""
    config: str
    """YAML, as the sweep was made."""
    runs: tuple[Mapping[str, Any], ...] = field(repr=False)

    @property
    def is_over(self) -> bool:
        """Whether the server hands out nothing any more, whatever comes."""
        return self.state in ("FINISHED", "CANCELED")

    def trials(self, sweep: Sweep) -> list[TrialRecord]:
        """Its runs, as `sweep` reads them."""
        return [_trial(sweep, run) for run in self.runs]


class SweepServer:
    """Every call raises NoAnswer where another try may succeed, and Unusable where not."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._graphql = GraphQl(options.base_url, options.api_key)

    @classmethod
    def of(cls, environ: Mapping[str, str], state_dir: Path, *, entity: str | None, project: str) -> Self:
        """By the environment. Raises ConfigError; asks nobody."""
        mode = environ.get("WANDB_MODE") or "online"
        if mode != "online":
            raise ConfigError(
                f"WANDB_MODE={mode}: W&B's server leads the sweep; set WANDB_MODE=online, or backend: optuna in the sweep file, "
                "which needs no server of W&B"
            )
        settings = {"WANDB_PROJECT": project, **({} if entity is None else {"WANDB_ENTITY": entity})}
        nothing = Start(uid="", name="", experiment="", tags={}, time_ms=0, backends=(), settings=settings)
        if not environ.get("WANDB_API_KEY", "").strip():
            raise ConfigError(
                "WANDB_API_KEY is not set: W&B's server leads the sweep; set it (in a pod, from a Secret), or backend: optuna in the "
                "sweep file, which needs no key"
            )
        try:
            return cls(Options.read(nothing, state_dir, {**environ, "WANDB_MODE": mode}))
        except Unusable as unusable:
            raise ConfigError(str(unusable)) from unusable

    @property
    def url(self) -> str:
        """Of the server."""
        return self.options.base_url

    def entity(self) -> str:
        """The one that was chosen, or else the key owner's."""
        viewer = self._graphql.query(_VIEWER, {}, place="the key").get("viewer")
        if not viewer:
            raise Unusable(f"W&B at {self.url} does not know the key: WANDB_API_KEY must be a key of that server")
        return self.options.entity or str(viewer["entity"])

    def create(self, entity: str, config: Mapping[str, Any]) -> tuple[Place, list[str]]:
        """A new sweep, and what the server finds strange about it."""
        variables = {
            "config": json.dumps(config),  # which is YAML
            "entityName": entity,
            "projectName": self.options.project,
            "displayName": config["name"],
        }
        answer = self._graphql.query(_UPSERT, variables, place=f"a sweep in {entity}/{self.options.project}")
        made = answer["upsertSweep"]["sweep"]
        project = made["project"]
        warnings = answer["upsertSweep"].get("configValidationWarnings") or []
        return Place(project["entity"]["name"], project["name"], made["name"]), warnings

    def look(self, place: Place, metric: str | None = None) -> Standing | None:
        """How the sweep is, with the course of `metric` in its runs; None where there is no such sweep."""
        specs = [] if metric is None else [json.dumps({"keys": [_STEP, metric], "samples": _SAMPLES})]
        variables = {"entity": place.entity, "project": place.project, "sweep": place.id, "specs": specs}
        project = self._graphql.query(_SWEEP, variables, place=f"sweep {place}").get("project") or {}
        found = project.get("sweep")
        if not found:
            return None
        runs = tuple(edge["node"] for edge in found["runs"]["edges"])
        return Standing(str(found["state"]).upper(), found["config"], runs)


def _trial(sweep: Sweep, run: Mapping[str, Any]) -> TrialRecord:
    config = {name: item.get("value") for name, item in _json(run["config"]).items() if isinstance(item, dict)}
    summary = _json(run["summaryMetrics"])
    state, reason = _end(run, config)
    values = tuple(float(summary[each.name]) for each in sweep.objectives if summary.get(each.name) is not None)
    first = sweep.objectives[0].name
    rows = [row for sampled in run.get("sampledHistory") or [] for row in sampled if row.get(first) is not None]
    return TrialRecord(
        number=run["name"],
        state=state,
        parameters={**sweep.constants, **_parameters(sweep, config)},
        values=values if len(values) == len(sweep.objectives) else (),
        history={int(row.get(_STEP, position)): float(row[first]) for position, row in enumerate(rows)},
        reason=reason,
    )


def _parameters(sweep: Sweep, config: Mapping[str, Any]) -> Mapping[str, ParameterValue]:
    return {name: config[name] for name in sweep.parameters if config.get(name) is not None}


def _end(run: Mapping[str, Any], config: Mapping[str, Any]) -> tuple[State, str]:
    """W&B's word for it, unless the run itself knows better; and why it failed."""
    ours = config.get("trainyard") or {}
    said = ours.get("tags", {}).get("trainyard.end_reason")
    state = _STATES.get(run["state"], "failed")
    if state in ("finished", "failed", "stopped") and said in ("pruned", "stopped"):
        return ("pruned" if said == "pruned" else "stopped"), ""
    if run["state"] == "crashed":
        return state, "crashed: nothing was heard of it for minutes"
    return state, "" if state != "failed" else f"exit code {run['exitcode']}"


def _json(text: str | None) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text or "{}") or {}
    return found
