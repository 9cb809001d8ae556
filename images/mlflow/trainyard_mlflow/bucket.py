"""`trainyard-bucket`: wait for the S3 server and create the bucket for MLflow's artifacts if it is missing."""

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from .command import ConfigError, NotReadyError, UnavailableError, required, run, wait_for, wait_seconds

NAME = "trainyard-bucket"
DEFAULT_WAIT_S = 300.0
DEFAULT_REGION = "us-east-1"
KEY_ERRORS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "403"}
EXISTS_ERRORS = {"BucketAlreadyOwnedByYou", "BucketAlreadyExists", "OperationAborted"}
"""What the slower of two callers is told that create one bucket at once; OperationAborted is how AWS says it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Which bucket to create, and where."""

    endpoint: str
    bucket: str
    access_key: str
    secret_key: str = field(repr=False)
    region: str
    wait_s: float

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """Read all settings; raises ConfigError naming the variable that is missing or wrong."""
        return cls(
            endpoint=endpoint_url(environment),
            bucket=bucket_name(required(environment, "TRAINYARD_BUCKET", "the name of the bucket")),
            access_key=required(environment, "AWS_ACCESS_KEY_ID", "the access key of the S3 server"),
            secret_key=required(environment, "AWS_SECRET_ACCESS_KEY", "the secret key of the S3 server"),
            region=environment.get("AWS_DEFAULT_REGION") or DEFAULT_REGION,
            wait_s=wait_seconds(environment, "TRAINYARD_OBJECTSTORE_WAIT_S", DEFAULT_WAIT_S),
        )


def endpoint_url(environment: Mapping[str, str]) -> str:
    """Return the S3 server's URL; raises ConfigError where it is no http(s) URL."""
    key = "MLFLOW_S3_ENDPOINT_URL"
    url = required(environment, key, "the URL of the S3 server, for AWS https://s3.REGION.amazonaws.com")
    if not re.fullmatch(r"https?://[A-Za-z0-9._-]+(:\d{1,5})?/?", url):
        raise ConfigError(f"{key}={url!r} is no URL of an S3 server: write http://HOST:PORT or https://HOST")
    return url


def bucket_name(name: str) -> str:
    """Return `name` unchanged; raises ConfigError where it breaks a naming rule of S3.

    The rules are those of the S3 user guide, "General purpose bucket naming rules".
    """
    if not 3 <= len(name) <= 63:
        problem = f"it has {len(name)} characters, and must have 3 to 63"
    elif not re.fullmatch(r"[a-z0-9][a-z0-9.-]*[a-z0-9]", name):
        problem = "only a-z, 0-9, '-' and '.' are allowed, and the first and last must be a letter or digit"
    elif ".." in name or ".-" in name or "-." in name:
        problem = "a '.' must stand between letters or digits"
    elif is_ip_address(name):
        problem = "it looks like an IP address"
    else:
        return name
    raise ConfigError(f"TRAINYARD_BUCKET={name!r} cannot be a bucket's name: {problem}")


def is_ip_address(text: str) -> bool:
    """Return whether `text` is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def make_client(settings: Settings) -> Any:
    """Return an S3 client that fails fast, because `wait_for` does the trying again."""
    return boto3.client(
        "s3",
        endpoint_url=settings.endpoint,
        region_name=settings.region,
        aws_access_key_id=settings.access_key,
        aws_secret_access_key=settings.secret_key,
        config=Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 1}),
    )


def ensure_bucket(client: Any, settings: Settings) -> str:
    """Create the bucket if it is missing and say which; raises NotReadyError, UnavailableError or ConfigError."""
    try:
        if bucket_exists(client, settings.bucket):
            return f"bucket {settings.bucket} is there already at {settings.endpoint}"
        client.create_bucket(Bucket=settings.bucket, **location(settings.region))
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in EXISTS_ERRORS and bucket_exists(client, settings.bucket):
            return f"bucket {settings.bucket} was just created by someone else at {settings.endpoint}"
        raise explain(error, code, settings) from error
    except BotoCoreError as error:
        raise NotReadyError(str(error)) from error
    return f"created bucket {settings.bucket} at {settings.endpoint}"


def bucket_exists(client: Any, bucket: str) -> bool:
    """Return whether the bucket exists and can be listed; a HEAD would not say why a key is refused."""
    try:
        client.list_objects_v2(Bucket=bucket, MaxKeys=1)
    except ClientError as error:
        if error.response["Error"]["Code"] in ("NoSuchBucket", "404"):
            return False
        raise
    return True


def location(region: str) -> dict[str, Any]:
    """Return the arguments that create a bucket in `region`; AWS refuses to be told its default."""
    return {} if region == DEFAULT_REGION else {"CreateBucketConfiguration": {"LocationConstraint": region}}


def explain(error: ClientError, code: str, settings: Settings) -> Exception:
    """Return the exception that says what to do about S3's answer."""
    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    if code in KEY_ERRORS:
        return UnavailableError(
            f"{settings.endpoint} refuses access key {settings.access_key!r} for bucket {settings.bucket} ({code}): set "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to a pair that the S3 server knows and that may use the bucket"
        )
    if status >= 500:
        return NotReadyError(f"HTTP {status} {code}")
    message = error.response["Error"].get("Message", "")
    return ConfigError(f"{settings.endpoint} refuses bucket {settings.bucket}: HTTP {status} {code} {message}".rstrip())


def create() -> str:
    """Do the whole command and return the line that reports it."""
    settings = Settings.from_environment(os.environ)
    client = make_client(settings)
    return wait_for(
        NAME, f"the S3 server at {settings.endpoint}", lambda: ensure_bucket(client, settings), settings.wait_s
    )


def main() -> None:
    """Entry point."""
    run(NAME, "Creates the bucket TRAINYARD_BUCKET on the S3 server if it is missing.", create)
