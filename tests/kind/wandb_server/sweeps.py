"""GraphQL of sweeps: what `wandb sweep` and `wandb agent` ask, found by name in `SWEEP_OPERATIONS`."""

import json
import random
import string
from collections.abc import Callable, Iterable
from typing import Any

import yaml

from . import search
from .store import Agent, Run, Store, Sweep

Variables = dict[str, Any]
Answer = dict[str, Any]
_ENDED = ("FINISHED", "CANCELED")


class NotThere(Exception):  # noqa: N818 - becomes an HTTP status
    """HTTP 404: how the agent is told that its sweep was deleted."""


class NotNow(Exception):  # noqa: N818 - becomes an HTTP status
    """HTTP 400: the sweep takes no agent any more."""


def upsert_sweep(store: Store, variables: Variables) -> Answer:
    """Create a sweep, or change its state or its name."""
    if variables.get("id"):
        sweep = next((each for each in store.sweeps.values() if variables["id"] in (each.id, each.name)), None)
        if sweep is None:
            raise LookupError(f"no sweep {variables['id']}")
    else:
        config = yaml.safe_load(variables["config"])
        if missing := [name for name in ("method", "parameters") if name not in config]:
            raise LookupError(f"the sweep's config has no {' and no '.join(missing)}")
        dice = random.Random(f"{len(store.sweeps)} {variables['config']}")
        name = "".join(dice.choices(string.ascii_lowercase + string.digits, k=8))
        sweep = store.create_sweep(variables.get("entityName"), variables.get("projectName"), name, config)
    sweep.display_name = variables.get("displayName") or sweep.display_name or str(sweep.config.get("name", sweep.name))
    if variables.get("state"):
        change_state(store, sweep, variables["state"])
    project = {
        "id": f"project-{sweep.project}",
        "name": sweep.project,
        "entity": {"id": f"entity-{sweep.entity}", "name": sweep.entity},
    }
    found = {"name": sweep.name, "project": project}
    return {"upsertSweep": {"sweep": found, "configValidationWarnings": []}}


def change_state(store: Store, sweep: Sweep, state: str) -> None:
    """What a person does in the web page. Running runs are told to stop, unless it is a pause."""
    sweep.state = state
    if state in _ENDED:
        for run in _runs(store, sweep):
            run.stop_asked = run.stop_asked or run.state in ("pending", "running")


def delete(store: Store, sweep: Sweep) -> None:
    """As the web page does; its runs stay."""
    del store.sweeps[sweep.path]


def sweep_with_runs(store: Store, variables: Variables) -> Answer:
    """A sweep and its runs; null where there is none."""
    sweep = store.sweep(variables.get("entity"), variables.get("project"), variables["sweep"])
    if sweep is None:
        return {"project": {"sweep": None}}
    fields = {
        "id": sweep.id,
        "name": sweep.name,
        "method": sweep.config["method"],
        "state": _settled_state(store, sweep),
        "description": sweep.config.get("description"),
        "config": yaml.safe_dump(sweep.config),
        "createdAt": "2026-01-01T00:00:00",
        "heartbeatAt": None,
        "updatedAt": None,
        "earlyStopJobRunning": False,
        "bestLoss": min((value for _, value in _results(store, sweep)), default=None),
        "controller": None,
        "scheduler": None,
        "runs": {"edges": [{"node": _node(run, _specs(variables["specs"]))} for run in _runs(store, sweep)]},
    }
    return {"project": {"sweep": fields}}


def get_sweep_state(store: Store, variables: Variables) -> Answer:
    """Its state alone."""
    sweep = store.sweep(variables.get("entity"), variables.get("project"), variables["sweep"])
    return {"project": {"sweep": None if sweep is None else {"state": _settled_state(store, sweep)}}}


def create_agent(store: Store, variables: Variables) -> Answer:
    """Somebody who will ask for runs."""
    sweep = store.sweep(variables.get("entityName"), variables.get("projectName"), variables["sweep"])
    if sweep is None:
        raise NotThere(f"no sweep {variables['sweep']}")
    if sweep.state in _ENDED:
        raise NotNow(f"sweep {sweep.name} is not running")
    agent = Agent(id=f"agent-{len(store.agents)}", host=variables["host"], sweep=sweep.path)
    store.agents[agent.id] = agent
    return {"createAgent": {"agent": {"id": agent.id}}}


def heartbeat(store: Store, variables: Variables) -> Answer:
    """What the agent is to do: `run`, `resume`, `stop`, `exit`, or nothing new."""
    agent = store.agents.get(variables["id"])
    sweep = None if agent is None else store.sweeps.get(agent.sweep)
    if agent is None or sweep is None:
        raise NotThere("the sweep or the agent was deleted")
    running = [name for name, alive in json.loads(variables.get("runState") or "{}").items() if alive]
    commands = [] if sweep.state == "PAUSED" else _commands(store, sweep, agent, running)
    return {"agentHeartbeat": {"agent": {"id": agent.id}, "commands": json.dumps(commands)}}


