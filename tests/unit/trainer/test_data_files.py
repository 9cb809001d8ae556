"""Where data come from, and which version they are."""

import hashlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError, ReadTimeoutError
from trainyard.data import corpus, fetch, labelled_texts
from trainyard.errors import ConfigError, TrainyardError

# What DVC 3.67 wrote for these bytes.
DVC_FILE = """outs:
- md5: e0eab6824c62870e13c778df1b528a93
  size: 12
  hash: md5
  path: t.txt
"""
DVC_FOLDER = """outs:
- md5: b99a536e0c2ce1567a97ff617ba551ee.dir
  size: 19
  nfiles: 3
  hash: md5
  path: d
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that files can be named without their folder; and where copies go to."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRAINYARD_STATE_DIR", str(tmp_path / "state"))
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def write(files: Mapping[str, str]) -> None:
    for name, content in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content.encode())


# --- versions ---


def test_the_version_of_a_file_is_what_sha256sum_says() -> None:
    write({"t.txt": "some text"})
    assert corpus("t.txt").version == f"sha256:{hashlib.sha256(b'some text').hexdigest()[:12]}"


def test_the_version_of_a_directory_is_what_sha256sum_says_of_its_sums() -> None:
    write({"d/b.txt": "two", "d/a.txt": "one"})
    printed = subprocess.run("sha256sum * | sha256sum", shell=True, cwd="d", capture_output=True, text=True, check=True)
    assert corpus("d").version == f"sha256:{printed.stdout[:12]}"


@pytest.mark.parametrize("change", [{"d/a.txt": "ONE"}, {"d/c.txt": "three"}, {"d/a.txt": "onet", "d/b.txt": "wo"}])
def test_the_version_follows_every_byte(change: Mapping[str, str]) -> None:
    write({"d/a.txt": "one", "d/b.txt": "two"})
    before = corpus("d").version
    assert corpus("d").version == before
    write(change)
    assert corpus("d").version != before


def test_the_version_follows_the_class_of_a_text() -> None:
    write({f"d/{label}/{n}.txt": f"{label}{n}" for label in ("bad", "good") for n in range(5)})
    before = labelled_texts("d").version
    Path("d/bad/0.txt").rename("d/good/9.txt")
    assert labelled_texts("d").version != before


def test_dvc_names_the_version_of_a_file() -> None:
    write({"t.txt": "a,label\n1,0\n", "t.txt.dvc": DVC_FILE})
    assert corpus("t.txt").version == "dvc:e0eab6824c62"


def test_dvc_names_the_version_of_a_directory() -> None:
    from trainyard.data.version import version_of

    write({"d/cat/1.txt": "meow\n", "d/dog/2.txt": "wuff\n", "d/z.txt": "crlf\r\nx\r\n", "d.dvc": DVC_FOLDER})
    assert version_of(Path("d").absolute(), []) == "dvc:b99a536e0c2c"


def test_data_changed_since_dvc_added_them_have_a_version_of_their_own() -> None:
    write({"t.txt": "changed", "t.txt.dvc": DVC_FILE})
    got = corpus("t.txt")
    assert got.version.startswith("sha256:")
    assert got.statistics["dvc"] == "t.txt.dvc is about other data: `dvc add t.txt` has not been run since they changed"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[",
        "outs: []",
        "outs:\n- path: t.txt\n",
        "outs:\n- md5: abc\n  path: t.txt\n",
        DVC_FILE.replace("t.txt", "other.txt"),
        DVC_FOLDER.replace("path: d", "path: t.txt"),
    ],
)
def test_a_malformed_dvc_file_is_named(content: str, tmp_path: Path) -> None:
    write({"t.txt": "text", "t.txt.dvc": content})
    with pytest.raises(ConfigError) as caught:
        corpus("t.txt")
    assert str(caught.value).startswith(f"{tmp_path}/t.txt.dvc: ")
    assert "dvc add t.txt" in str(caught.value)


# --- s3 ---


class Bucket:
    """Answers like boto3's client of a server with one bucket, `b`."""

    def __init__(self, objects: Mapping[str, str], error: Exception | None = None) -> None:
        self.objects = objects
        self.error = error

    def head_object(self, *, Bucket: str, Key: str) -> None:  # noqa: N803 - boto3's names
        self._check(Bucket, "HeadObject")
        if Key not in self.objects:
            raise refusal("404", 404, "HeadObject")

    def get_paginator(self, name: str) -> "Bucket":
        assert name == "list_objects_v2"
        return self

    def paginate(self, *, Bucket: str, Prefix: str) -> Iterator[Mapping[str, Any]]:  # noqa: N803
        self._check(Bucket, "ListObjectsV2")
        keys = sorted(key for key in self.objects if key.startswith(Prefix))
        yield from ({"Contents": [{"Key": key}]} for key in keys)
        yield {}

    def download_file(self, bucket: str, key: str, path: str) -> None:
        self._check(bucket, "GetObject")
        Path(path).write_text(self.objects[key])

    def _check(self, bucket: str, operation: str) -> None:
        if self.error is not None:
            raise self.error
        if bucket != "b":
            raise refusal("NoSuchBucket", 404, operation)


