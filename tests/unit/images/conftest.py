"""Servers that the tests share; a test that breaks its server starts one of its own."""

from collections.abc import Iterator

import pytest

from tests.unit.images.image_containers import (
    ROLES,
    ObjectStore,
    Postgres,
    Sandbox,
    docker,
    run_objectstore,
    run_postgres,
    unique_name,
    wait_for_postgres,
    write_secret,
)


@pytest.fixture(scope="session")
def network() -> Iterator[str]:
    """The network of all containers."""
    name = unique_name("network")
    docker("network", "create", name)
    yield name
    docker("network", "rm", name)


@pytest.fixture(scope="session")
def shared_sandbox(network: str) -> Iterator[Sandbox]:
    """Where the shared servers live."""
    sandbox = Sandbox(network)
    yield sandbox
    sandbox.close()


@pytest.fixture
def sandbox(network: str) -> Iterator[Sandbox]:
    """The containers of one test."""
    sandbox = Sandbox(network)
    yield sandbox
    sandbox.close()


@pytest.fixture(scope="session")
def postgres(shared_sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Postgres:
    """A database server with passwords that break careless quoting (but not a URI)."""
    passwords = {role: f"pass-'{role}'-$HOME-\"q\"-~" for role in ROLES}
    secret = write_secret(
        tmp_path_factory.mktemp("postgres"), **{f"{role}_password": passwords[role] for role in ROLES}
    )
    volume = shared_sandbox.volume()
    container = run_postgres(shared_sandbox, secret, "postgres", "-c", "max_connections=33", volume=volume)
    wait_for_postgres(container)
    return Postgres(container, passwords)


@pytest.fixture(scope="session")
def objectstore(shared_sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> ObjectStore:
    """An S3 server."""
    secret = write_secret(
        tmp_path_factory.mktemp("objectstore"), access_key="AKTEST", secret_key="secret/key+0123456789"
    )
    container = run_objectstore(shared_sandbox, secret, shared_sandbox.volume())
    container.wait_ready("ready")
    return ObjectStore(container, "AKTEST", "secret/key+0123456789")
