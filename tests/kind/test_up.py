"""scripts/up and scripts/down as a user types them, on a cluster of their own, with the accidents that happen to them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from local_cluster import cluster
from local_cluster.settings import REPOSITORY

CLUSTER = "trainyard-test-up"
UP_S = 420


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "TRAINYARD_CLUSTER": CLUSTER, **more}


def script(name: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run one of the scripts to its end."""
    command = [str(REPOSITORY / "scripts" / name), *arguments]
    return subprocess.run(command, env=environment(**more), capture_output=True, text=True, timeout=UP_S, check=False)


def processes() -> set[str]:
    """Command lines of all processes that name the cluster."""
    listed = subprocess.run(
        ["ps", "-ww", "-eo", "args"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return {line for line in listed if f"clusters/{CLUSTER}" in line}


@pytest.fixture(scope="module")
def port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


@pytest.fixture(scope="module")
def said() -> list[str]:
    """What the first scripts/up that came to its end has printed."""
    return []


@pytest.fixture(scope="module", autouse=True)
def nothing_left() -> Iterator[None]:
    """No cluster before, and none after, however the tests end."""
    script("down")
    yield
    script("down")


@contextlib.contextmanager
def starting(port: str, until: str) -> Iterator[subprocess.Popen[str]]:
    """A scripts/up that has just printed `until`; whatever is left of it is killed at the end."""
    command = [str(REPOSITORY / "scripts/up")]
    process = subprocess.Popen(
        command,
        env=environment(TRAINYARD_PORT=port),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        seen = ""
        for line in process.stdout:
            seen += line
            if until in line:
                break
        else:
            pytest.fail(f"scripts/up ended before it printed '{until}':\n{seen}")
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_taken_port_is_named_and_nothing_is_begun() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = script("up", TRAINYARD_PORT=port)
    assert done.returncode == 1
    assert f"Port {port} on 127.0.0.1 is in use" in done.stderr
    assert cluster.nodes(CLUSTER) == []


def test_a_cluster_of_somebody_else_is_left_alone(port: str) -> None:
    # A stopped container with kind's label is all that kind itself goes by.
    image = os.environ["TRAINYARD_IMAGE_POSTGRES"]
    container = f"{CLUSTER}-control-plane"
    subprocess.run(
        ["docker", "create", "--name", container, f"--label=io.x-k8s.kind.cluster={CLUSTER}", image],
        check=True,
        capture_output=True,
    )
    try:
        for name in ("up", "down"):
            done = script(name, TRAINYARD_PORT=port)
            assert done.returncode == 1
            assert f"a kind cluster '{CLUSTER}' that these scripts did not make" in done.stderr
            assert cluster.nodes(CLUSTER) == [container]
    finally:
        subprocess.run(["docker", "rm", container], check=True, capture_output=True)


def test_up_goes_on_after_it_was_killed_and_refuses_a_second_one(port: str, said: list[str]) -> None:
    with starting(port, "create the kind cluster"):
        deadline = time.monotonic() + 60
        while not cluster.nodes(CLUSTER) and time.monotonic() < deadline:
            time.sleep(0.2)
        second = script("up", TRAINYARD_PORT=port)
        assert second.returncode == 1
        assert re.search(r"scripts/up \(process \d+\) is at work on the same cluster", second.stderr)
    with starting(port, "helm upgrade --install"):
        time.sleep(3)  # somewhere in the middle of the installation; any moment must do
    done = script("up", TRAINYARD_PORT=port)
    assert done.returncode == 0, done.stdout + done.stderr
    check_summary(done.stdout, port)
    said.append(done.stdout)


def check_summary(text: str, port: str) -> None:
    assert f"http://127.0.0.1:{port}" in text
    assert re.search(r"run: cnn_digits_\d{8}_\S+ \([0-9a-f]{32}\)", text)
    accuracy = re.search(r"test/accuracy: (0\.\d+)", text)
    assert accuracy is not None
    assert float(accuracy.group(1)) > 0.95
    assert requests.get(f"http://127.0.0.1:{port}/health", timeout=10).text == "OK"


def test_what_it_says_to_try_next_works(said: list[str]) -> None:
    sourced = re.search(r"source (\S+)", said[0])
    assert sourced is not None
    for line in ("kubectl apply -f k8s/01-train-digits.yaml", "helm test trainyard"):
        assert line in said[0]
        command = ["bash", "-ec", f"source {sourced.group(1)}; {line}"]
        ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr


def test_a_second_up_trains_nothing_and_keeps_the_port_forward(port: str, said: list[str]) -> None:
    before = processes()
    assert before
    done = script("up", TRAINYARD_PORT=port)
    check_summary(done.stdout, port)
    assert processes() == before
    jobs = [re.findall(r"^training Job (\S+)$", text, re.MULTILINE) for text in (said[0], done.stdout)]
    assert len(jobs[0]) == 1
    assert jobs[0] == jobs[1]


def test_image_loads_what_is_built_and_shows_sizes_beside_goals() -> None:
    done = script("image", "load", "postgres")
    assert done.returncode == 0, done.stdout + done.stderr
    assert os.environ["TRAINYARD_IMAGE_POSTGRES"] in done.stdout
    assert "<= 300 MB" in done.stdout


def test_an_unknown_image_is_named_with_those_that_there_are() -> None:
    done = script("image", "build", "postgers")
    assert done.returncode == 1
    assert "There is no image 'postgers'. The images are: postgres, objectstore, mlflow, trainer, ray." in done.stderr


def test_up_takes_up_a_cluster_whose_engine_went_away(port: str) -> None:
    runs = experiment_runs(port)
    assert runs
    subprocess.run(["docker", "kill", *cluster.nodes(CLUSTER)], check=True, capture_output=True)
    done = script("up", TRAINYARD_PORT=port)
    assert done.returncode == 0, done.stdout + done.stderr
    check_summary(done.stdout, port)
    assert experiment_runs(port) >= runs, "what was stored before the accident must still be there"


def experiment_runs(port: str) -> set[str]:
    address = f"http://127.0.0.1:{port}/api/2.0/mlflow"
    experiment = requests.get(
        f"{address}/experiments/get-by-name", params={"experiment_name": "digits"}, timeout=30
    ).json()
    ids = [experiment["experiment"]["experiment_id"]]
    found = requests.post(f"{address}/runs/search", json={"experiment_ids": ids}, timeout=30).json()
    return {run["info"]["run_id"] for run in found["runs"]}


def test_down_leaves_nothing(port: str) -> None:
    home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "trainyard/clusters" / CLUSTER
    assert home.exists()
    done = script("down")
    assert done.returncode == 0, done.stdout + done.stderr
    assert cluster.nodes(CLUSTER) == []
    assert processes() == set()
    assert not home.exists()
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{port}/health", timeout=5)
    assert script("down").returncode == 0, "a second one has nothing to do and says so"
