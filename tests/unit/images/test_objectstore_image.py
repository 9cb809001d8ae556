"""The object-store image: who gets in, what survives a kill, and bad input."""

import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.unit.images.image_containers import (
    ObjectStore,
    Sandbox,
    process_arguments,
    run_command,
    run_objectstore,
    run_to_end,
    unique_name,
    write_secret,
)

KEYS = {"access_key": "AKOWN", "secret_key": "another-secret-key"}


def listening_ports(store: ObjectStore) -> set[int]:
    """Return the ports that listen on more than the loopback interface."""
    table = store.container.execute("cat", "/proc/net/tcp", "/proc/net/tcp6").stdout
    rows = [line.split() for line in table.splitlines()]
    sockets = [row[1].split(":") for row in rows if row[3] == "0A"]
    # 127.0.0.0/8, in the byte order of this table; port 53 is Docker's own name server, on such an address.
    return {int(port, 16) for address, port in sockets if not address.endswith("7F")}


def test_anonymous_and_wrong_key_are_denied(objectstore: ObjectStore) -> None:
    bucket = unique_name("bucket")
    objectstore.client().create_bucket(Bucket=bucket)
    objectstore.client().put_object(Bucket=bucket, Key="secret", Body=b"value")
    for method, path in [
        ("GET", ""),
        ("GET", f"{bucket}/secret"),
        ("PUT", f"{bucket}/new"),
        ("DELETE", f"{bucket}/secret"),
    ]:
        request = urllib.request.Request(f"{objectstore.url}/{path}", method=method)
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(request)
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        objectstore.client(secret_key="not-the-right-secret").get_object(Bucket=bucket, Key="secret")


def test_bucket_does_not_appear_by_a_typo(objectstore: ObjectStore) -> None:
    with pytest.raises(ClientError, match="NoSuchBucket"):
        objectstore.client().put_object(Bucket=unique_name("typo"), Key="key", Body=b"value")


def test_only_s3_listens_and_its_grpc_port_admits_nobody(objectstore: ObjectStore) -> None:
    grpc_port = 18333
    assert listening_ports(objectstore) == {8333, grpc_port}
    # Without TLS this port would answer an HTTP/2 preface with its settings, and then take new access keys from anyone.
    address = objectstore.container.execute("hostname", "-i").stdout.strip()
    with socket.create_connection((address, grpc_port), timeout=5) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        # 0x15: a TLS alert, for what is not a TLS handshake.
        assert connection.recv(100)[:1] in (b"\x15", b"")


def test_keys_are_in_no_log_or_argument(objectstore: ObjectStore) -> None:
    assert objectstore.secret_key not in objectstore.container.logs() + process_arguments(objectstore.container)


def test_objects_survive_a_kill_and_a_stop_is_quick(sandbox: Sandbox, tmp_path: Path) -> None:
    volume = sandbox.volume()
    secret = write_secret(tmp_path / "secret", **KEYS)
    container = run_objectstore(sandbox, secret, volume)
    container.wait_ready("ready")
    store = ObjectStore(container, KEYS["access_key"], KEYS["secret_key"])
    store.client().create_bucket(Bucket="kept")
    contents = {f"folder/object-{size}": bytes(range(256)) * (size // 256) for size in (256, 1 << 20, 10 << 20)}
    for key, body in contents.items():
        store.client().put_object(Bucket="kept", Key=key, Body=body)
    container.kill()
    container.start()
    container.wait_ready("ready")
    assert {key: store.client().get_object(Bucket="kept", Key=key)["Body"].read() for key in contents} == contents

    second = run_objectstore(sandbox, secret, volume)
    assert second.exit_code() == 1
    assert "is in use by another container" in second.logs()

    store.client().put_object(Bucket="kept", Key="last", Body=b"written just before the stop")
    code, seconds = container.stop()
    assert (code, seconds < 10) == (0, True)
    container.start()
    container.wait_ready("ready")
    assert store.client().get_object(Bucket="kept", Key="last")["Body"].read() == b"written just before the stop"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"access_key": "AKOWN"}, "no readable file /etc/trainyard/objectstore/secret-key"),
        ({**KEYS, "secret_key": ""}, "/etc/trainyard/objectstore/secret-key holds 0 characters: give at least 16"),
        ({**KEYS, "access_key": "A"}, "/etc/trainyard/objectstore/access-key holds 1 characters: give at least 3"),
        ({**KEYS, "secret_key": 'quote"quote"quote"'}, "secret-key holds a character that is not allowed"),
    ],
)
def test_bad_keys_are_named(sandbox: Sandbox, tmp_path: Path, files: dict[str, str], message: str) -> None:
    container = run_objectstore(sandbox, write_secret(tmp_path / "secret", **files), sandbox.volume())
    assert container.exit_code() == 1
    assert message in container.logs()


