"""Questions to the W&B server, by the same GraphQL that the wandb client resumes a run with."""

import base64
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from trainyard.shipping.backend import Retry, Unusable
from trainyard.shipping.wandb.options import Options

_TIMEOUT_S: Final = 10.0
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


class NoAnswer(Retry):
    """The server is away, which may be over in a moment."""


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
        credentials = base64.b64encode(f"api:{options.api_key}".encode()).decode()
        self._headers = {"Authorization": f"Basic {credentials}", "Content-Type": "application/json"}

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
        url = self._options.base_url
        body = json.dumps({"query": text, "variables": variables}).encode()
        request = urllib.request.Request(f"{url}/graphql", data=body, headers=self._headers)
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            raise _http_trouble(url, error) from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise NoAnswer(
                f"W&B at {url} cannot be reached ({reason}): check WANDB_BASE_URL, or whether it is down"
            ) from error
        except ValueError as error:
            raise Unusable(f"{url} does not answer as W&B does: check WANDB_BASE_URL") from error
        errors = answer.get("errors") or []
        if not all(isinstance(each, dict) for each in errors):  # GraphQL of some other program
            raise Unusable(f"{url} does not answer as W&B does: check WANDB_BASE_URL")
        if messages := [each.get("message", "") for each in errors]:
            place = f"project {self._options.project!r} of entity {self._options.entity or '(default)'!r}"
            raise Unusable(f"W&B at {url} refuses {place}: {'; '.join(messages)}; check WANDB_PROJECT and WANDB_ENTITY")
        data: dict[str, Any] = answer.get("data") or {}
        return data


def _http_trouble(url: str, error: urllib.error.HTTPError) -> Retry:
    if error.code in (401, 403):
        return Unusable(f"W&B at {url} refuses the key (HTTP {error.code}): WANDB_API_KEY must be a key of that server")
    if error.code in (404, 405):
        return Unusable(f"{url} is no W&B server (HTTP {error.code}): check WANDB_BASE_URL")
    return NoAnswer(f"W&B at {url} answers HTTP {error.code}: {error.read(200).decode(errors='replace')}")
