"""A release on somebody else's Postgres and S3, known to it by existing Secrets alone: those of the first release stand in for them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from local_cluster import release
from local_cluster.settings import NAMESPACE, RELEASE

from tests.kind.platform import Platform

OTHER = "external"
ROLE = "mlflow_auth"


@pytest.fixture(scope="module")
def other(platform: Platform) -> Iterator[str]:
    """Namespace with a release that deploys no database and no object store."""
    release.ensure_namespace(platform.settings, platform.tools, OTHER)
    # The embedded Postgres lets in no roles but its own; this one's database is empty.
    # The password has characters that a URI reserves: they are percent-encoded, as values.yaml says.
    platform.sql(f"ALTER ROLE {ROLE} PASSWORD 'p@ss/word:1'")
    uri = f"postgresql+psycopg2://{ROLE}:p%40ss%2Fword%3A1@{RELEASE}-postgres.{NAMESPACE}.svc:5432/{ROLE}"
    keys = platform.secret(f"{RELEASE}-objectstore")
    for name, content in (("database", {"MLFLOW_BACKEND_STORE_URI": uri}), ("bucket-keys", keys)):
        platform.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": content}, OTHER)
    yield OTHER
    platform.helm("uninstall", OTHER, "--namespace", OTHER, "--wait", "--ignore-not-found")
    platform.kubectl("delete", "namespace", OTHER, "--wait=true")
    platform.sql(f"DROP SCHEMA public CASCADE; CREATE SCHEMA public AUTHORIZATION {ROLE}", database=ROLE)
    platform.sql(f"ALTER ROLE {ROLE} PASSWORD '{platform.secret(f'{RELEASE}-postgres')['mlflow-auth-password']}'")


def test_a_release_without_stores_of_its_own_tracks_into_the_given_ones(platform: Platform, other: str) -> None:
    objects = len(platform.s3_objects())
    values = {
        "postgres.enabled": "false",
        "externalPostgres.existingSecret": "database",
        "objectstore.enabled": "false",
        "externalS3.existingSecret": "bucket-keys",
        "externalS3.endpointUrl": f"http://{RELEASE}-objectstore.{NAMESPACE}.svc:8333",
        "externalS3.bucket": "mlflow",
        "trainingJobs.train-digits.enabled": "false",
    }
    settings = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
    platform.helm(
        "install", other, str(release.CHART), "--namespace", other, "--values", str(release.SMALL_PROFILE),
        *release.image_values(platform.images), *settings, "--wait", "--timeout=180s",
    )  # fmt: skip
    kinds = {
        pod["metadata"]["labels"]["app.kubernetes.io/component"] for pod in platform.objects("pods", namespace=other)
    }
    assert kinds == {"mlflow"}
    assert platform.objects("persistentvolumeclaims", namespace=other) == []
    assert "Succeeded" in platform.helm("test", other, "--namespace", other, "--timeout=120s")
    assert platform.sql("SELECT count(*) FROM experiments", database=ROLE) != [["0"]]
    assert len(platform.s3_objects()) >= objects
