"""A real MLflow server on a real Postgres, and what is stored there, read without MLflow's help."""

import socket
import urllib.request
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2

from tests.unit.delivery.plan import Row
from tests.unit.images.image_containers import (
    ROLES,
    Container,
    Postgres,
    Sandbox,
    migrate,
    run_postgres,
    wait_for_postgres,
    wait_until,
    write_secret,
)

_ARTIFACTS = "/var/tmp/artifacts"
_SEPARATOR = "  "
"""Of sha256sum, between digest and name."""


@dataclass(frozen=True, kw_only=True)
class StoredRun:
    """One run, as Postgres and the artifact store hold it."""

    run_id: str
    uid: str
    status: str
    start_ms: int
    end_ms: int | None
    points: "Counter[Row]"
    params: dict[str, str]
    tags: dict[str, str]
    artifacts: dict[str, str]
    """SHA-256 by path inside the run."""


@dataclass(frozen=True)
class Tracking:
    """Both servers."""

    postgres: Postgres
    mlflow: Container
    port: int

    @property
    def uri(self) -> str:
        """The address on this machine; the same after a restart."""
        return f"http://127.0.0.1:{self.port}"

    def wait_ready(self) -> None:
        """Until the server answers from the database."""
        wait_until(self._ready, "an answer of the MLflow server")

    def _ready(self) -> bool:
        assert self.mlflow.running(), self.mlflow.logs()
        try:
            urllib.request.urlopen(f"{self.uri}/api/2.0/mlflow/experiments/get?experiment_id=0", timeout=5).close()
        except OSError:
            return False
        return True

    def query(self, statement: str, *values: str) -> list[tuple[Any, ...]]:
        """Rows of MLflow's database."""
        with closing(psycopg2.connect(self.postgres.dsn("mlflow", "mlflow"))) as connection, connection:
            with connection.cursor() as cursor:
                cursor.execute(statement, values)
                return list(cursor.fetchall())

    def runs(self, experiment: str) -> dict[str, StoredRun]:
        """Every run of an experiment by its id, deleted ones left out."""
        which = (
            " JOIN runs r USING (run_uuid) JOIN experiments e USING (experiment_id)"
            " WHERE e.name = %s AND r.lifecycle_stage = 'active'"
        )
        points: dict[str, Counter[Row]] = {}
        for run_id, *row in self.query(
            "SELECT m.run_uuid, m.key, m.step, m.timestamp, m.value, m.is_nan FROM metrics m" + which, experiment
        ):
            points.setdefault(run_id, Counter())[Row(*row)] += 1
        params = _by_run(self.query("SELECT p.run_uuid, p.key, p.value FROM params p" + which, experiment))
        tags = _by_run(self.query("SELECT t.run_uuid, t.key, t.value FROM tags t" + which, experiment))
        artifacts = self._artifacts()
        columns = "r.run_uuid, r.status, r.start_time, r.end_time"
        return {
            run_id: StoredRun(
                run_id=run_id,
                uid=tags.get(run_id, {}).get("trainyard.run_uid", ""),
                status=status,
                start_ms=start_ms,
                end_ms=end_ms,
                points=points.get(run_id, Counter()),
                params=params.get(run_id, {}),
                tags=tags.get(run_id, {}),
                artifacts=artifacts.get(run_id, {}),
            )
            for run_id, status, start_ms, end_ms in self.query(
                f"SELECT {columns} FROM experiments e JOIN runs r USING (experiment_id)"
                " WHERE e.name = %s AND r.lifecycle_stage = 'active'",
                experiment,
            )
        }

    def _artifacts(self) -> dict[str, dict[str, str]]:
        listing = self.mlflow.execute(
            "sh", "-c", f"mkdir -p {_ARTIFACTS} && cd {_ARTIFACTS} && find . -type f -exec sha256sum {{}} +"
        )
        assert listing.returncode == 0, listing.stderr
        found: dict[str, dict[str, str]] = {}
        for line in listing.stdout.splitlines():
            digest, _, path = line.partition(_SEPARATOR)
            # ./<experiment>/<run>/artifacts/<name>
            _, _, run_id, _, name = path.split("/", 4)
            found.setdefault(run_id, {})[name] = digest
        return found


def _by_run(rows: list[tuple[Any, ...]]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for run_id, key, value in rows:
        found.setdefault(run_id, {})[key] = value
    return found


def start_servers(sandbox: Sandbox, folder: Path) -> Tracking:
    """Postgres, the schema, and a server with two workers, as the chart has it."""
    passwords = dict.fromkeys(ROLES, "known-to-the-test")
    secret = write_secret(folder, **{f"{role}_password": password for role, password in passwords.items()})
    # A statement that meets a duplicate, as all that are repeated do, would be printed with its 1,000 values.
    settings = ("-c", "max_connections=50", "-c", "log_min_error_statement=panic", "-c", "log_error_verbosity=terse")
    postgres = Postgres(run_postgres(sandbox, secret, "postgres", *settings, volume=sandbox.volume()), passwords)
    wait_for_postgres(postgres.container)
    environment = migrate(sandbox, postgres)
    # Not left to Docker, which chooses another one when the container is started again.
    port = _free_port()
    # /var/tmp, since a new volume has the permissions of the directory in the image.
    options = [f"--volume={sandbox.volume()}:/var/tmp", f"--publish=127.0.0.1:{port}:5000"]
    options += [f"--env={key}={value}" for key, value in environment.items()]
    arguments = ["--host=0.0.0.0", "--port=5000", "--workers=2", f"--artifacts-destination={_ARTIFACTS}"]
    tracking = Tracking(postgres, sandbox.run("mlflow", "server", *arguments, options=options), port)
    tracking.wait_ready()
    return tracking


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
