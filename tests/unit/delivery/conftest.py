"""The servers, and where chance comes from."""

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.delivery.processes import Site
from tests.unit.delivery.servers import Tracking, start_servers
from tests.unit.images.image_containers import Sandbox, docker, unique_name


@pytest.fixture(scope="session")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracking]:
    """One Postgres and one MLflow server for all rounds."""
    network = unique_name("network")
    docker("network", "create", network)
    sandbox = Sandbox(network)
    try:
        yield start_servers(sandbox, tmp_path_factory.mktemp("servers") / "secret")
    finally:
        sandbox.close()
        docker("network", "rm", network)


@pytest.fixture
def seed() -> int:
    """Of everything that is random. Printed, so that a failure can be repeated: TRAINYARD_SEED."""
    chosen = int(os.environ.get("TRAINYARD_SEED") or time.time_ns() % 10**9)
    print(f"TRAINYARD_SEED={chosen}")
    return chosen


@pytest.fixture
def chance(seed: int) -> random.Random:
    """The dice."""
    return random.Random(seed)


@pytest.fixture
def site(tracking: Tracking, tmp_path: Path) -> Iterator[Site]:
    """Where the writers and shippers of one test work."""
    with Site(tmp_path / "site", tracking.uri) as site:
        yield site
