"""The MLflow image: schema migration, and a server on Postgres and S3 that a client logs to."""

import json
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import psycopg2
import pytest

from tests.unit.images.image_containers import (
    Container,
    ObjectStore,
    Postgres,
    Sandbox,
    process_arguments,
    run_command,
    run_to_end,
    wait_for_log,
    wait_until,
)

BUCKET = "mlflow-artifacts"
LOCK_KEY = 815001
ANCIENT_SCHEMA = "b7e2c1a4d9f3"
"""The newest revision of MLflow 3.16."""

UPGRADE_TO = """
import os, sys, sqlalchemy
from alembic import command
from mlflow.store.db.utils import _get_alembic_config
from mlflow.store.tracking.dbmodels.initial_models import Base
engine = sqlalchemy.create_engine(os.environ["MLFLOW_BACKEND_STORE_URI"])
Base.metadata.create_all(engine)
if len(sys.argv) > 1:
    config = _get_alembic_config(str(engine.url))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, sys.argv[1])
"""

CLIENT = """
import mlflow, pathlib
mlflow.set_experiment("from-the-image")
pathlib.Path("/tmp/report.txt").write_text("a report")
with mlflow.start_run() as run:
    mlflow.log_param("lr", 0.01)
    for step in range(3):
        mlflow.log_metric("loss", 1.0 / (step + 1), step=step)
    mlflow.log_artifact("/tmp/report.txt")
client = mlflow.MlflowClient()
assert [m.value for m in client.get_metric_history(run.info.run_id, "loss")] == [1.0, 1 / 2, 1 / 3]
print(pathlib.Path(mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="report.txt")).read_text())
print("run_id:", run.info.run_id)
"""


