"""`POST /files/<entity>/<project>/<run>/file_stream`: history, summary, console lines and the end of a run."""

import json
from typing import Any

from .store import Run


def apply(run: Run, request: dict[str, Any]) -> dict[str, Any]:
    """Take one request of the client; a request that comes again changes nothing."""
    for name, chunk in request.get("files", {}).items():
        lines = chunk.get("content", [])
        if name == "wandb-summary.json":
            if lines:
                run.summary = json.loads(lines[-1])
        elif name == "wandb-history.jsonl":
            run.rewritten_lines += _put(run.history, chunk.get("offset", 0), lines)
        elif name == "wandb-events.jsonl":
            _put(run.events, chunk.get("offset", 0), lines)
        elif name == "output.log":
            _put(run.output, chunk.get("offset", 0), lines)
    run.preempting = run.preempting or bool(request.get("preempting"))
    if request.get("complete"):
        run.exit_code = int(request.get("exitcode") or 0)
        run.state = _end_state(run)
    elif lines_or_files(request):
        run.state, run.exit_code = "running", None
    return {"exitcode": None, "limits": {}}


def _end_state(run: Run) -> str:
    if run.exit_code == 0:
        return "finished"
    if run.preempting:
        return "preempted"
    return "killed" if run.stop_asked else "failed"


def lines_or_files(request: dict[str, Any]) -> bool:
    """Whether a request brings data, so that a run that had ended runs again."""
    return bool(request.get("files") or request.get("uploaded"))


def _put(stored: list[str | None], offset: int, lines: list[str]) -> int:
    """Write `lines` at `offset`, as the real server does; return how many stored lines became different."""
    changed = 0
    for position, line in enumerate(lines, start=offset):
        if position >= len(stored):
            stored.extend([None] * (position + 1 - len(stored)))
        elif stored[position] not in (None, line):
            changed += 1
        stored[position] = line
    return changed
