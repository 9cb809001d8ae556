"""The database image: roles, passwords, and what happens when it is killed or given bad input."""

import subprocess
from pathlib import Path

import psycopg2
import pytest

from tests.unit.images.image_containers import (
    ROLES,
    Container,
    Postgres,
    Sandbox,
    docker,
    mounted_files,
    process_arguments,
    run_postgres,
    wait_for_postgres,
    wait_until,
    write_secret,
)

PASSWORDS = {f"{role}_password": f"first-{role}" for role in ROLES}


def query(dsn: str, statement: str) -> list[tuple[object, ...]]:
    """Run one statement, committed, and return its rows."""
    connection = psycopg2.connect(dsn)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []
    finally:
        connection.close()


def assert_serves(container: Container, passwords: dict[str, str]) -> None:
    """Fail unless each role reaches its database over TCP the moment that the server is ready."""
    wait_for_postgres(container)
    postgres = Postgres(container, {role: passwords[f"{role}_password"] for role in ROLES})
    for role in ROLES:
        assert query(postgres.dsn(role, role), "SELECT current_user") == [(role,)]


def test_each_role_reaches_only_its_own_database(postgres: Postgres) -> None:
    for role in ROLES:
        assert query(postgres.dsn(role, role), "SELECT current_user, current_database()") == [(role, role)]
        for database in {*ROLES, "postgres", "template1"} - {role}:
            with pytest.raises(psycopg2.OperationalError, match="no pg_hba"):
                query(postgres.dsn(role, database), "SELECT 1")


def test_role_owns_its_database_and_nothing_more(postgres: Postgres) -> None:
    query(postgres.dsn("optuna", "optuna"), "CREATE TABLE owned (id int); DROP TABLE owned")
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        query(postgres.dsn("optuna", "optuna"), "CREATE ROLE intruder")


def test_superuser_is_reachable_only_inside(postgres: Postgres) -> None:
    with pytest.raises(psycopg2.OperationalError, match="no pg_hba"):
        query(postgres.dsn("postgres", "postgres", password="any"), "SELECT 1")
    inside = postgres.container.execute("psql", "-Atc", "SELECT current_user, current_setting('max_connections')")
    assert inside.stdout.strip() == "postgres|33"
    outsider = docker("exec", "--user=54321:0", postgres.container.name, "psql", "-Atc", "SELECT 1", check=False)
    assert outsider.returncode != 0


def test_passwords_are_hashed_and_in_no_log_or_argument(postgres: Postgres) -> None:
    hashes = postgres.container.execute("psql", "-Atc", "SELECT rolpassword FROM pg_authid WHERE rolname = 'mlflow'")
    assert hashes.stdout.startswith("SCRAM-SHA-256$")
    seen = postgres.container.logs() + process_arguments(postgres.container)
    assert not [password for password in postgres.passwords.values() if password in seen]


def test_extension_of_contrib_can_be_created(postgres: Postgres) -> None:
    created = postgres.container.execute("psql", "-c", "CREATE EXTENSION pg_stat_statements")
    assert created.returncode == 0, created.stderr


def test_client_tools_dump_and_restore(postgres: Postgres) -> None:
    steps = "pg_dump --format=custom --file=/tmp/dump optuna && pg_restore --list /tmp/dump"
    restored = postgres.container.execute("sh", "-c", steps)
    assert restored.returncode == 0, restored.stderr


def test_kept_volume_takes_new_passwords_and_keeps_data(sandbox: Sandbox, tmp_path: Path) -> None:
    volume = sandbox.volume()
    first = run_postgres(sandbox, write_secret(tmp_path / "first", **PASSWORDS), volume=volume)
    assert_serves(first, PASSWORDS)
    before = Postgres(first, {"mlflow": "first-mlflow"})
    query(before.dsn("mlflow", "mlflow"), "CREATE TABLE kept AS SELECT 7 AS value")
    client = psycopg2.connect(before.dsn("mlflow", "mlflow"))
    code, seconds = first.stop()
    client.close()
    assert code == 0
    assert seconds < 10, "a connected client must not delay the shutdown"

    passwords = {name: password.replace("first", "second") for name, password in PASSWORDS.items()}
    second = run_postgres(sandbox, write_secret(tmp_path / "second", **passwords), volume=volume)
    assert_serves(second, passwords)
    after = Postgres(second, {"mlflow": "second-mlflow"})
    assert query(after.dsn("mlflow", "mlflow"), "SELECT value FROM kept") == [(7,)]
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        query(after.dsn("mlflow", "mlflow", password="first-mlflow"), "SELECT 1")

    third = run_postgres(sandbox, tmp_path / "second", volume=volume)
    assert third.exit_code() == 1
    assert "is in use by another container" in third.logs()
    assert query(after.dsn("mlflow", "mlflow"), "SELECT value FROM kept") == [(7,)]

    second.kill()
    second.start()
    assert_serves(second, passwords)
    assert query(after.dsn("mlflow", "mlflow"), "SELECT value FROM kept") == [(7,)]