def refusal(code: str, status: int, operation: str = "GetObject") -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, operation)


def copies() -> list[Path]:
    return [each for each in Path("state/tmp").glob("*") if each.is_dir()]


def contents(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}


def test_an_object_is_there_while_it_is_used_and_gone_afterwards() -> None:
    with fetch("s3://b/some/t.txt", s3=Bucket({"some/t.txt": "text", "some/t.txt.old": "no"})) as path:
        assert (path.name, path.read_text()) == ("t.txt", "text")
        assert Path("state/tmp").absolute() in path.parents
    assert not copies()


@pytest.mark.parametrize("uri", ["s3://b/some", "s3://b/some/"])
def test_a_prefix_is_a_directory(uri: str) -> None:
    objects = {"some/a.txt": "1", "some/deep/b.txt": "2", "some/": "", "something.txt": "no"}
    with fetch(uri, s3=Bucket(objects)) as path:
        assert (path.name, contents(path)) == ("some", {"a.txt": "1", "deep/b.txt": "2"})
    assert not copies()


def test_a_bucket_is_a_directory() -> None:
    with fetch("s3://b", s3=Bucket({"a.txt": "1"})) as path:
        assert contents(path) == {"a.txt": "1"}


def test_a_key_may_have_any_characters() -> None:
    with fetch("s3://b/what?/a #1.txt", s3=Bucket({"what?/a #1.txt": "1"})) as path:
        assert path.read_text() == "1"


def test_what_is_read_from_s3_is_called_by_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = Bucket({"some/a.txt": "one", "some/b.txt": ""})
    monkeypatch.setattr("trainyard.s3.client", lambda: bucket)
    with pytest.raises(ConfigError) as caught:
        corpus("s3://b/some")
    assert str(caught.value) == "s3://b/some/b.txt: the file is empty"
    bucket.objects = {"some/a.txt": "one"}
    assert corpus("s3://b/some/a.txt").version == f"sha256:{hashlib.sha256(b'one').hexdigest()[:12]}"


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (
            refusal("403", 403, "HeadObject"),
            ConfigError,
            "the S3 server refuses HeadObject (403); check AWS_ACCESS_KEY_ID",
        ),
        (refusal("InvalidAccessKeyId", 403), ConfigError, "refuses GetObject (InvalidAccessKeyId)"),
        (refusal("NoSuchKey", 404), ConfigError, "there is no such object"),
        (refusal("NoSuchBucket", 404), ConfigError, "there is no bucket b"),
        (NoCredentialsError(), ConfigError, "Unable to locate credentials; set AWS_ACCESS_KEY_ID"),
        (ValueError("Invalid endpoint: x"), ConfigError, "Invalid endpoint: x"),
        (refusal("SlowDown", 503), TrainyardError, "the S3 server says SlowDown (HTTP 503) to GetObject"),
        (
            EndpointConnectionError(endpoint_url="http://h"),
            TrainyardError,
            "the S3 server does not answer: Could not connect",
        ),
        (ReadTimeoutError(endpoint_url="http://h"), TrainyardError, "the S3 server does not answer: Read timeout"),
        (OSError(28, "No space left on device"), TrainyardError, "/state/tmp: No space left on device"),
    ],
)
def test_errors_say_whether_trying_again_can_help(error: Exception, kind: type[TrainyardError], said: str) -> None:
    with pytest.raises(TrainyardError) as caught, fetch("s3://b/t.txt", s3=Bucket({}, error)):
        pass
    assert type(caught.value) is kind
    assert str(caught.value).startswith("s3://b/t.txt: ")
    assert said in str(caught.value)
    assert not copies()


