"""`trainyard launch -- PROGRAM`: one process per GPU, that train together, on one node or several."""

import argparse
import os
from collections.abc import Mapping

from trainyard.environment import seconds
from trainyard.errors import ConfigError
from trainyard.interruption import Interruption

_MARGIN_S = 5.0
"""How much later than a process' own deadline it is killed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of this command."""
    parser.description = (
        "Start PROGRAM once for each process that trains on this node, with torchrun's environment; rank = node x "
        "processes + local. SIGTERM is passed on. Exit code: of what failed first, 75 stopped with a checkpoint "
        "written, 0 finished."
    )
    parser.add_argument(
        "--nproc-per-node", default="auto", metavar="N", help="auto = one per GPU, or 1 (default: auto)"
    )
    parser.add_argument("--nnodes", type=int, default=1, metavar="N", help="pods that train together (default: 1)")
    parser.add_argument("--node-rank", type=int, metavar="N", help="default: JOB_COMPLETION_INDEX, or 0")
    parser.add_argument("--master-addr", metavar="HOST", help="of rank 0 (default: MASTER_ADDR; 127.0.0.1 on one node)")
    parser.add_argument("--master-port", type=int, metavar="PORT", help="default: MASTER_PORT; a free one on one node")
    parser.add_argument(
        "--grace-seconds",
        metavar="S",
        help=f"from SIGTERM to SIGKILL (default: TRAINYARD_GRACE_S + {_MARGIN_S:g}, or 30)",
    )
    parser.add_argument("program", nargs=argparse.REMAINDER, metavar="-- PROGRAM [ARGUMENT ...]")


def run(options: argparse.Namespace, environ: "os._Environ[str]", interruption: Interruption) -> int:
    """Run the program in each process to its end; returns the one exit code that is true of all."""
    from trainyard.launch.launcher import launch
    from trainyard.launch.name import wait_until_resolves
    from trainyard.launch.topology import Topology, meeting_point, node_rank
    from trainyard.tracking.session import say_to_stderr

    program = options.program[1:] if options.program[:1] == ["--"] else options.program
    if not program:
        raise ConfigError("which program? for example: trainyard launch --nproc-per-node 2 -- python train.py")
    if options.nnodes < 1:
        raise ConfigError(f"--nnodes={options.nnodes}: must be 1 or more")
    address, port = meeting_point(options.nnodes, options.master_addr, options.master_port, environ)
    topology = Topology(
        processes=_processes(options.nproc_per_node, environ),
        nodes=options.nnodes,
        node=node_rank(options.nnodes, options.node_rank, environ),
        address=address,
        port=port,
    )
    grace_s = _grace(options.grace_seconds, environ)
    wait_until_resolves(address, interruption=interruption, say=say_to_stderr)
    return launch(program, topology, environ, grace_s=grace_s, interruption=interruption, say=say_to_stderr)


def _processes(chosen: str, environ: Mapping[str, str]) -> int:
    if chosen == "auto":
        from trainyard.launch.gpus import visible_gpus

        return visible_gpus(environ) or 1
    if not chosen.isdecimal() or int(chosen) < 1:
        raise ConfigError(f"--nproc-per-node={chosen}: must be auto, or 1 or more")
    return int(chosen)


def _grace(chosen: str | None, environ: Mapping[str, str]) -> float:
    if chosen is not None:
        return seconds("--grace-seconds", chosen)
    return seconds("TRAINYARD_GRACE_S", environ.get("TRAINYARD_GRACE_S") or "25") + _MARGIN_S
