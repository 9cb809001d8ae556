"""Runs the images under test as Kubernetes will: read-only root, an arbitrary user ID, only /tmp and the volume writable."""

import os
import subprocess
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

PREFIX = "trainyard-test-"
ARBITRARY_USER = "12345:0"
START_TIMEOUT_S = 120.0
ROLES = ("mlflow", "mlflow_auth", "optuna")


def image(name: str) -> str:
    """Return the reference of the image under test."""
    return os.environ.get(f"TRAINYARD_IMAGE_{name.upper()}", f"trainyard/{name}:dev")


def docker(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run docker and return its result; a failure shows what docker said."""
    result = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    assert not check or result.returncode == 0, f"docker {arguments[0]} failed: {result.stderr}"
    return result


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = START_TIMEOUT_S) -> None:
    """Return as soon as `condition` holds; fails the test after `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.05)


def write_secret(folder: Path, **files: str) -> Path:
    """Write the files of a Secret, `_` in a name standing for `-`, readable by the user in the container."""
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    for name, content in files.items():
        (folder / name.replace("_", "-")).write_text(content)
    return folder


@dataclass(frozen=True)
class Container:
    """A container that has been started, and may have ended."""

    name: str

    def logs(self) -> str:
        """Return everything printed so far."""
        result = docker("logs", self.name)
        return result.stdout + result.stderr

    def port(self, port: int) -> int:
        """Return the port on the host's loopback that leads to `port`."""
        return int(docker("port", self.name, str(port)).stdout.split()[0].rpartition(":")[2])

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command inside and return its result, whatever it is."""
        return docker("exec", self.name, *command, check=False)

    def running(self) -> bool:
        """Return whether the main process is alive."""
        return docker("inspect", "--format={{.State.Running}}", self.name).stdout.strip() == "true"

    def exit_code(self) -> int:
        """Wait for the end and return the exit code."""
        wait_until(lambda: not self.running(), f"end of {self.name}: {self.logs()}")
        return int(docker("inspect", "--format={{.State.ExitCode}}", self.name).stdout)

    def kill(self) -> None:
        """End it with SIGKILL."""
        docker("kill", self.name)

    def start(self) -> None:
        """Start it again, with the same volume and an empty /tmp."""
        docker("start", self.name)

    def stop(self) -> tuple[int, float]:
        """Stop it as the kubelet does and return the exit code and the seconds that it took."""
        start = time.monotonic()
        docker("stop", "--time=30", self.name)
        return self.exit_code(), time.monotonic() - start

    def wait_ready(self, *probe: str) -> None:
        """Wait until the probe succeeds inside; fails at once when the container ends before."""

        def ready() -> bool:
            assert self.running(), f"{self.name} ended: {self.logs()}"
            return self.execute(*probe).returncode == 0

        wait_until(ready, f"{' '.join(probe)} in {self.name}: {self.logs()}")


@dataclass
class Sandbox:
    """Makes containers and volumes with unique names on one network, and removes them all."""

    network: str
    containers: list[Container] = field(default_factory=list)
    volumes: list[str] = field(default_factory=list)

    def volume(self) -> str:
        """Return the name of a new volume."""
        name = unique_name("volume")
        docker("volume", "create", name)
        self.volumes.append(name)
        return name

    def run(self, name: str, *arguments: str, options: Sequence[str] = ()) -> Container:
        """Start the image called `name` and return the container at once."""
        container = Container(unique_name(name))
        self.containers.append(container)
        docker(
            *("run", "--detach", "--read-only", "--tmpfs=/tmp", f"--user={ARBITRARY_USER}", "--cap-drop=ALL"),
            *("--security-opt=no-new-privileges", f"--network={self.network}", f"--name={container.name}"),
            *options,
            image(name),
            *arguments,
        )
        return container

    def close(self) -> None:
        """Print the logs, which pytest shows only after a failure, and remove everything."""
        for container in self.containers:
            logs = docker("logs", "--tail=40", container.name, check=False)
            print(f"--- {container.name}\n{logs.stdout}{logs.stderr}")
        docker("rm", "--force", "--volumes", *[container.name for container in self.containers], check=False)
        if self.volumes:
            docker("volume", "rm", "--force", *self.volumes, check=False)


def unique_name(kind: str) -> str:
    """Return a name that no other test run uses."""
    return f"{PREFIX}{kind}-{uuid.uuid4().hex[:8]}"


@dataclass(frozen=True)
class Postgres:
    """A running database server and the passwords of its roles."""

    container: Container
    passwords: dict[str, str]

    def uri(self, database: str) -> str:
        """Return MLflow's URI for another container of the same network."""
        return f"postgresql+psycopg2://{database}:{self.passwords[database]}@{self.container.name}:5432/{database}"

    def dsn(self, role: str, database: str, password: str | None = None) -> str:
        """Return libpq's connection string for this machine."""
        secret = (self.passwords[role] if password is None else password).replace("\\", "\\\\").replace("'", "\\'")
        port = self.container.port(5432)
        return f"host=127.0.0.1 port={port} user={role} dbname={database} connect_timeout=5 password='{secret}'"


@dataclass(frozen=True)
class ObjectStore:
    """A running S3 server and its key pair."""

    container: Container
    access_key: str
    secret_key: str

    @property
    def url(self) -> str:
        """The endpoint for this machine."""
        return f"http://127.0.0.1:{self.container.port(8333)}"

    def client(self, secret_key: str | None = None) -> Any:
        """Return an S3 client on this machine, which reports the first error."""
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=self.access_key,
            aws_secret_access_key=secret_key or self.secret_key,
            config=Config(retries={"total_max_attempts": 1}),
        )

    def environment(self, bucket: str) -> dict[str, str]:
        """Return what trainyard-bucket and the MLflow server need in another container of the same network."""
        return {
            "MLFLOW_S3_ENDPOINT_URL": f"http://{self.container.name}:8333",
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "TRAINYARD_BUCKET": bucket,
        }


def run_postgres(sandbox: Sandbox, secret: Path, *arguments: str, volume: str) -> Container:
    """Start a database server on `volume` without waiting for it."""
    options = [f"--volume={volume}:/var/lib/postgresql/data", f"--volume={secret}:/etc/trainyard/postgres:ro"]
    return sandbox.run("postgres", *arguments, options=[*options, "--publish=127.0.0.1::5432"])


def wait_for_postgres(container: Container) -> None:
    """Wait for the readiness probe of the chart."""
    container.wait_ready("pg_isready", "-h", "127.0.0.1", "-p", "5432")


def run_objectstore(sandbox: Sandbox, secret: Path, volume: str) -> Container:
    """Start an S3 server on `volume` without waiting for it."""
    options = [f"--volume={volume}:/data", f"--volume={secret}:/etc/trainyard/objectstore:ro"]
    return sandbox.run("objectstore", options=[*options, "--publish=127.0.0.1::8333"])


def run_command(sandbox: Sandbox, command: str, environment: dict[str, str], *arguments: str) -> Container:
    """Start a command of the MLflow image."""
    variables = [f"--env={key}={value}" for key, value in environment.items()]
    return sandbox.run("mlflow", *arguments, options=[f"--entrypoint={command}", *variables])


def run_to_end(sandbox: Sandbox, command: str, environment: dict[str, str], *arguments: str) -> tuple[int, str]:
    """Run a command of the MLflow image and return its exit code and everything that it printed."""
    container = run_command(sandbox, command, environment, *arguments)
    return container.exit_code(), container.logs()


def migrate(sandbox: Sandbox, postgres: Postgres) -> dict[str, str]:
    """Make MLflow's tables; returns what a server on them is told."""
    environment = {
        "MLFLOW_BACKEND_STORE_URI": postgres.uri("mlflow"),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_SERVER_ALLOWED_HOSTS": "*",
    }
    code, output = run_to_end(sandbox, "trainyard-migrate", environment)
    assert code == 0, output
    return environment


def wait_for_log(container: Container, text: str) -> None:
    """Wait until the container has printed `text`."""
    wait_until(lambda: text in container.logs(), f"{text!r} in the log of {container.name}")


def process_arguments(container: Container) -> str:
    """Return the command lines of all processes inside."""
    return container.execute("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '").stdout


def mounted_files(volume: str) -> list[str]:
    """Return the names at the top of a volume."""
    listing = docker(
        "run", "--rm", f"--volume={volume}:/volume:ro", "--entrypoint=ls", image("postgres"), "-A", "/volume"
    )
    return listing.stdout.split()
