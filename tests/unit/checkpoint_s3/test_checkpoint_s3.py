"""Checkpoints in S3: what is there, what is skipped, and what happens while the store is away."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.checkpoint_s3.conftest import Site
from tests.unit.images.image_containers import (
    Container,
    ObjectStore,
    docker,
    run_objectstore,
    unique_name,
    wait_for_log,
    wait_until,
    write_secret,
)


def steps_done(trainer: Container) -> int:
    """By a training that still runs."""
    found = re.findall(r'"step": (\d+)', trainer.logs())
    return int(found[-1]) if found else 0


def newest(site: Site) -> int:
    """Step of the newest complete checkpoint."""
    manifests = [key for key in site.objects() if key.endswith("/manifest.json")]
    return max((int(key[5:14]) for key in manifests), default=0)


def test_round_trip(site: Site) -> None:
    """With a state of several parts; only the last ones stay, and nothing else lies about."""
    saved = site.run("save", steps=[1, 2, 3], megabytes=40)
    assert saved.code == 0, saved.output
    assert [each["saved"] for each in saved.answers if "saved" in each] == [1, 2, 3]
    assert site.objects() == [
        f"step-{step:09d}/{member}" for step in (2, 3) for member in ("manifest.json", "state.pt")
    ]
    manifest = json.loads(site.body("step-000000003/manifest.json"))
    assert manifest["files"]["state.pt"]["sha256"] == hashlib.sha256(site.body("step-000000003/state.pt")).hexdigest()
    uploads = site.client.list_multipart_uploads(Bucket=site.bucket, Prefix=site.prefix)
    assert not uploads.get("Uploads")
    restored = site.run("restore", megabytes=40)
    assert restored.answers[-1] == {"restored": 3, "right": True}, restored.output


def test_nothing_there_is_the_beginning(site: Site) -> None:
    assert site.run("restore").answers == [{"restored": 0, "right": False}]
    assert site.run("record").answers == [{"record": None}]


def test_what_is_not_whole_is_skipped(site: Site) -> None:
    assert site.run("save", steps=[1, 2]).code == 0
    damages: list[tuple[str, Callable[[bytes], bytes] | None, str]] = [
        ("step-000000002/state.pt", lambda body: body[:-1], r"state\.pt has \d+ of \d+ bytes"),
        ("step-000000002/state.pt", lambda body: body[:-9] + b"x" + body[-8:], r"state\.pt has been changed"),
        ("step-000000002/manifest.json", lambda body: body[:50], r"manifest\.json is no manifest"),
        ("step-000000002/manifest.json", None, r"manifest\.json is missing"),
    ]
    for key, damage, reason in damages:
        whole = site.body(key)
        if damage is None:
            site.client.delete_object(Bucket=site.bucket, Key=f"{site.prefix}/{key}")
        else:
            site.put(key, damage(whole))
        said, _, answer = site.run("restore").answers
        assert re.fullmatch(
            rf"checkpoint {site.uri}/step-000000002 is skipped, since {reason}.*; step-000000001 is used instead",
            said["said"],
        )
        assert answer == {"restored": 1, "right": True}
        if damage is not None:
            site.put(key, whole)
    # The incomplete one makes room for the next.
    assert site.run("save", steps=[2]).code == 0
    assert {key.partition("/")[0] for key in site.objects()} == {"step-000000001", "step-000000002.2"}
    assert site.run("restore").answers[-1] == {"restored": 2, "right": True}


@pytest.mark.parametrize(
    ("work", "change", "message"),
    [
        ("record", {"AWS_SECRET_ACCESS_KEY": "not-the-right-secret"}, r"refuses .* \(SignatureDoesNotMatch\)"),
        (
            "record",
            {"uri": "s3://trainyard-test-no-such-bucket/run"},
            "there is no bucket trainyard-test-no-such-bucket",
        ),
        (
            "restore",
            {"AWS_SECRET_ACCESS_KEY": "not-the-right-secret"},
            r"refuses .* \(SignatureDoesNotMatch\); check AWS_ACCESS_KEY_ID",
        ),
        ("restore", {"AWS_ACCESS_KEY_ID": "NOBODY"}, r"refuses .* \(InvalidAccessKeyId\)"),
        ("restore", {"AWS_ACCESS_KEY_ID": ""}, "Unable to locate credentials"),
        ("restore", {"AWS_ENDPOINT_URL": "objectstore:8333"}, "Invalid endpoint"),
        (
            "restore",
            {"uri": "s3://trainyard-test-no-such-bucket/run"},
            "there is no bucket trainyard-test-no-such-bucket",
        ),
        ("restore", {"uri": "s3://Not_a_bucket!/run"}, "Invalid bucket name"),
        ("restore", {"uri": "s3://"}, "must be s3://BUCKET/PREFIX"),
    ],
)
def test_a_wrong_address_or_key_ends_with_42(site: Site, work: str, change: dict[str, str], message: str) -> None:
    """Before any training, and without a retry."""
    environment = {name: value for name, value in change.items() if name.isupper()}
    arguments = {name: value for name, value in change.items() if name.islower()}
    ended = site.end(site.start(work, environment={**environment, "AWS_EC2_METADATA_DISABLED": "true"}, **arguments))
    assert re.search(message, ended.output), ended.output
    assert ended.code == 42
    assert "not-the-right-secret" not in ended.output


def test_a_pod_without_a_volume_finds_its_record(site: Site) -> None:
    trainer = site.start("train")
    wait_until(lambda: newest(site) > 0, "a checkpoint")
    docker("kill", "--signal=TERM", trainer.name)
    ended = site.end(trainer)
    assert ended.code == 75, ended.output
    last = max(each["step"] for each in ended.answers if "step" in each)
    assert newest(site) == last
    assert f"checkpoint of step {last} is written to {site.uri}; exit code 75" in ended.answers[-1]["said"]

    (answer,) = site.run("record").answers
    manifest = json.loads(site.body(f"step-{last:09d}/manifest.json"))
    assert answer["sha256"] == manifest["files"]["record.tar"]["sha256"]
    assert "./start.json" in answer["record"]
    # Cheap: a state that is damaged without another size is not even looked at, a record is.
    state, record = (site.body(f"step-{last:09d}/{member}") for member in ("state.pt", "record.tar"))
    site.put(f"step-{last:09d}/state.pt", bytes(len(state)))
    assert site.run("record").answers == [answer]
    site.put(f"step-{last:09d}/record.tar", record[:-1] + bytes([record[-1] ^ 1]))
    answers = site.run("record").answers
    assert re.search(rf"step-{last:09d} is skipped, since record\.tar has been changed", answers[0]["said"])
    assert answers[-1]["record"]

    resumed = site.run("train", last=last + 3)
    assert resumed.code == 0, resumed.output


def test_a_store_that_hangs_does_not_stop_training(site: Site) -> None:
    """Frozen in the middle of saves, for longer than a save may ever take; it goes on when the store does."""
    trainer = site.start("train", pause_s=0.1)
    wait_until(lambda: newest(site) > 0, "a checkpoint")
    docker("pause", site.store.container.name)
    frozen_at = steps_done(trainer)
    # At least 25 s.
    wait_until(lambda: steps_done(trainer) > frozen_at + 250, "250 more steps")
    docker("unpause", site.store.container.name)
    wait_until(lambda: newest(site) > frozen_at + 250, "a checkpoint of a later step")
    docker("kill", "--signal=TERM", trainer.name)
    ended = site.end(trainer)
    assert ended.code == 75, ended.output
    assert [each["step"] for each in ended.answers if "step" in each] == list(range(1, newest(site) + 1))


@pytest.fixture
def mortal(site: Site, tmp_path: Path) -> Iterator[Site]:
    """A store that a test may stop."""
    keys = {"access_key": site.store.access_key, "secret_key": site.store.secret_key}
    container = run_objectstore(site.sandbox, write_secret(tmp_path / "secret", **keys), site.sandbox.volume())
    container.wait_ready("ready")
    store = ObjectStore(container, keys["access_key"], keys["secret_key"])
    bucket = unique_name("bucket")
    store.client().create_bucket(Bucket=bucket)
    yield replace(site, store=store, bucket=bucket)


def test_sigterm_waits_for_a_store_that_is_away(mortal: Site) -> None:
    trainer = mortal.start("train", every_steps=10**6, environment={"TRAINYARD_GRACE_S": "600"})
    wait_until(lambda: steps_done(trainer) > 3, "some steps")
    mortal.store.container.kill()
    docker("kill", "--signal=TERM", trainer.name)
    wait_for_log(trainer, "the S3 server does not answer")
    mortal.store.container.start()
    ended = mortal.end(trainer)
    assert ended.code == 75, ended.output
    assert newest(mortal) == max(each["step"] for each in ended.answers if "step" in each)


def test_sigterm_does_not_wait_for_ever(mortal: Site) -> None:
    trainer = mortal.start("train", every_steps=10**6, environment={"TRAINYARD_GRACE_S": "3"})
    wait_until(lambda: steps_done(trainer) > 3, "some steps")
    mortal.store.container.kill()
    docker("kill", "--signal=TERM", trainer.name)
    ended = mortal.end(trainer)
    assert ended.code == 143, ended.output


def test_a_start_waits_for_a_store_that_is_away(mortal: Site) -> None:
    """It must not take that for the beginning."""
    assert mortal.run("save", steps=[7]).code == 0
    mortal.store.container.kill()
    trainer, other = mortal.start("restore"), mortal.start("restore")
    for each in (trainer, other):
        wait_for_log(each, "the S3 server does not answer")
    docker("kill", "--signal=TERM", other.name)
    interrupted = mortal.end(other)
    assert interrupted.code == 143, interrupted.output
    mortal.store.container.start()
    ended = mortal.end(trainer)
    assert ended.answers[-1] == {"restored": 7, "right": True}, ended.output


def test_a_store_that_is_away_in_the_background_is_told_and_survived(mortal: Site) -> None:
    trainer = mortal.start("train")
    wait_until(lambda: newest(mortal) > 0, "a checkpoint")
    mortal.store.container.kill()
    wait_for_log(trainer, "training goes on, and the next one is written when it is due")
    away_until = steps_done(trainer)
    mortal.store.container.start()
    mortal.store.container.wait_ready("ready")
    wait_until(lambda: newest(mortal) > away_until, "a checkpoint of a later step")
    docker("kill", "--signal=TERM", trainer.name)
    assert mortal.end(trainer).code == 75
