"""Workers in containers, as pods of one Job are, with one Postgres."""

import csv
import io
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import yaml

from tests.unit.images.image_containers import (
    ROLES,
    Container,
    Postgres,
    Sandbox,
    docker,
    run_postgres,
    unique_name,
    wait_for_postgres,
    write_secret,
)

_REPOSITORY = Path(__file__).parents[3]
_PROGRAM = ["python", "/repository/tests/unit/sweeps/program.py"]


@dataclass
class Site:
    """One sweep, its database, and the folder that all workers see as /shared."""

    sandbox: Sandbox
    postgres: Postgres
    shared: Path

    def describe(self, **sweep: Any) -> None:
        """Write the sweep file."""
        base = {
            "name": "crowd",
            "method": "random",
            "metric": {"name": "loss"},
            "parameters": {"x": {"min": 0.0, "max": 1.0}},
            "heartbeat_s": 1,
            "program": [*_PROGRAM, "{x}", "3"],
        }
        (self.shared / "sweep.yaml").write_text(yaml.safe_dump({**base, **sweep}))

    def start(self, *command: str, environ: Mapping[str, str] | None = None) -> Container:
        """Run a command in the trainer's image."""
        told = {
            "PYTHONPATH": "/repository/trainer/src:/repository",
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
            "TRAINYARD_TRACKING": "json",
            "TRAINYARD_STATE_DIR": "/tmp/state",
            "TRAINYARD_OPTUNA_URL": self.postgres.uri("optuna"),
            "GATES": "/shared/gates",
            "STARTS": "/shared/starts",
            **(environ or {}),
        }
        options = [f"--volume={_REPOSITORY}:/repository:ro", f"--volume={self.shared}:/shared", "--workdir=/tmp"]
        return self.sandbox.run(
            "trainer_test", *command, options=[*options, *[f"--env={name}={value}" for name, value in told.items()]]
        )

    def worker(self, index: int, **environ: str) -> Container:
        """One pod of the Job."""
        return self.start(
            "python", "-m", "trainyard", "sweep", "run", "/shared/sweep.yaml",
            environ={"JOB_COMPLETION_INDEX": str(index), **environ},
        )  # fmt: skip

    def export(self, **environ: str) -> list[dict[str, str]]:
        """What the study holds, as `trainyard sweep export` tells it."""
        export = self.start(
            "sh", "-c", "python -m trainyard sweep export /shared/sweep.yaml --output /tmp/x 1>&2 && cat /tmp/x",
            environ=environ,
        )  # fmt: skip
        assert export.exit_code() == 0, export.logs()
        return list(csv.DictReader(io.StringIO(docker("logs", export.name).stdout)))

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Rows of Optuna's database."""
        with closing(psycopg2.connect(self.postgres.dsn("optuna", "optuna"))) as connection, connection:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return list(cursor.fetchall())

    def states(self) -> dict[str, int]:
        """How many attempts are in which state."""
        return dict(self.query("SELECT state, count(*) FROM trials GROUP BY state"))

    def gate(self, trial: int, step: int) -> Path:
        """Make a trial wait in front of a step until the file is removed."""
        gate = self.shared / "gates" / f"{trial}-{step}"
        gate.touch()
        return gate

    def lines(self, name: str) -> list[list[str]]:
        """Of a file that the trials write."""
        path = self.shared / name
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Postgres]]:
    """A network and the Postgres in it."""
    network = unique_name("network")
    docker("network", "create", network)
    sandbox = Sandbox(network)
    try:
        passwords = dict.fromkeys(ROLES, "p{ss%w@rd")
        quoted = dict.fromkeys(ROLES, "p%7Bss%25w%40rd")
        secret = write_secret(
            tmp_path_factory.mktemp("servers") / "secret",
            **{f"{role}_password": password for role, password in passwords.items()},
        )
        container = run_postgres(sandbox, secret, "postgres", "-c", "max_connections=60", volume=sandbox.volume())
        wait_for_postgres(container)
        yield network, _Quoted(container, passwords, quoted)
    finally:
        sandbox.close()
        docker("network", "rm", network)


@dataclass(frozen=True)
class _Quoted(Postgres):
    quoted: dict[str, str]

    def uri(self, database: str) -> str:
        return f"postgresql+psycopg2://{database}:{self.quoted[database]}@{self.container.name}:5432/{database}"


@pytest.fixture
def site(server: tuple[str, Postgres], tmp_path: Path) -> Iterator[Site]:
    """A sweep in a database that is empty."""
    network, postgres = server
    sandbox = Sandbox(network)
    shared = tmp_path / "shared"
    (shared / "gates").mkdir(parents=True)
    for folder in (shared, shared / "gates"):
        folder.chmod(0o777)
    site = Site(sandbox, postgres, shared)
    site.query("DROP SCHEMA public CASCADE; CREATE SCHEMA public; SELECT 1")
    try:
        yield site
    finally:
        sandbox.close()
