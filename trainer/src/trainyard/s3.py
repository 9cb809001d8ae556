"""Talking to S3, and to what speaks like it, as boto3's own environment says: AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL and so on."""

import os
from typing import Any, Final

CONNECT_TIMEOUT_S: Final = 10
READ_TIMEOUT_S: Final = 60
_ATTEMPTS: Final = 3
MISSING: Final = ("NoSuchKey", "NotFound", "404")
"""Codes of an object that is not there."""


def client() -> Any:
    """A client of boto3. Raises ModuleNotFoundError without boto3, and botocore's and ValueError for settings that are wrong."""
    import boto3
    from botocore.config import Config

    own_server = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    settings = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        # Other servers than Amazon's are seldom known as bucket.host, and seldom know the newer checksums.
        s3={"addressing_style": "path" if own_server else "auto"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return boto3.session.Session().client("s3", config=settings)


def code_of(error: Any) -> str:
    """Of botocore's ClientError, such as `NoSuchKey`."""
    return str(error.response.get("Error", {}).get("Code", ""))
