"""GraphQL of runs: one function an operation, found by name in `OPERATIONS` beside those of artifacts and sweeps."""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from .artifacts import ARTIFACT_OPERATIONS
from .store import ENTITY, Run, Store
from .sweeps import SWEEP_OPERATIONS

Variables = dict[str, Any]
Answer = dict[str, Any]


def viewer(_store: Store, _variables: Variables) -> Answer:
    """Who the key belongs to."""
    return {
        "viewer": {
            "id": "user-0",
            "entity": ENTITY,
            "username": ENTITY,
            "email": "standin@example.com",
            "admin": False,
            "flags": "{}",
            "teams": {"edges": [{"node": {"name": ENTITY}}]},
        }
    }


def server_features(_store: Store, _variables: Variables) -> Answer:
    """No optional features: the client takes the oldest path everywhere."""
    return {"serverInfo": {"features": []}}


def coreweave_organization(_store: Store, _variables: Variables) -> Answer:
    """Not hosted there."""
    return {"entity": {"organization": {"coreWeaveOrganizationId": ""}}}


def upsert_bucket(store: Store, variables: Variables) -> Answer:
    """Create a run, or change what is given."""
    run = store.run(variables.get("entity"), variables.get("project"), variables["name"])
    inserted = run is None or run.state == "pending"  # handed out by a sweep, and not begun
    run = run or store.create_run(variables.get("entity"), variables.get("project"), variables["name"])
    run.display_name = variables.get("displayName") or run.display_name or run.name
    run.tags = variables.get("tags") or run.tags
    run.sweep = variables.get("sweep") or run.sweep
    if run.state == "pending":
        run.state = "running"
    store.seen(run)
    if variables.get("config"):
        run.config = json.loads(variables["config"])
    if variables.get("summaryMetrics"):
        run.summary = json.loads(variables["summaryMetrics"])
    bucket = {
        "id": run.id,
        "name": run.name,
        "displayName": run.display_name,
        "description": None,
        "config": json.dumps(run.config),
        "sweepName": run.sweep,
        "project": _project(run),
        "historyLineCount": len(run.history),
    }
    return {"upsertBucket": {"bucket": bucket, "inserted": inserted}}


def run_resume_status(store: Store, variables: Variables) -> Answer:
    """How far a run got; `bucket` is null for a run that does not exist."""
    run = store.run(variables.get("entity"), variables.get("project"), variables["name"])
    if run is None:
        return {"model": {"id": "project", "name": variables.get("project"), "entity": _entity(ENTITY), "bucket": None}}
    started = run.config.get("_wandb", {}).get("value", {}).get("t")
    bucket = {
        "id": run.id,
        "name": run.name,
        "summaryMetrics": json.dumps(run.summary),
        "displayName": run.display_name,
        "logLineCount": len(run.output),
        "historyLineCount": len(run.history),
        "eventsLineCount": len(run.events),
        "historyTail": json.dumps(run.history[-1:]),
        "eventsTail": json.dumps(run.events[-1:]),
        "config": json.dumps(run.config),
        "tags": run.tags,
        "notes": None,
        "wandbConfig": json.dumps({} if started is None else {"t": started}),
    }
    return {"model": {**_project(run), "bucket": bucket}}


def create_run_files(store: Store, variables: Variables) -> Answer:
    """Where to PUT each file."""
    run = store.run(variables.get("entity"), variables.get("project"), variables["run"])
    if run is None:
        raise LookupError(f"no run {variables['run']}")
    files = [
        {"name": name, "uploadUrl": f"{store.public_url}/upload/run/{run.path}/{quote(name)}"}
        for name in variables["files"]
    ]
    return {"createRunFiles": {"runID": run.id, "uploadHeaders": [], "files": files}}


def run_files(store: Store, variables: Variables) -> Answer:
    """Names and sizes of uploaded files, of those asked for."""
    run = store.run(variables.get("entity"), variables.get("project"), variables["name"])
    if run is None:
        return {"project": {"run": None}}
    asked = variables.get("fileNames") or sorted(run.files)
    nodes = [{"name": name, "sizeBytes": str(run.files[name].size)} for name in asked if name in run.files]
    return {"project": {"run": {"files": {"edges": [{"node": node} for node in nodes]}}}}


def _project(run: Run) -> dict[str, Any]:
    return {"id": f"project-{run.project}", "name": run.project, "entity": _entity(run.entity)}


def _entity(name: str) -> dict[str, str]:
    return {"id": f"entity-{name}", "name": name}


OPERATIONS: dict[str, Callable[[Store, Variables], Answer]] = {
    "Viewer": viewer,
    "ServerFeaturesQuery": server_features,
    "OrganizationCoreWeaveOrganizationID": coreweave_organization,
    "UpsertBucket": upsert_bucket,
    "RunResumeStatus": run_resume_status,
    "CreateRunFiles": create_run_files,
    "RunFiles": run_files,
    **ARTIFACT_OPERATIONS,
    **SWEEP_OPERATIONS,
}
