"""Checkpoints in a bucket, by boto3 with its own environment. Implements `trainyard.checkpoint.store.Store`."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import urlsplit

from trainyard import s3
from trainyard.checkpoint.errors import CheckpointError, StoreUnavailable
from trainyard.checkpoint.folder import write_all
from trainyard.checkpoint.layout import MANIFEST, Content, Damaged, HashingFile, Name, check
from trainyard.errors import ConfigError

_PART_BYTES: Final = 16 * 2**20
_PASSING: Final = ("RequestTimeout", "SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded")
_REFUSED: Final = ("ExpiredToken", "InvalidToken", "AuthorizationHeaderMalformed", "PermanentRedirect")


class S3Store:
    """One prefix a checkpoint, `<prefix>/step-000000020/`; its manifest is put last and removed first."""

    carries_record = True

    def __init__(self, uri: str, staging: Path) -> None:
        """`staging`: where files are on their way. Raises ConfigError for no bucket."""
        parts = urlsplit(uri)
        if not parts.netloc:
            raise ConfigError(f"checkpoint URI {uri}: must be s3://BUCKET/PREFIX")
        self._bucket = parts.netloc
        self._prefix = parts.path.strip("/") + "/" if parts.path.strip("/") else ""
        self._staging = staging
        self._client = _client(uri)

    @property
    def uri(self) -> str:
        """See `Store`."""
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def open(self) -> None:
        """See `Store`."""
        self.names()
        where = {"Bucket": self._bucket, "Key": f"{self._prefix}{MANIFEST}"}
        with self._explained():
            # Whether writing is allowed, without anything that stays.
            upload = self._client.create_multipart_upload(**where)["UploadId"]
        with contextlib.suppress(Exception):  # what is left is a cost, no danger, and not everybody may list uploads
            self._client.abort_multipart_upload(**where, UploadId=upload)
            for left in self._client.list_multipart_uploads(Bucket=self._bucket, Prefix=self._prefix)["Uploads"]:
                self._client.abort_multipart_upload(Bucket=self._bucket, Key=left["Key"], UploadId=left["UploadId"])

    def names(self) -> list[Name]:
        """See `Store`."""
        with self._explained():
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix, Delimiter="/"
            )
            folders = [each["Prefix"] for page in pages for each in page.get("CommonPrefixes", ())]
        found = (Name.parse(folder.removeprefix(self._prefix).rstrip("/")) for folder in folders)
        return sorted((name for name in found if name), reverse=True)

    def read(self, name: Name, member: str) -> bytes:
        """See `Store`."""
        with self._explained(member):
            content: bytes = self._client.get_object(Bucket=self._bucket, Key=self._key(name, member))["Body"].read()
        return content

    def fetch(self, name: Name, member: str, expected: Content) -> IO[bytes]:
        """See `Store`."""
        file = self._temporary_file()
        try:
            with self._explained(member):
                self._client.download_fileobj(self._bucket, self._key(name, member), file, Config=_transfer())
            file.seek(0)
            check(file, member, expected)
        except OSError as error:
            file.close()
            raise CheckpointError(f"{self._staging}: {error.strerror or error}; checkpoints are read there") from error
        except BaseException:
            file.close()
            raise
        return file

    def size(self, name: Name, member: str) -> int:
        """See `Store`."""
        with self._explained(member):
            return int(self._client.head_object(Bucket=self._bucket, Key=self._key(name, member))["ContentLength"])

    def draft(self, name: Name) -> "_Draft":
        """See `Store`."""
        return _Draft(self, name)

    def remove(self, name: Name) -> None:
        """See `Store`."""
        with self._explained():
            folder = self._key(name, "")
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=folder)
            keys = [each["Key"] for page in pages for each in page.get("Contents", ())]
            for key in sorted(keys, key=lambda key: not key.endswith(f"/{MANIFEST}")):
                self._client.delete_object(Bucket=self._bucket, Key=key)

    def stage(self, write: Callable[[HashingFile], object]) -> tuple[IO[bytes], Content]:
        """A file on local disk, which nobody else sees and no kill leaves behind."""
        file = self._temporary_file()
        hashing = HashingFile(file)
        try:
            write_all(hashing, write)
            file.flush()
        except OSError as error:
            file.close()
            raise CheckpointError(
                f"{self._staging}: {error.strerror or error}; no room to stage a checkpoint"
            ) from error
        except BaseException:
            file.close()
            raise
        return file, hashing.content

    def upload(self, name: Name, member: str, file: IO[bytes]) -> None:
        """The whole staged file."""
        # A second descriptor, since boto3 closes what it has uploaded, and this may have to be repeated.
        with os.fdopen(os.dup(file.fileno()), "rb") as copy, self._explained():
            copy.seek(0)
            self._client.upload_fileobj(copy, self._bucket, self._key(name, member), Config=_transfer())

    def put_manifest(self, name: Name, content: bytes) -> None:
        """Make it complete."""
        with self._explained():
            self._client.put_object(Bucket=self._bucket, Key=self._key(name, MANIFEST), Body=content)

    def _key(self, name: Name, member: str) -> str:
        return f"{self._prefix}{name}/{member}"

    def _temporary_file(self) -> IO[bytes]:
        try:
            self._staging.mkdir(parents=True, exist_ok=True)
            return tempfile.TemporaryFile(dir=self._staging)
        except OSError as error:
            raise CheckpointError(
                f"{self._staging}: {error.strerror or error}; checkpoints are staged there"
            ) from error

    @contextlib.contextmanager
    def _explained(self, member: str = MANIFEST) -> Iterator[None]:
        """Turns what boto3 raises into what it means for a checkpoint."""
        from boto3.exceptions import Boto3Error
        from botocore import exceptions as botocore
        from s3transfer.exceptions import RetriesExceededError

        user = (
            botocore.NoCredentialsError,
            botocore.PartialCredentialsError,
            botocore.ParamValidationError,
            botocore.InvalidRegionError,
        )
        try:
            yield
        except botocore.ClientError as error:
            raise self._meaning(error, member) from error
        except user as error:
            raise ConfigError(f"checkpoints in {self.uri}: {error}") from error
        except (botocore.BotoCoreError, Boto3Error, RetriesExceededError) as error:
            raise StoreUnavailable(f"checkpoints in {self.uri}: the S3 server does not answer: {error}") from error

    def _meaning(self, error: Any, member: str) -> Exception:
        code = s3.code_of(error)
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        where = f"checkpoints in {self.uri}"
        if code == "NoSuchBucket":
            return ConfigError(f"{where}: there is no bucket {self._bucket}; create it, or correct the checkpoint URI")
        if code in s3.MISSING:
            return Damaged(f"{member} is missing")
        if code in _PASSING or status == 429 or status >= 500:
            return StoreUnavailable(f"{where}: the S3 server says {code} (HTTP {status})")
        if status in (401, 403) or code in _REFUSED:
            return ConfigError(
                f"{where}: the S3 server refuses {error.operation_name} ({code}); check AWS_ACCESS_KEY_ID, "
                "AWS_SECRET_ACCESS_KEY and what this key may do in the bucket"
            )
        return CheckpointError(f"{where}: {error}")


class _Draft:
    """Files on local disk, uploaded when all of them are there."""

    def __init__(self, store: S3Store, name: Name) -> None:
        self._store = store
        self._name = name
        self._waiting: dict[str, IO[bytes]] = {}
        self._began = self._committed = False

    def add(self, member: str, write: Callable[[HashingFile], object]) -> Content:
        """See `Draft`."""
        self._waiting[member], content = self._store.stage(write)
        return content

    def commit(self, manifest: bytes) -> None:
        """See `Draft`."""
        self._began = True
        for member in list(self._waiting):
            self._store.upload(self._name, member, self._waiting[member])
            self._waiting.pop(member).close()
        self._store.put_manifest(self._name, manifest)
        self._committed = True

    def __enter__(self) -> "_Draft":
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._waiting.values():
            file.close()
        if self._began and not self._committed:
            with contextlib.suppress(CheckpointError, ConfigError):  # the next start removes it
                self._store.remove(self._name)


def _client(uri: str) -> Any:
    try:
        from botocore.exceptions import BotoCoreError
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"checkpoint URI {uri}: needs the package boto3, which is not installed here: pip install 'trainyard[s3]'"
        ) from error
    try:
        return s3.client()
    except (BotoCoreError, ValueError) as error:  # an unknown profile or region, an endpoint that is no URL
        raise ConfigError(f"checkpoints in {uri}: {error}") from error


def _transfer() -> Any:
    from boto3.s3.transfer import TransferConfig

    return TransferConfig(multipart_threshold=_PART_BYTES, multipart_chunksize=_PART_BYTES, max_concurrency=4)
