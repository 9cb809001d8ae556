"""Database and artifact store, embedded and external: addresses, sizes, and where passwords come from."""

from typing import Any

import pytest
from manifests import NAMESPACE, Scenario, container, environment, pod_template, secret_data, secret_keys, server
from scenarios import EXISTING_SECRETS, EXTERNAL


@pytest.mark.parametrize(
    ("values", "database", "keys"),
    [
        ({}, "trainyard-mlflow", "trainyard-objectstore"),
        (EXISTING_SECRETS, "own-passwords", "own-keys"),
        (EXTERNAL, "team-database", "team-bucket"),
    ],
)
def test_credentials_come_from_the_right_secret(values: dict[str, Any], database: str, keys: str) -> None:
    """The server and the step before it read the same database and store, from Secrets alone."""
    deployment = Scenario(values=values).one("Deployment", "mlflow")
    uri = {"MLFLOW_BACKEND_STORE_URI": (database, "MLFLOW_BACKEND_STORE_URI")}
    s3 = {"AWS_ACCESS_KEY_ID": (keys, "access-key"), "AWS_SECRET_ACCESS_KEY": (keys, "secret-key")}
    assert secret_keys(container(deployment, "mlflow")) == uri | s3
    assert secret_keys(container(deployment, "migrate")) == uri
    if values is not EXTERNAL:
        assert secret_keys(container(deployment, "bucket")) == s3


def test_external_store() -> None:
    """Endpoint, bucket and region of an external store reach the server; AWS has no endpoint."""
    external = {**EXTERNAL, "externalS3": {**EXTERNAL["externalS3"], "region": "eu-central-1"}}
    spec = server(Scenario(values=external))
    assert "--artifacts-destination=s3://artifacts/artifacts" in spec["args"]
    assert environment(spec)["MLFLOW_S3_ENDPOINT_URL"] == "https://s3.example.com"
    assert environment(spec)["AWS_DEFAULT_REGION"] == "eu-central-1"
    aws = {**EXTERNAL, "externalS3": {**EXTERNAL["externalS3"], "endpointUrl": ""}}
    assert "MLFLOW_S3_ENDPOINT_URL" not in environment(server(Scenario(values=aws)))


def test_nothing_of_a_disabled_store_is_deployed() -> None:
    scenario = Scenario(values=EXTERNAL)
    assert [o for kind in ("StatefulSet", "PersistentVolumeClaim") for o in scenario.kind(kind)] == []
    assert scenario.names("Service") == {"trainyard-mlflow"}
    assert scenario.names("Secret") == {"trainyard-client"}


def test_embedded_endpoint_is_the_stores_service() -> None:
    endpoint = environment(server(Scenario()))["MLFLOW_S3_ENDPOINT_URL"]
    service = Scenario().one("Service", "objectstore")
    assert endpoint == f"http://{service['metadata']['name']}.{NAMESPACE}.svc:{service['spec']['ports'][0]['port']}"


@pytest.mark.parametrize(("replicas", "workers", "connections"), [(1, 1, 135), (2, 2, 258), (11, 1, 545)])
def test_postgres_takes_all_connections(replicas: int, workers: int, connections: int) -> None:
    """41 for each worker of each pod, 64 for sweeps, and 30 more."""
    scenario = Scenario(
        values={"mlflow": {"replicas": replicas, "workers": workers}, "postgres": {"sharedBuffers": "1GB"}}
    )
    args = container(scenario.one("StatefulSet", "postgres"), "postgres")["args"]
    assert args == ["postgres", "-c", f"max_connections={connections}", "-c", "shared_buffers=1GB"]


def test_connections_are_not_bounded_for_an_external_database() -> None:
    many = Scenario(values={**EXTERNAL, "mlflow": {"replicas": 20, "workers": 4}})
    assert many.one("Deployment", "mlflow")["spec"]["replicas"] == 20


def test_generated_passwords_agree() -> None:
    """One rendering, one password per role: in the Secret that Postgres reads and in the URLs; all long and different."""
    scenario = Scenario()
    passwords = secret_data(scenario.one("Secret", "postgres"))
    assert set(passwords) == {"mlflow-password", "mlflow-auth-password", "optuna-password"}
    assert len(set(passwords.values())) == 3
    assert all(len(password) == 32 and password.isalnum() for password in passwords.values())
    host = "trainyard-postgres:5432"
    assert secret_data(scenario.one("Secret", "mlflow")) == {
        "MLFLOW_BACKEND_STORE_URI": f"postgresql+psycopg2://mlflow:{passwords['mlflow-password']}@{host}/mlflow"
    }
    assert secret_data(scenario.one("Secret", "optuna")) == {
        "TRAINYARD_OPTUNA_URL": f"postgresql+psycopg2://optuna:{passwords['optuna-password']}@{host}/optuna"
    }


def test_passwords_are_generated_anew_for_each_install() -> None:
    other = Scenario(rendering=2)
    assert secret_data(Scenario().one("Secret", "postgres")) != secret_data(other.one("Secret", "postgres"))


def test_existing_secrets_leave_nothing_to_chance() -> None:
    """With Secrets of one's own two renderings are equal, as GitOps needs them, and no password is generated."""
    scenario = Scenario(values=EXISTING_SECRETS)
    assert scenario.render() == Scenario(values=EXISTING_SECRETS, rendering=2).render()
    assert scenario.names("Secret") == {"trainyard-client"}


@pytest.mark.parametrize(
    ("kind", "name"), [("Deployment", "mlflow"), ("StatefulSet", "postgres"), ("StatefulSet", "objectstore")]
)
def test_new_passwords_restart_the_pods(kind: str, name: str) -> None:
    """A password is read at start only, so a pod must not outlive it; nor restart while it stays the same."""
    assert checksum(Scenario(), kind, name) != checksum(Scenario(rendering=2), kind, name)
    same = [
        Scenario(values={**EXISTING_SECRETS, "client": {"wandbBaseUrl": url}})
        for url in ("", "https://wandb.example.com")
    ]
    assert checksum(same[0], kind, name) == checksum(same[1], kind, name)
    one_generated = [Scenario(values={"postgres": EXISTING_SECRETS["postgres"]}, rendering=n) for n in (1, 2)]
    reads_keys = name in {"mlflow", "objectstore"}
    assert (checksum(one_generated[0], kind, name) != checksum(one_generated[1], kind, name)) is reads_keys
    renamed = {**EXISTING_SECRETS, "postgres": {"existingSecret": "new"}, "objectstore": {"existingSecret": "new"}}
    assert checksum(Scenario(values=renamed), kind, name) != checksum(same[0], kind, name)


def checksum(scenario: Scenario, kind: str, name: str) -> str:
    template = pod_template(scenario.one(kind, name))
    assert template is not None
    found: str = template["metadata"]["annotations"]["checksum/secrets"]
    return found