def _commands(store: Store, sweep: Sweep, agent: Agent, running: list[str]) -> list[dict[str, Any]]:
    if running:
        return [{"type": "stop", "run_id": name} for name in running if _to_be_stopped(store, sweep, name)]
    if sweep.state in _ENDED:
        return [{"type": "exit"}]
    sweep.state = "RUNNING"
    waiting = next((run for run in _runs(store, sweep) if run.state == "preempted"), None)
    if waiting is not None:
        return [_handed_out(store, sweep, agent, waiting, "resume")]
    values = _next_values(store, sweep)
    if values is None:
        _settled_state(store, sweep)
        return [{"type": "exit"}]
    run = store.create_run(sweep.entity, sweep.project, "".join(sweep.dice.choices(string.ascii_lowercase, k=8)))
    run.sweep, run.parameters = sweep.name, values
    run.config = {name: {"value": value} for name, value in values.items()}
    return [_handed_out(store, sweep, agent, run, "run")]


def _handed_out(store: Store, sweep: Sweep, agent: Agent, run: Run, kind: str) -> dict[str, Any]:
    run.state, run.preempting, run.exit_code = "pending", False, None
    run.agents.append(agent.id)
    store.seen(run)
    args = {name: {"value": value} for name, value in run.parameters.items()}
    return {"type": kind, "run_id": run.name, "program": sweep.config.get("program", ""), "args": args}


def _next_values(store: Store, sweep: Sweep) -> dict[str, Any] | None:
    """None: the search is at its end."""
    made = list(_runs(store, sweep))
    cap = sweep.config.get("run_cap")
    if cap is not None and len(made) >= cap:
        return None
    if sweep.config["method"] != "grid":
        return search.propose(sweep.config, _results(store, sweep), sweep.dice)
    tried = [run.parameters for run in made]
    return next((cell for cell in search.cells(sweep.config) if cell not in tried), None)


def _settled_state(store: Store, sweep: Sweep) -> str:
    """`FINISHED` once nothing is left to try and all runs have ended."""
    if sweep.state == "RUNNING":
        states = [run.state for run in _runs(store, sweep)]
        if states and not {"pending", "running", "preempted"}.intersection(states) and _is_exhausted(store, sweep):
            sweep.state = "FINISHED"
    return sweep.state


def _is_exhausted(store: Store, sweep: Sweep) -> bool:
    cap = sweep.config.get("run_cap")
    made = len(list(_runs(store, sweep)))
    if cap is not None and made >= cap:
        return True
    return sweep.config["method"] == "grid" and made >= len(search.cells(sweep.config))


def _to_be_stopped(store: Store, sweep: Sweep, name: str) -> bool:
    run = store.run(sweep.entity, sweep.project, name)
    if run is None:
        return False
    rule = sweep.config.get("early_terminate")
    if not run.stop_asked and rule and rule.get("type") == "hyperband":
        metric = sweep.config["metric"]
        mine = search.metric_history(run.history, metric)
        others = [search.metric_history(each.history, metric) for each in _runs(store, sweep) if each is not run]
        run.stop_asked = search.is_hopeless(mine, others, rule)
    return run.stop_asked


def _runs(store: Store, sweep: Sweep) -> Iterable[Run]:
    """In the order in which they were handed out first."""
    store.note_silence()
    return [
        run
        for run in store.runs.values()
        if (run.entity, run.project, run.sweep) == (sweep.entity, sweep.project, sweep.name)
    ]


def _results(store: Store, sweep: Sweep) -> list[tuple[dict[str, Any], float]]:
    """Parameters and metric of what finished; the metric with the sign at which less is better."""
    metric = sweep.config.get("metric")
    if not metric:
        return []
    finished = (run for run in _runs(store, sweep) if run.state == "finished")
    measured = ((run.parameters, search.metric_history(run.history, metric)) for run in finished)
    return [(values, history[-1]) for values, history in measured if history]


def _specs(asked: str | list[str]) -> list[list[str]]:
    """Which metrics; the client sends an empty one, and GraphQL makes a list of it."""
    return [json.loads(spec).get("keys", []) for spec in ([asked] if isinstance(asked, str) else asked)]


def _node(run: Run, specs: list[list[str]]) -> dict[str, Any]:
    rows = [json.loads(line) for line in run.history if line is not None]
    return {
        "name": run.name,
        "state": run.state,
        "config": json.dumps(run.config),
        "exitcode": run.exit_code,
        "heartbeatAt": None,
        "shouldStop": run.stop_asked,
        "failed": run.state == "failed",
        "stopped": run.stop_asked,
        "running": run.state == "running",
        "summaryMetrics": json.dumps(run.summary),
        "sampledHistory": [
            [{key: row[key] for key in keys} for row in rows if keys and row.keys() >= set(keys)] for keys in specs
        ],
    }


SWEEP_OPERATIONS: dict[str, Callable[[Store, Variables], Answer]] = {
    "UpsertSweep": upsert_sweep,
    "SweepWithRuns": sweep_with_runs,
    "GetSweepState": get_sweep_state,
    "CreateAgent": create_agent,
    "Heartbeat": heartbeat,
}
