"""Names from the environment, locks, and processes that outlive their starter."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from local_cluster import probes, state, tools
from local_cluster.errors import UserError
from local_cluster.settings import read_settings, read_versions


@pytest.mark.parametrize(
    ("name", "value"), [("TRAINYARD_CLUSTER", "My_Cluster"), ("TRAINYARD_PORT", "80"), ("TRAINYARD_PORT", "http")]
)
def test_a_name_that_cannot_be_is_refused_with_the_variable_and_the_value(name: str, value: str) -> None:
    with pytest.raises(UserError, match=f"{name} is '{value}'"):
        read_settings({name: value, "HOME": "/nowhere"})


def test_caches_and_state_follow_the_base_directories() -> None:
    settings = read_settings({"HOME": "/home/ada", "XDG_CACHE_HOME": "/big/cache"})
    assert str(settings.cache) == "/big/cache/trainyard"
    assert str(settings.state) == "/home/ada/.local/state/trainyard"
    assert (settings.cluster, settings.port, settings.context) == ("trainyard", 5000, "kind-trainyard")


def test_a_second_command_is_refused_and_told_who_holds_the_lock(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    hold = f"from pathlib import Path; from local_cluster import state; import time\nwith state.exclusive(Path({str(lock)!r}), 'scripts/up'): print('held', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(UserError, match=rf"scripts/up \(process {holder.pid}\) is at work"),
            state.exclusive(lock, "x"),
        ):
            pass
        holder.kill()
    with state.exclusive(lock, "scripts/up"):  # the kernel let go of it when the holder was killed
        pass


def test_a_detached_process_is_known_again_and_ended(tmp_path: Path) -> None:
    process = state.start_detached(["sleep", "600"], tmp_path / "log")
    assert state.is_running(process)
    assert not state.is_running({**process, "born": "1"}), "a reused process id must not be taken for it"
    began = time.monotonic()
    state.stop(process)
    assert not state.is_running(process)
    assert time.monotonic() - began < 20


def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    process = state.start_detached(["sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done"], tmp_path / "log")
    while "up" not in (tmp_path / "log").read_text():
        time.sleep(0.01)
    state.stop(process, grace_s=0.2)
    deadline = time.monotonic() + 20
    while state.is_running(process) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not state.is_running(process)


def test_a_half_written_state_file_is_never_read(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "engine.json"
    assert state.read_json(path) == {}
    state.write_json(path, {"pid": 1})
    state.write_json(path, {"pid": 2})
    assert state.read_json(path) == {"pid": 2}
    assert [entry.name for entry in path.parent.iterdir()] == ["engine.json"]


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ('ID=debian\nVERSION_ID="12"\n', 12),
        ("ID=debian\nPRETTY_NAME=trixie/sid\n", 99),
        ('ID=ubuntu\nID_LIKE=debian\nVERSION_ID="24.04"\n', None),
    ],
)
def test_debian_is_told_from_its_derivatives(tmp_path: Path, text: str, version: int | None) -> None:
    release = tmp_path / "os-release"
    release.write_text(text)
    assert probes.debian_version(release) == version
    assert probes.debian_version(tmp_path / "missing") is None


def test_a_content_key_changes_with_bytes_names_and_modes_and_with_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one")
    first = tools.content_key(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__/a.pyc").write_text("generated")
    assert tools.content_key(tmp_path) == first
    (tmp_path / "a").chmod(0o755)
    second = tools.content_key(tmp_path)
    (tmp_path / "a").write_text("two")
    third = tools.content_key(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert len({first, second, third, tools.content_key(tmp_path)}) == 4


def test_stock_images_are_pinned() -> None:
    versions = read_versions()
    assert "@sha256:" in versions["STOCK_NODE_IMAGE"]
    assert not any(value.endswith(":latest") for value in versions.values())
