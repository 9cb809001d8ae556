"""An object store, and trainers next to it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.unit.images.image_containers import (
    Container,
    ObjectStore,
    Sandbox,
    docker,
    run_objectstore,
    unique_name,
    write_secret,
)

_REPOSITORY = Path(__file__).parents[3]
_ACCESS_KEY = "AKTEST"
_SECRET_KEY = "secret/key+0123456789"


@dataclass(frozen=True)
class Ended:
    """How a trainer ended."""

    code: int
    output: str
    answers: list[dict[str, Any]]
    """Its lines of JSON."""


@dataclass(frozen=True)
class Site:
    """A bucket with a folder for one run."""

    sandbox: Sandbox
    store: ObjectStore
    bucket: str
    prefix: str = field(default_factory=lambda: unique_name("run"))

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"

    @property
    def client(self) -> Any:
        return self.store.client()

    def objects(self) -> list[str]:
        """Keys of the run's objects, without its prefix."""
        listing = self.client.list_objects_v2(Bucket=self.bucket, Prefix=f"{self.prefix}/")
        return sorted(each["Key"].removeprefix(f"{self.prefix}/") for each in listing.get("Contents", ()))

    def body(self, key: str) -> bytes:
        content: bytes = self.client.get_object(Bucket=self.bucket, Key=f"{self.prefix}/{key}")["Body"].read()
        return content

    def put(self, key: str, body: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=f"{self.prefix}/{key}", Body=body)

    def start(self, work: str, *, environment: Mapping[str, str] | None = None, **arguments: Any) -> Container:
        """Begin `tests.unit.checkpoint_s3.trainings` in the trainer image; `arguments` as JSON."""
        variables = {
            "AWS_ENDPOINT_URL": f"http://{self.store.container.name}:8333",
            "AWS_ACCESS_KEY_ID": _ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": _SECRET_KEY,
            "AWS_DEFAULT_REGION": "us-east-1",
            "TRAINYARD_STATE_DIR": "/tmp/state",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": "/repository/trainer/src:/repository",
            **(environment or {}),
        }
        options = [f"--env={name}={value}" for name, value in variables.items()]
        options += [f"--volume={_REPOSITORY}:/repository:ro", "--workdir=/repository", "--entrypoint=python3"]
        module = "tests.unit.checkpoint_s3.trainings"
        text = json.dumps({"uri": self.uri, **arguments})
        return self.sandbox.run("trainer_test", "-m", module, work, text, options=options)

    def end(self, container: Container) -> Ended:
        """Wait for it."""
        code = container.exit_code()
        output = container.logs()
        answers = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        return Ended(code, output, answers)

    def run(self, work: str, **arguments: Any) -> Ended:
        return self.end(self.start(work, **arguments))


@pytest.fixture(scope="session")
def network() -> Iterator[str]:
    name = unique_name("network")
    docker("network", "create", name)
    yield name
    docker("network", "rm", name)


@pytest.fixture(scope="session")
def objectstore(network: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    secret = write_secret(tmp_path_factory.mktemp("objectstore"), access_key=_ACCESS_KEY, secret_key=_SECRET_KEY)
    sandbox = Sandbox(network)
    try:
        container = run_objectstore(sandbox, secret, sandbox.volume())
        container.wait_ready("ready")
        yield ObjectStore(container, _ACCESS_KEY, _SECRET_KEY)
    finally:
        sandbox.close()


@pytest.fixture(scope="session")
def bucket(objectstore: ObjectStore) -> str:
    name = unique_name("bucket")
    objectstore.client().create_bucket(Bucket=name)
    return name


@pytest.fixture
def site(network: str, objectstore: ObjectStore, bucket: str) -> Iterator[Site]:
    sandbox = Sandbox(network)
    try:
        yield Site(sandbox, objectstore, bucket)
    finally:
        docker("unpause", objectstore.container.name, check=False)
        sandbox.close()