def test_unwritable_volume_is_explained(sandbox: Sandbox, tmp_path: Path) -> None:
    secret = write_secret(tmp_path / "secret", **KEYS)
    options = ["--mount=type=tmpfs,readonly,destination=/data", f"--volume={secret}:/etc/trainyard/objectstore:ro"]
    container = sandbox.run("objectstore", options=options)
    assert container.exit_code() == 1
    assert "cannot write to the volume /data as user 12345: Read-only file system" in container.logs()


def test_bucket_command_twice_at_once_and_again(sandbox: Sandbox, objectstore: ObjectStore) -> None:
    environment = objectstore.environment(unique_name("bucket"))
    pair = [run_command(sandbox, "trainyard-bucket", environment) for _ in range(2)]
    assert [container.exit_code() for container in pair] == [0, 0]
    code, output = run_to_end(sandbox, "trainyard-bucket", environment)
    assert code == 0
    assert "is there already" in output
    assert environment["TRAINYARD_BUCKET"] in {b["Name"] for b in objectstore.client().list_buckets()["Buckets"]}


def test_bucket_command_waits_for_the_server(sandbox: Sandbox, tmp_path: Path) -> None:
    container = run_objectstore(sandbox, write_secret(tmp_path / "secret", **KEYS), sandbox.volume())
    container.wait_ready("ready")
    container.kill()
    store = ObjectStore(container, KEYS["access_key"], KEYS["secret_key"])
    waiting = run_command(sandbox, "trainyard-bucket", store.environment("early"))
    container.start()
    assert waiting.exit_code() == 0, waiting.logs()
    assert "created bucket early" in waiting.logs()


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (
            {"AWS_SECRET_ACCESS_KEY": "wrong-secret"},
            1,
            "refuses access key 'AKTEST' for bucket valid-name (SignatureDoesNotMatch)",
        ),
        ({"AWS_ACCESS_KEY_ID": "NOBODY"}, 1, "refuses access key 'NOBODY' for bucket valid-name (InvalidAccessKeyId)"),
        (
            {"MLFLOW_S3_ENDPOINT_URL": "http://no-such-host:8333", "TRAINYARD_OBJECTSTORE_WAIT_S": "2"},
            1,
            "the S3 server at http://no-such-host:8333 did not answer within 2 s",
        ),
        ({"TRAINYARD_BUCKET": "My_Bucket"}, 42, "TRAINYARD_BUCKET='My_Bucket' cannot be a bucket's name: only a-z"),
        ({"TRAINYARD_BUCKET": "ab"}, 42, "it has 2 characters, and must have 3 to 63"),
        ({"TRAINYARD_BUCKET": "192.168.0.1"}, 42, "it looks like an IP address"),
        ({"TRAINYARD_BUCKET": ""}, 42, "TRAINYARD_BUCKET is not set"),
        ({"MLFLOW_S3_ENDPOINT_URL": "objectstore:8333"}, 42, "is no URL of an S3 server"),
        ({"TRAINYARD_OBJECTSTORE_WAIT_S": "soon"}, 42, "TRAINYARD_OBJECTSTORE_WAIT_S='soon' is no number of seconds"),
    ],
)
def test_bucket_command_explains_bad_input(
    sandbox: Sandbox, objectstore: ObjectStore, change: dict[str, str], code: int, message: str
) -> None:
    environment = {**objectstore.environment("valid-name"), **change}
    exit_code, output = run_to_end(sandbox, "trainyard-bucket", environment)
    assert message in output
    assert exit_code == code
    assert objectstore.secret_key not in output
    assert "wrong-secret" not in output