def test_kill_during_initdb_is_redone(sandbox: Sandbox, tmp_path: Path) -> None:
    volume = sandbox.volume()
    container = run_postgres(sandbox, write_secret(tmp_path / "secret", **PASSWORDS), volume=volume)
    partial = "/var/lib/postgresql/data/pgdata.partial/PG_VERSION"
    wait_until(lambda: container.execute("test", "-e", partial).returncode == 0, "initdb under way")
    container.kill()
    assert "pgdata.partial" in mounted_files(volume)
    assert "pgdata" not in mounted_files(volume)
    container.start()
    assert_serves(container, PASSWORDS)


def test_kill_while_roles_are_made_is_redone(sandbox: Sandbox, tmp_path: Path) -> None:
    container = run_postgres(sandbox, write_secret(tmp_path / "secret", **PASSWORDS), volume=sandbox.volume())
    with subprocess.Popen(
        ["docker", "logs", "--follow", container.name], stderr=subprocess.PIPE, text=True
    ) as follower:
        assert follower.stderr is not None
        assert any("ready to accept connections" in line for line in follower.stderr)
        container.kill()
    assert "listening on IPv4" not in container.logs(), "killed too late: the roles were there already"
    container.start()
    assert_serves(container, PASSWORDS)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"mlflow_password": "x"}, "no readable file /etc/trainyard/postgres/mlflow-auth-password"),
        ({**PASSWORDS, "optuna_password": ""}, "/etc/trainyard/postgres/optuna-password is empty"),
        ({**PASSWORDS, "optuna_password": "one\ntwo\n"}, "/etc/trainyard/postgres/optuna-password holds more than one"),
    ],
)
def test_bad_password_files_are_named(sandbox: Sandbox, tmp_path: Path, files: dict[str, str], message: str) -> None:
    volume = sandbox.volume()
    container = run_postgres(sandbox, write_secret(tmp_path / "secret", **files), volume=volume)
    assert container.exit_code() == 1
    assert message in container.logs()
    assert mounted_files(volume) == [], "bad input must change nothing"


@pytest.mark.parametrize(
    ("mount", "message"),
    [
        ("type=tmpfs,tmpfs-size=20m,tmpfs-mode=0777", "initdb failed, see above ("),
        ("type=bind,source={closed}", "Permission denied ("),
        ("type=tmpfs,readonly", "Read-only file system"),
    ],
)
def test_unusable_volume_is_explained(sandbox: Sandbox, tmp_path: Path, mount: str, message: str) -> None:
    secret = write_secret(tmp_path / "secret", **PASSWORDS)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o755)
    options = [
        f"--mount={mount.format(closed=closed)},destination=/var/lib/postgresql/data",
        f"--volume={secret}:/etc/trainyard/postgres:ro",
    ]
    container = sandbox.run("postgres", options=options)
    assert container.exit_code() == 1
    assert message in container.logs()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("PG_VERSION", "16", "holds data of PostgreSQL 16, this image runs 17"),
        ("family.jpg", "cat", "holds no PostgreSQL data"),
    ],
)
def test_other_data_is_left_alone(sandbox: Sandbox, tmp_path: Path, file: str, content: str, message: str) -> None:
    volume = sandbox.volume()
    folder = "/var/lib/postgresql/data/pgdata"
    fill = f"mkdir {folder} && echo {content} > {folder}/{file}"
    options = [f"--volume={volume}:/var/lib/postgresql/data", "--entrypoint=sh"]
    assert sandbox.run("postgres", "-c", fill, options=options).exit_code() == 0
    container = run_postgres(sandbox, write_secret(tmp_path / "secret", **PASSWORDS), volume=volume)
    assert container.exit_code() == 1
    assert message in container.logs()
    check = f"test $(cat {folder}/{file}) = {content}"
    assert sandbox.run("postgres", "-c", check, options=options).exit_code() == 0
