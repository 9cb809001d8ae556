"""Copying from S3, and what its errors mean."""

import contextlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from trainyard import s3
from trainyard.errors import ConfigError, TrainyardError


def download(uri: str, target: Path, client: Any = None) -> Path:
    """Copy the object, or all objects under the prefix, into the directory `target`; returns the file or directory.

    Raises ConfigError and TrainyardError, see `trainyard.data.fetch`, and OSError of the local disk.
    """
    parts = urlsplit(uri, allow_fragments=False)
    # A key may have a question mark.
    bucket, key = parts.netloc, (parts.path + (f"?{parts.query}" if parts.query else "")).removeprefix("/")
    if not bucket:
        raise ConfigError(f"{uri}: must be s3://BUCKET/KEY")
    with _explained(uri, bucket):
        client = client or s3.client()
        if key and not key.endswith("/") and _is_object(client, bucket, key):
            file = target / PurePosixPath(key).name
            client.download_file(bucket, key, str(file))
            return file
        return _download_prefix(uri, client, bucket, f"{key.rstrip('/')}/" if key else "", target)


def _is_object(client: Any, bucket: str, key: str) -> bool:
    from botocore.exceptions import ClientError

    try:
        client.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if s3.code_of(error) in s3.MISSING:
            return False
        raise
    return True


def _download_prefix(uri: str, client: Any, bucket: str, prefix: str, target: Path) -> Path:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    keys = [each["Key"] for page in pages for each in page.get("Contents", ()) if not each["Key"].endswith("/")]
    if not keys:
        raise ConfigError(f"{uri}: there is no object, and none under this prefix, in bucket {bucket}")
    folder = target / (PurePosixPath(prefix).name or bucket)
    for key in keys:
        file = folder / key.removeprefix(prefix)
        if ".." in file.parts:
            raise ConfigError(f"s3://{bucket}/{key}: a key with .. would leave the directory of the copy; rename it")
        file.parent.mkdir(parents=True, exist_ok=True)
        client.download_file(bucket, key, str(file))
    return folder


@contextlib.contextmanager
def _explained(uri: str, bucket: str) -> Iterator[None]:
    """Turns what boto3 raises into ours: ConfigError where trying again cannot help."""
    try:
        import boto3  # noqa: F401 - whether it is there
        from botocore import exceptions
        from s3transfer.exceptions import RetriesExceededError  # type: ignore[import-untyped, unused-ignore]
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{uri}: needs the package boto3, which is not installed here: pip install 'trainyard[s3]'"
        ) from error

    passing = (
        exceptions.HTTPClientError,
        exceptions.ConnectionError,
        exceptions.ReadTimeoutError,
        RetriesExceededError,
    )
    try:
        yield
    except exceptions.ClientError as error:
        raise _meaning(error, uri, bucket) from error
    except passing as error:
        raise TrainyardError(f"{uri}: the S3 server does not answer: {error}") from error
    except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError) as error:
        raise ConfigError(f"{uri}: {error}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY") from error
    except (
        exceptions.BotoCoreError,
        ValueError,
    ) as error:  # an unknown profile, an endpoint that is no URL, a bucket that is no name
        raise ConfigError(f"{uri}: {error}") from error


def _meaning(error: Any, uri: str, bucket: str) -> TrainyardError:
    code = s3.code_of(error)
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code == "NoSuchBucket":
        return ConfigError(f"{uri}: there is no bucket {bucket}")
    if code in s3.MISSING:
        return ConfigError(f"{uri}: there is no such object")
    if status in (400, 401, 403) or code in ("403", "AccessDenied"):
        return ConfigError(
            f"{uri}: the S3 server refuses {error.operation_name} ({code}); check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY "
            f"and what this key may read in bucket {bucket}"
        )
    return TrainyardError(f"{uri}: the S3 server says {code} (HTTP {status}) to {error.operation_name}")
