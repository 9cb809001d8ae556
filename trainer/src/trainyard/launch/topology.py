"""Which process has which rank, and how it is told."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass

from trainyard import cpu
from trainyard.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Topology:
    """Processes that train together, `processes` on each of `nodes` nodes, seen from one node."""

    processes: int
    nodes: int
    node: int
    """Number of this node, from 0."""
    address: str
    """Where rank 0 listens."""
    port: int

    def environment(self, local_rank: int, environ: Mapping[str, str]) -> dict[str, str]:
        """`environ` and torchrun's variables, for one process of this node."""
        told = {
            **environ,
            "RANK": str(self.rank(local_rank)),
            "LOCAL_RANK": str(local_rank),
            "WORLD_SIZE": str(self.processes * self.nodes),
            "LOCAL_WORLD_SIZE": str(self.processes),
            "GROUP_RANK": str(self.node),
            "GROUP_WORLD_SIZE": str(self.nodes),
            "NODE_RANK": str(self.node),
            "MASTER_ADDR": self.address,
            "MASTER_PORT": str(self.port),
        }
        cpu.limit_threads(told, max(1, cpu.available_cpus() // self.processes))
        return told

    def rank(self, local_rank: int) -> int:
        """Among all processes."""
        return self.node * self.processes + local_rank


def node_rank(nodes: int, chosen: int | None, environ: Mapping[str, str]) -> int:
    """Number of this node: as chosen, else the pod's index in its Job. Raises ConfigError if there is no such node."""
    if chosen is None and nodes == 1:
        return 0  # the pods of such a Job train each by itself
    name, value = (
        ("JOB_COMPLETION_INDEX", environ.get("JOB_COMPLETION_INDEX") or "0")
        if chosen is None
        else ("--node-rank", str(chosen))
    )
    if not value.isdecimal() or int(value) >= nodes:
        raise ConfigError(f"{name}={value}: must be 0 to {nodes - 1}, since there are {nodes} node(s)")
    return int(value)


def meeting_point(nodes: int, address: str | None, port: int | None, environ: Mapping[str, str]) -> tuple[str, int]:
    """Address and port of rank 0: as given, else of the environment, else here. Raises ConfigError if other nodes could not know it."""
    found_address = address or environ.get("MASTER_ADDR")
    found_port = environ.get("MASTER_PORT", "") if port is None else str(port)
    missing = [name for name, value in (("MASTER_ADDR", found_address), ("MASTER_PORT", found_port)) if not value]
    if nodes > 1 and missing:
        raise ConfigError(
            f"--nnodes={nodes}: where rank 0 is must be said, but {' and '.join(missing)} is not set; "
            "set it, or give --master-addr and --master-port, the same on each node"
        )
    if found_port and not (found_port.isdecimal() and 0 < int(found_port) < 2**16):
        raise ConfigError(f"MASTER_PORT={found_port}: must be 1 to 65535")
    return found_address or "127.0.0.1", int(found_port) if found_port else _free_port()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
