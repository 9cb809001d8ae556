"""Questions to the W&B server, by the same GraphQL that the wandb client resumes a run with."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from trainyard.shipping.wandb.graphql import GraphQl
from trainyard.shipping.wandb.options import Options

_FILES: Final = 50
"""That one question may be about."""
_RUN_STATUS: Final = """query RunResumeStatus($project: String, $entity: String, $name: String!) {
  model(name: $project, entityName: $entity) {
    bucket(name: $name, missingOk: true) { historyLineCount historyTail config }
  }
}"""
_RUN_FILES: Final = """query RunFiles($project: String!, $entity: String!, $name: String!, $fileNames: [String], $first: Int) {
  project(name: $project, entityName: $entity) {
    run(name: $name) { files(names: $fileNames, first: $first) { edges { node { name sizeBytes } } } }
  }
}"""


@dataclass(frozen=True, slots=True)
class RunStatus:
    """What the server has of a run."""

    next_step: int
    """The W&B step after the last one stored."""
    config: dict[str, Any]


class WandbServer:
    """Asks; each answer takes seconds at most."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._graphql = GraphQl(options.base_url, options.api_key)

    def run_status(self, run_id: str, entity: str | None) -> RunStatus:
        """How far the run is there. Raises Retry."""
        variables = {"project": self._options.project, "entity": entity, "name": run_id}
        bucket = (self._query(_RUN_STATUS, variables).get("model") or {}).get("bucket") or {}
        lines = json.loads(bucket.get("historyTail") or "[]") if bucket.get("historyLineCount") else []
        # The client continues after this step when it resumes, so nothing else may decide what is there.
        next_step = int(json.loads(lines[-1])["_step"]) + 1 if lines else 0
        config = {key: item.get("value") for key, item in json.loads(bucket.get("config") or "{}").items()}
        return RunStatus(next_step, config)

    def file_sizes(self, run_id: str, entity: str | None, names: Sequence[str]) -> dict[str, int]:
        """Bytes of those files of the run that are there. Raises Retry."""
        sizes: dict[str, int] = {}
        for names_asked in (names[first : first + _FILES] for first in range(0, len(names), _FILES)):
            variables = {
                "project": self._options.project,
                "entity": entity,
                "name": run_id,
                "fileNames": names_asked,
                "first": _FILES,
            }
            run = (self._query(_RUN_FILES, variables).get("project") or {}).get("run") or {}
            nodes = [edge["node"] for edge in (run.get("files") or {}).get("edges") or []]
            sizes.update((node["name"], int(node["sizeBytes"])) for node in nodes)
        return sizes

    def _query(self, text: str, variables: dict[str, Any]) -> dict[str, Any]:
        place = f"project {self._options.project!r} of entity {self._options.entity or '(default)'!r}"
        return self._graphql.query(text, variables, place=place)