@dataclass(frozen=True)
class Database:
    """An empty database of the shared server."""

    dsn: str
    environment: dict[str, str]

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement, committed at once, and return its rows."""
        with closing(psycopg2.connect(self.dsn)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return list(cursor.fetchall()) if cursor.description else []

    def tables(self) -> set[str]:
        """Return the names of all tables."""
        return {str(row[0]) for row in self.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}


@pytest.fixture
def database(postgres: Postgres) -> Database:
    """A database without tables."""
    uri = {"MLFLOW_BACKEND_STORE_URI": postgres.uri("mlflow_auth")}
    database = Database(postgres.dsn("mlflow_auth", "mlflow_auth"), uri)
    database.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    return database


def test_two_migrations_at_once_take_turns(sandbox: Sandbox, database: Database) -> None:
    with closing(psycopg2.connect(database.dsn)) as holder, holder.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [LOCK_KEY])
        pair = [run_command(sandbox, "trainyard-migrate", database.environment) for _ in range(2)]
        for container in pair:
            wait_for_log(container, "another migration is running")
        assert database.tables() == set()
    assert [container.exit_code() for container in pair] == [0, 0]
    outputs = sorted("created the schema" in container.logs() for container in pair)
    assert outputs == [False, True]
    assert sum("at revision dc11669786a5 already" in container.logs() for container in pair) == 1


def test_older_schema_is_migrated(sandbox: Sandbox, database: Database) -> None:
    code, output = run_to_end(sandbox, "python", database.environment, "-c", UPGRADE_TO, ANCIENT_SCHEMA)
    assert code == 0, output
    code, output = run_to_end(sandbox, "trainyard-migrate", database.environment)
    assert (code, f"migrated the schema from revision {ANCIENT_SCHEMA} to dc11669786a5" in output) == (0, True), output


def test_migration_killed_after_the_first_tables_is_redone(sandbox: Sandbox, database: Database) -> None:
    assert run_to_end(sandbox, "python", database.environment, "-c", UPGRADE_TO)[0] == 0
    assert "alembic_version" not in database.tables()
    code, output = run_to_end(sandbox, "trainyard-migrate", database.environment)
    assert (code, "created the schema" in output) == (0, True), output


def test_newer_database_is_refused_untouched(sandbox: Sandbox, database: Database) -> None:
    database.execute(
        "CREATE TABLE alembic_version (version_num varchar(32)); INSERT INTO alembic_version VALUES ('f00d')"
    )
    code, output = run_to_end(sandbox, "trainyard-migrate", database.environment)
    assert code == 42
    assert "is at schema revision f00d, which MLflow 3.17.2 does not know" in output
    assert database.tables() == {"alembic_version"}


def test_database_of_another_application_is_refused_untouched(sandbox: Sandbox, database: Database) -> None:
    database.execute("CREATE TABLE customers (id int)")
    code, output = run_to_end(sandbox, "trainyard-migrate", database.environment)
    assert code == 42
    assert "holds 1 tables that are not MLflow's (customers, ...). Nothing was changed" in output
    assert database.tables() == {"customers"}


@pytest.mark.parametrize(
    ("uri", "code", "message"),
    [
        ("postgresql+psycopg2://mlflow:hidden@{host}:5432/mlflow", 1, "(database mlflow, user mlflow) refuses the connection: the password is wrong"),
        ("postgresql+psycopg2://mlflow:hidden@{host}:5432/missing", 1, "(database missing, user mlflow) refuses the connection: the user may not connect"),
        ("postgresql+psycopg2://mlflow:hidden@no-such-host:5432/mlflow", 1, "PostgreSQL at no-such-host:5432 (database mlflow, user mlflow) did not answer within 2 s"),
        ("postgresql://mlflow:hidden@{host}:5432/mlflow", 42, "begins with postgresql://: it must name the driver, postgresql+psycopg2://USER"),
        ("postgresql+psycopg2://mlflow:hid@den@{host}:5432/mlflow", 42, "percent-encode"),
        ("postgresql+psycopg2://mlflow:hidden@{host}:5432", 42, "names no database"),
        ("", 42, "MLFLOW_BACKEND_STORE_URI is not set"),
    ],
)  # fmt: skip
def test_migration_explains_bad_input(sandbox: Sandbox, postgres: Postgres, uri: str, code: int, message: str) -> None:
    environment = {
        "MLFLOW_BACKEND_STORE_URI": uri.format(host=postgres.container.name),
        "TRAINYARD_DATABASE_WAIT_S": "2",
    }
    exit_code, output = run_to_end(sandbox, "trainyard-migrate", environment)
    assert message in output
    assert exit_code == code
    assert "hid" not in output.replace("hidden@", "hid"), "the password, or a part of it, was printed"


@dataclass(frozen=True)
class Server:
    """A running MLflow server."""

    container: Container

    @property
    def url(self) -> str:
        """Its address on this machine."""
        return f"http://127.0.0.1:{self.container.port(5000)}"

    def ready(self) -> bool:
        """Return whether the server answers from the database, as the chart's readiness probe asks it."""
        assert self.container.running(), self.container.logs()
        try:
            self.call("GET", "mlflow/experiments/get?experiment_id=0")
        except OSError:
            return False
        return True

    def call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """Call the REST API and return its answer."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
        headers = {"Content-Type": "application/octet-stream" if isinstance(body, bytes) else "application/json"}
        request = urllib.request.Request(f"{self.url}/api/2.0/{path}", data=data, headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as response:
            answer = json.loads(response.read() or b"{}")
        assert isinstance(answer, dict)
        return answer


@pytest.fixture(scope="module")
def server(shared_sandbox: Sandbox, postgres: Postgres, objectstore: ObjectStore) -> Iterator[Server]:
    """A server that was prepared and started as the chart does it."""
    environment = {
        **objectstore.environment(BUCKET),
        "MLFLOW_BACKEND_STORE_URI": postgres.uri("mlflow"),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_SERVER_ALLOWED_HOSTS": "*",
    }
    for command in ("trainyard-migrate", "trainyard-bucket"):
        code, output = run_to_end(shared_sandbox, command, environment)
        assert code == 0, output
    options = [*(f"--env={key}={value}" for key, value in environment.items()), "--publish=127.0.0.1::5000"]
    arguments = ["--host=0.0.0.0", "--port=5000", "--workers=2", f"--artifacts-destination=s3://{BUCKET}/artifacts"]
    server = Server(shared_sandbox.run("mlflow", "server", *arguments, options=options))
    wait_until(server.ready, "the readiness probe of the chart")
    yield server
    code, seconds = server.container.stop()
    assert (code, seconds < 10) == (0, True), server.container.logs()


def test_run_with_metric_and_artifact_is_read_back(server: Server, objectstore: ObjectStore) -> None:
    experiment = server.call("POST", "mlflow/experiments/create", {"name": "over-rest"})["experiment_id"]
    run = server.call("POST", "mlflow/runs/create", {"experiment_id": experiment, "start_time": 1})["run"]
    run_id = run["info"]["run_id"]
    server.call(
        "POST", "mlflow/runs/log-metric", {"run_id": run_id, "key": "loss", "value": 0.5, "timestamp": 2, "step": 7}
    )
    path = f"{experiment}/{run_id}/artifacts/notes.bin"
    content = bytes(range(256)) * 4096
    server.call("PUT", f"mlflow-artifacts/artifacts/{path}", content)

    search = {"experiment_ids": [experiment], "filter": "metrics.loss < 1"}
    (found,) = server.call("POST", "mlflow/runs/search", search)["runs"]
    assert found["data"]["metrics"][0]["step"] == 7
    listed = server.call("GET", f"mlflow/artifacts/list?run_id={run_id}")
    assert [entry["path"] for entry in listed["files"]] == ["notes.bin"]
    with urllib.request.urlopen(f"{server.url}/api/2.0/mlflow-artifacts/artifacts/{path}", timeout=30) as response:
        assert response.read() == content
    s3 = objectstore.client()
    assert s3.get_object(Bucket=BUCKET, Key=f"artifacts/{path}")["Body"].read() == content


def test_model_is_registered_and_found_by_alias(server: Server) -> None:
    server.call("POST", "mlflow/registered-models/create", {"name": "digits"})
    run = server.call("POST", "mlflow/runs/create", {"experiment_id": "0", "start_time": 1})["run"]
    version = {"name": "digits", "source": f"{run['info']['artifact_uri']}/model", "run_id": run["info"]["run_id"]}
    server.call("POST", "mlflow/model-versions/create", version)
    server.call("POST", "mlflow/registered-models/alias", {"name": "digits", "alias": "challenger", "version": "1"})
    found = server.call("GET", "mlflow/registered-models/alias?name=digits&alias=challenger")
    assert found["model_version"]["version"] == "1"


def test_user_interface_and_its_graphql_answer(server: Server) -> None:
    with urllib.request.urlopen(f"{server.url}/", timeout=30) as response:
        page = response.read().decode()
    assert '<div id="root"' in page
    script = page.partition('src="')[2].partition('"')[0]
    with urllib.request.urlopen(f"{server.url}/{script.removeprefix('/')}", timeout=30) as response:
        assert len(response.read()) > 1000
    query = {"operationName": "Test", "query": 'query Test { test(inputString: "abc") { output } }'}
    request = urllib.request.Request(
        f"{server.url}/graphql", data=json.dumps(query).encode(), headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        assert json.loads(response.read())["data"]["test"]["output"] == "abc"


def test_client_in_the_image_logs_and_reads_back(server: Server, sandbox: Sandbox) -> None:
    environment = {"MLFLOW_TRACKING_URI": f"http://{server.container.name}:5000"}
    code, output = run_to_end(sandbox, "python", environment, "-c", CLIENT)
    assert code == 0, output
    assert "a report" in output
    assert "WARNING" not in output, "a client pod should print no warnings"
    run_id = output.partition("run_id: ")[2].split()[0]
    metrics = server.call("GET", f"mlflow/runs/get?run_id={run_id}")["run"]["data"]["metrics"]
    assert [metric["key"] for metric in metrics] == ["loss"]


def test_password_is_in_no_log_or_argument(server: Server, postgres: Postgres) -> None:
    assert postgres.passwords["mlflow"] not in server.container.logs() + process_arguments(server.container)
