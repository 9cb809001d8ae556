"""The containers of the bench: an MLflow server on Postgres, as the chart runs them, and the parts in the trainer's image beside them."""

import json
import secrets
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from tests.unit.images.image_containers import (
    ROLES,
    Container,
    Postgres,
    Sandbox,
    docker,
    image,
    migrate,
    run_postgres,
    unique_name,
    wait_for_postgres,
    wait_until,
    write_secret,
)

_REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Servers:
    """A running MLflow server, and where parts of the bench run beside it."""

    sandbox: Sandbox
    postgres: Postgres
    mlflow: Container

    def run(self, module: str) -> bool:
        """Run a module of the bench in the trainer's image, its output in plain sight; whether it ended well."""
        name = unique_name("bench")
        environment = {
            "PYTHONPATH": "/repository/trainer/src:/repository",
            "MLFLOW_TRACKING_URI": f"http://{self.mlflow.name}:5000",
            "TRAINYARD_OPTUNA_URL": self.postgres.uri("optuna"),
            # MLflow's client tells much that only fills the screen here.
            "MLFLOW_LOGGING_LEVEL": "ERROR",
            "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            # One thread trains: the server and the database, elsewhere in real life, have the other cores.
            "OMP_NUM_THREADS": "1",
            "TRAINYARD_SHIPPER": "sidecar",
            "TRAINYARD_STATE_DIR": "/var/tmp/state",
            # A delivery that does not work is told soon.
            "TRAINYARD_SHIP_DEADLINE_S": "60",
        }
        command = ["docker", "run", "--rm", "--init", f"--name={name}", f"--network={self.sandbox.network}"]
        # /var/tmp of the image may be written by everybody; as a volume it is a disk, which /tmp in memory is not.
        command += ["--read-only", "--tmpfs=/tmp:exec", "--volume=/var/tmp", f"--volume={_REPOSITORY}:/repository:ro"]
        command += [f"--env={key}={value}" for key, value in environment.items()]
        command += ["--workdir=/var/tmp", image("trainer_test"), "python", "-W", "ignore", "-m", module]
        try:
            return subprocess.run(command, check=False).returncode == 0
        finally:
            docker("rm", "--force", "--volumes", name, check=False)


@contextmanager
def servers() -> Iterator[Servers]:
    """Everything started; and removed again, whatever happens."""
    network = unique_name("network")
    docker("network", "create", network)
    sandbox = Sandbox(network)
    logs = sys.stdout
    try:
        with tempfile.TemporaryDirectory() as folder:
            postgres = _postgres(sandbox, Path(folder))
            yield Servers(sandbox, postgres, _mlflow(sandbox, postgres))
        logs = None
    finally:
        with redirect_stdout(logs):
            sandbox.close()
        docker("network", "rm", network)


def _postgres(sandbox: Sandbox, folder: Path) -> Postgres:
    folder.chmod(0o755)
    passwords = {role: secrets.token_hex(16) for role in ROLES}
    secret = write_secret(folder / "postgres", **{f"{role}_password": passwords[role] for role in ROLES})
    container = run_postgres(sandbox, secret, volume=sandbox.volume())
    wait_for_postgres(container)
    return Postgres(container, passwords)


def _mlflow(sandbox: Sandbox, postgres: Postgres) -> Container:
    environment = migrate(sandbox, postgres)
    options = [*(f"--env={key}={value}" for key, value in environment.items()), "--publish=127.0.0.1::5000"]
    arguments = ["--host=0.0.0.0", "--port=5000", "--workers=2", "--artifacts-destination=/tmp/artifacts"]
    container = sandbox.run("mlflow", "server", *arguments, options=options)
    wait_until(lambda: _answers(container), "the MLflow server")
    return container


def _answers(server: Container) -> bool:
    assert server.running(), server.logs()
    address = f"http://127.0.0.1:{server.port(5000)}/api/2.0/mlflow/experiments/get?experiment_id=0"
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return bool(json.load(answer)["experiment"])
    except OSError:
        return False
