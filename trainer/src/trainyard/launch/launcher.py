"""The processes of one node: started, and seen to one truthful exit code."""

import signal
from collections.abc import Callable, Mapping, Sequence

from trainyard import exit_codes
from trainyard.interruption import Interruption
from trainyard.launch.output import PrefixedOutput
from trainyard.launch.supervisor import Child, Supervisor
from trainyard.launch.topology import Topology


def launch(
    program: Sequence[str],
    topology: Topology,
    environ: Mapping[str, str],
    *,
    grace_s: float,
    interruption: Interruption,
    say: Callable[[str], None],
) -> int:
    """Run `program` once for each process of this node, to the end of all; returns the exit code.

    Raises ConfigError if it cannot be started.
    """
    several = topology.processes > 1
    with Supervisor(interruption, grace_s=grace_s, reap_orphans=True) as supervisor:
        for local_rank in range(topology.processes):
            told = topology.environment(local_rank, environ)
            if several:
                # Through a pipe Python would keep back lines for as long as a buffer is not full.
                told.setdefault("PYTHONUNBUFFERED", "1")
            supervisor.start(f"rank {topology.rank(local_rank)}", program, told, piped=several)
        output = PrefixedOutput(supervisor.children) if several else None
        code = supervisor.wait()
        if output is not None:
            output.finish()
    if code != exit_codes.FINISHED:
        say(_describe(supervisor, code, grace_s))
    return code


def _describe(supervisor: Supervisor, code: int, grace_s: float) -> str:
    """One line that tells whoever is woken at night what happened."""
    told = None if supervisor.told is None else signal.Signals(supervisor.told).name
    failed, killed = supervisor.failed, supervisor.killed
    if supervisor.told_again is not None:
        return f"a second signal after {told}: {_names(killed)} killed; exit code {code}"
    if failed is not None and failed not in killed:
        others = "; the other ranks were stopped" if supervisor.stopped else ""
        return f"{_describe_failure(failed)}; its last output is above{others}"
    if killed:
        return (
            f"{_names(killed)} had not ended {grace_s:g} s after {told} and had to be killed; exit code {code}; "
            "if a checkpoint takes longer, raise TRAINYARD_GRACE_S and the pod's terminationGracePeriodSeconds"
        )
    if code == exit_codes.PREEMPTED:
        return "stopped with a checkpoint written; the same command goes on from there; exit code 75"
    return f"stopped by {told}, and not known to be finished; exit code {code}"


def _describe_failure(child: Child) -> str:
    assert child.code is not None
    if child.process.returncode >= 0:
        return f"{child.name} ended with exit code {child.code}"
    name = signal.Signals(-child.process.returncode).name
    hint = "; where nobody did that, it was the kernel, for lack of memory" if name == "SIGKILL" else ""
    return f"{child.name} was killed by {name}{hint}"


def _names(children: Sequence[Child]) -> str:
    return ", ".join(child.name for child in children)