def test_a_place_for_copies_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    write({"state": "a file"})
    with pytest.raises(TrainyardError) as caught, fetch("s3://b/t.txt", s3=Bucket({"t.txt": "text"})):
        pass
    assert str(caught.value) == f"{tmp_path}/state/tmp: Not a directory; data from S3 are copied there"


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("s3://b/none", "s3://b/none: there is no object, and none under this prefix, in bucket b"),
        ("s3://b/none/", "s3://b/none/: there is no object, and none under this prefix, in bucket b"),
        ("s3://other/t.txt", "s3://other/t.txt: there is no bucket other"),
        ("s3://", "s3://: must be s3://BUCKET/KEY"),
        ("s3:///t.txt", "s3:///t.txt: must be s3://BUCKET/KEY"),
        ("s3://b/up", "s3://b/up/../../x: a key with .. would leave the directory of the copy; rename it"),
    ],
)
def test_addresses_of_nothing(uri: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught, fetch(uri, s3=Bucket({"up/../../x": "out", "t.txt": "text"})):
        pass
    assert str(caught.value) == said


def test_a_server_that_is_not_there_is_no_mistake_of_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    monkeypatch.setattr("trainyard.s3._ATTEMPTS", 1)
    with pytest.raises(TrainyardError) as caught, fetch("s3://b/t.txt"):
        pass
    assert type(caught.value) is TrainyardError
    assert "s3://b/t.txt: the S3 server does not answer: Could not connect to the endpoint URL" in str(caught.value)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"AWS_ENDPOINT_URL": "nothing"}, "Invalid endpoint: nothing"),
        ({"AWS_PROFILE": "nobody"}, "nobody"),
        ({}, "Unable to locate credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_a_wrong_environment_of_boto3_is_told(
    variables: Mapping[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught, fetch("s3://b/t.txt"):
        pass
    assert said in str(caught.value)


@pytest.mark.parametrize("missing", ["botocore", "boto3"])
def test_without_boto3_s3_is_refused(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with (
        pytest.raises(ConfigError, match=r"s3://b/t\.txt: needs the package boto3, which is not installed here"),
        fetch("s3://b/t.txt"),
    ):
        pass


# --- copies that nobody removed ---

HOLD = """
import sys
from pathlib import Path
from trainyard.data import fetch
class One:
    def head_object(self, **_): pass
    def download_file(self, _bucket, _key, path): Path(path).write_text("x")
with fetch("s3://b/t.txt", s3=One()) as path:
    print(path, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder() -> Iterator["subprocess.Popen[str]"]:
    """A process that uses a copy until its input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def test_the_copy_of_a_killed_process_is_removed_by_the_next_one(holder: "subprocess.Popen[str]") -> None:
    copy = Path(_line(holder.stdout))
    with fetch("s3://b/t.txt", s3=Bucket({"t.txt": "text"})):
        assert copy.exists(), "in use"
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert copy.exists()
    with fetch("s3://b/t.txt", s3=Bucket({"t.txt": "text"})) as path:
        assert not copy.exists()
        assert path.exists()
    assert not copies()


def _line(stream: io.TextIOBase | Any) -> str:
    return str(stream.readline()).strip()
