"""`trainyard launch`: ranks, signals, output and the one exit code, with real processes."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from trainyard import cpu
from trainyard.errors import TrainyardError
from trainyard.interruption import Interruption
from trainyard.launch import name
from trainyard.launch.gpus import visible_gpus
from trainyard.launch.name import wait_until_resolves
from trainyard.launch.supervisor import Supervisor
from trainyard.launch.topology import Topology

from tests.unit.trainer.conftest import Ended, Laptop

RANK = "import os, signal, sys, time; rank = int(os.environ['RANK'])\n"


def python(code: str) -> list[str]:
    """A program that knows its `rank`."""
    return ["--", sys.executable, "-c", RANK + textwrap.dedent(code)]


def launch(laptop: Laptop, *arguments: str, **environment: str) -> Ended:
    return laptop.wait(start(laptop, *arguments, **environment))


def start(laptop: Laptop, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
    return laptop.python("-m", "trainyard", "launch", *arguments, **environment)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def gone(pid: int) -> bool:
    """Ended; nobody may be there to reap it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def catches(pid: int, number: signal.Signals) -> bool:
    """Whether the process has a handler."""
    return _in_mask(pid, "SigCgt", number)


def pending(pid: int, number: signal.Signals) -> bool:
    """Whether the process has not been given it yet."""
    return _in_mask(pid, "ShdPnd", number)


def _in_mask(pid: int, name: str, number: signal.Signals) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    (mask,) = [line.split()[1] for line in status.splitlines() if line.startswith(f"{name}:")]
    return bool(int(mask, 16) & 1 << (number - 1))


def started(
    laptop: Laptop, *arguments: str, ranks: int, **environment: str
) -> tuple["subprocess.Popen[str]", list[int]]:
    """A launcher whose processes all have made the file `ready-RANK`, and their process ids."""
    process = start(laptop, *arguments, **environment)
    files = [laptop.folder / f"ready-{rank}" for rank in range(ranks)]
    until(lambda: process.poll() is not None or all(file.exists() and file.read_text() for file in files))
    assert process.poll() is None, process.communicate()
    return process, [int(file.read_text()) for file in files]


READY = "open(f'ready-{rank}', 'w').write(str(os.getpid()))\n"
TELL = "import json; json.dump(dict(os.environ), open(f'rank-{rank}', 'w'))"
TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "NODE_RANK")


def told(laptop: Laptop, rank: int) -> dict[str, str]:
    environ: dict[str, str] = json.loads((laptop.folder / f"rank-{rank}").read_text())
    return environ


def test_one_node_with_two_processes(laptop: Laptop) -> None:
    assert launch(laptop, "--nproc-per-node", "2", *python(TELL)).code == 0
    for rank in range(2):
        environ = told(laptop, rank)
        assert [environ[name] for name in TORCHRUN] == [str(rank), str(rank), "2", "2", "0", "0"]
        assert environ["MASTER_ADDR"] == "127.0.0.1"
    ports = {told(laptop, rank)["MASTER_PORT"] for rank in range(2)}
    assert len(ports) == 1
    with socket.create_server(("127.0.0.1", int(ports.pop()))):
        pass  # it was free


def test_two_nodes_with_two_processes_each(laptop: Laptop) -> None:
    options = ["--nproc-per-node", "2", "--nnodes", "2", *python(TELL)]
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    pods = [start(laptop, *options, JOB_COMPLETION_INDEX=str(index), **meeting) for index in range(2)]
    assert [laptop.wait(pod).code for pod in pods] == [0, 0]
    for rank in range(4):
        node, local = divmod(rank, 2)
        environ = told(laptop, rank)
        assert [environ[name] for name in TORCHRUN] == [str(rank), str(local), "4", "2", str(node), str(node)]
        assert (environ["MASTER_ADDR"], environ["MASTER_PORT"]) == ("127.0.0.1", "29500")


def test_options_say_more_than_the_environment(laptop: Laptop) -> None:
    options = ["--nproc-per-node", "1", "--nnodes", "3", "--node-rank", "2", "--master-addr", "localhost"]
    environment = {"JOB_COMPLETION_INDEX": "1", "MASTER_ADDR": "elsewhere", "MASTER_PORT": "1"}
    assert launch(laptop, *options, "--master-port", "29501", *python(TELL), **environment).code == 0
    environ = told(laptop, 2)
    assert (environ["MASTER_ADDR"], environ["MASTER_PORT"]) == ("localhost", "29501")


def test_pods_of_a_job_that_train_each_by_itself_are_each_rank_0(laptop: Laptop) -> None:
    assert launch(laptop, "--nproc-per-node", "1", *python(TELL), JOB_COMPLETION_INDEX="5").code == 0
    assert told(laptop, 0)["WORLD_SIZE"] == "1"


def test_processes_share_the_cpus() -> None:
    topology = Topology(processes=2, nodes=1, node=0, address="h", port=1)
    assert topology.environment(0, {})["OMP_NUM_THREADS"] == str(max(1, cpu.available_cpus() // 2))
    assert topology.environment(0, {"OMP_NUM_THREADS": "7"})["OMP_NUM_THREADS"] == "7"


@pytest.mark.parametrize(
    ("environ", "devices", "count"),
    [
        ({}, ["nvidia0", "nvidia1", "nvidia10", "nvidiactl", "nvidia-uvm"], 3),
        ({"NVIDIA_VISIBLE_DEVICES": "all"}, [], 0),
        ({"NVIDIA_VISIBLE_DEVICES": "void"}, ["nvidia0"], 0),
        ({"NVIDIA_VISIBLE_DEVICES": "GPU-1,GPU-2"}, ["nvidia4", "nvidia5"], 2),
        ({"CUDA_VISIBLE_DEVICES": "0,3"}, ["nvidia0"] * 1, 2),
        ({"CUDA_VISIBLE_DEVICES": ""}, ["nvidia0"], 0),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, ["nvidia0"], 0),
        ({"CUDA_VISIBLE_DEVICES": "1,-1,0"}, ["nvidia0"], 1),
        ({"CUDA_VISIBLE_DEVICES": "MIG-1, MIG-2"}, ["nvidia0"], 2),
    ],
)
def test_gpus_are_counted(environ: dict[str, str], devices: Sequence[str], count: int, tmp_path: Path) -> None:
    for device in devices:
        (tmp_path / device).touch()
    assert visible_gpus(environ, tmp_path) == count


def test_auto_is_one_process_per_gpu_or_one(laptop: Laptop) -> None:
    assert launch(laptop, *python(TELL), CUDA_VISIBLE_DEVICES="0,1,2").code == 0
    assert told(laptop, 2)["WORLD_SIZE"] == "3"
    assert launch(laptop, *python(TELL), CUDA_VISIBLE_DEVICES="").code == 0
    assert told(laptop, 0)["WORLD_SIZE"] == "1"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "which program? for example: trainyard launch --nproc-per-node 2 -- python train.py"),
        (["--"], "which program?"),
        (["--nproc-per-node", "0", "--", "true"], "--nproc-per-node=0: must be auto, or 1 or more"),
        (["--nproc-per-node", "two", "--", "true"], "--nproc-per-node=two: must be auto, or 1 or more"),
        (["--nnodes", "0", "--", "true"], "--nnodes=0: must be 1 or more"),
        (["--nnodes", "x", "--", "true"], "argument --nnodes: invalid int value: 'x'"),
        (["--nnodes", "2", "--", "true"], "MASTER_ADDR and MASTER_PORT is not set"),
        (["--nnodes", "2", "--master-addr", "h", "--", "true"], "but MASTER_PORT is not set"),
        (["--master-port", "65536", "--", "true"], "MASTER_PORT=65536: must be 1 to 65535"),
        (["--node-rank", "1", "--", "true"], "--node-rank=1: must be 0 to 0, since there are 1 node(s)"),
        (["--grace-seconds", "long", "--", "true"], "--grace-seconds=long: must be a number of seconds"),
        (
            ["--nproc-per-node", "2", "--", "no-such-program"],
            "no-such-program cannot be run: No such file or directory",
        ),
    ],
)
def test_wrong_usage_ends_with_42(laptop: Laptop, arguments: list[str], said: str) -> None:
    ended = launch(laptop, *arguments)
    assert ended.code == 42
    assert said in ended.stderr


def test_a_pod_with_an_index_beyond_the_nodes_is_told(laptop: Laptop) -> None:
    options = ["--nnodes", "2", "--master-addr", "h", "--master-port", "1", "--", "true"]
    ended = launch(laptop, *options, JOB_COMPLETION_INDEX="2")
    assert ended.code == 42
    assert "JOB_COMPLETION_INDEX=2: must be 0 to 1, since there are 2 node(s)" in ended.stderr


@pytest.mark.parametrize(
    ("ends", "code", "said"),
    [
        (["0", "0"], 0, None),
        (["0", "7"], 7, "rank 1 ended with exit code 7; its last output is above"),
        (["42", "0"], 42, "rank 0 ended with exit code 42; its last output is above"),
        (["75", "75"], 75, "stopped with a checkpoint written; the same command goes on from there; exit code 75"),
        (["0", "75"], 75, "stopped with a checkpoint written"),
        (["75", "1"], 1, "rank 1 ended with exit code 1"),
        (
            ["0", "-9"],
            137,
            "rank 1 was killed by SIGKILL; where nobody did that, it was the kernel, for lack of memory",
        ),
        (["-11", "0"], 139, "rank 0 was killed by SIGSEGV; its last output is above"),
        (["0"], 0, None),
        (["42"], 42, "rank 0 ended with exit code 42"),
        (["-9"], 137, "rank 0 was killed by SIGKILL"),
    ],
)
def test_the_exit_code_is_true(laptop: Laptop, ends: list[str], code: int, said: str | None) -> None:
    program = python(
        "end = int(os.environ['ENDS'].split()[rank]); os.kill(os.getpid(), -end) if end < 0 else sys.exit(end)"
    )
    ended = launch(laptop, "--nproc-per-node", str(len(ends)), *program, ENDS=" ".join(ends))
    assert ended.code == code, ended.stderr
    if said is None:
        assert ended.stderr == ""
    else:
        assert ended.stderr.startswith(f"trainyard: {said}")


def test_the_others_are_awaited_when_one_is_finished(laptop: Laptop) -> None:
    program = python("""
        if rank == 1:
            while os.path.exists(f"/proc/{open('ready-0').read()}/exe"): time.sleep(0.01)
            open("last", "w")
        """)
    program[-1] = (
        RANK
        + READY
        + "while not os.path.exists('ready-0') or not open('ready-0').read(): time.sleep(0.01)\n"
        + program[-1]
    )
    assert launch(laptop, "--nproc-per-node", "2", *program).code == 0
    assert (laptop.folder / "last").exists()


@pytest.mark.parametrize(
    "reaction", ["signal.SIG_DFL", "lambda *_: sys.exit(1)", "signal.SIG_IGN"], ids=["default", "fails", "hangs"]
)
def test_when_one_fails_the_others_are_stopped(laptop: Laptop, reaction: str) -> None:
    """They wait for it in a collective operation; what they end with then is no news."""
    program = python(f"""
        signal.signal(signal.SIGTERM, {reaction})
        {READY.strip()}
        if rank == 1:
            while not os.path.exists("ready-0") or not open("ready-0").read(): time.sleep(0.01)
            sys.exit(42)
        time.sleep(300)
        """)
    ended = launch(laptop, "--nproc-per-node", "2", *program)
    assert ended.code == 42
    assert ended.stderr == (
        "trainyard: rank 1 ended with exit code 42; its last output is above; the other ranks were stopped\n"
    )
    assert gone(int((laptop.folder / "ready-0").read_text()))


@pytest.mark.parametrize(
    ("reactions", "code", "said"),
    [
        (["exit 75", "exit 75"], 75, "stopped with a checkpoint written"),
        (["exit 75", "exit 0"], 75, "stopped with a checkpoint written"),
        (["exit 0", "exit 0"], 143, "stopped by SIGTERM, and not known to be finished; exit code 143"),
        (["default", "default"], 143, "stopped by SIGTERM, and not known to be finished"),
        (["exit 75", "default"], 143, "stopped by SIGTERM, and not known to be finished"),
        (["exit 75", "exit 1"], 1, "rank 1 ended with exit code 1"),
        (["exit 0"], 143, "stopped by SIGTERM, and not known to be finished"),
        (["exit 75"], 75, "stopped with a checkpoint written"),
    ],
)
def test_sigterm_reaches_every_process_once(laptop: Laptop, reactions: list[str], code: int, said: str) -> None:
    program = python(f"""
        reaction = {reactions!r}[rank]
        def react(*_):
            open(f"told-{{rank}}", "a").write("SIGTERM ")
            sys.exit(int(reaction.split()[1]))
        if reaction != "default": signal.signal(signal.SIGTERM, react)
        {READY.strip()}
        time.sleep(300)
        """)
    process, _ = started(laptop, "--nproc-per-node", str(len(reactions)), *program, ranks=len(reactions))
    process.send_signal(signal.SIGTERM)
    ended = laptop.wait(process)
    assert ended.code == code, ended.stderr
    assert f"trainyard: {said}" in ended.stderr
    for rank, reaction in enumerate(reactions):
        if reaction != "default":
            assert (laptop.folder / f"told-{rank}").read_text() == "SIGTERM "


def test_what_is_stopped_already_is_not_told_again(laptop: Laptop) -> None:
    """A second signal would mean "at once" to it."""
    program = python(f"""
        signal.signal(signal.SIGTERM, lambda *_: open("told", "a").write("SIGTERM "))
        {READY.strip()}
        if rank == 1:
            while not os.path.exists("ready-0") or not open("ready-0").read(): time.sleep(0.01)
            sys.exit(3)
        while not os.path.exists("go"): time.sleep(0.01)
        """)
    process = start(laptop, "--nproc-per-node", "2", *program)
    until((laptop.folder / "told").exists)
    process.send_signal(signal.SIGTERM)
    until(lambda: not pending(process.pid, signal.SIGTERM))
    (laptop.folder / "go").touch()
    assert laptop.wait(process).code == 3
    assert (laptop.folder / "told").read_text() == "SIGTERM "


def test_a_signal_that_came_before_is_passed_on() -> None:
    interruption, before = (
        Interruption(),
        {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)},
    )
    interruption.install()
    os.kill(os.getpid(), signal.SIGTERM)
    with Supervisor(interruption) as supervisor:
        supervisor.start("sleep", ["sleep", "300"], os.environ)
        assert supervisor.wait() == 143
    for number, handler in before.items():
        signal.signal(number, handler)


STUBBORN = f"signal.signal(signal.SIGTERM, lambda *_: open(f'told-{{rank}}', 'w')); {READY}while True: time.sleep(0.05)"


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_kills(laptop: Laptop, second: signal.Signals) -> None:
    process, workers = started(laptop, "--nproc-per-node", "2", *python(STUBBORN), ranks=2)
    process.send_signal(signal.SIGTERM)
    until(lambda: all((laptop.folder / f"told-{rank}").exists() for rank in range(2)))
    process.send_signal(second)
    ended = laptop.wait(process)
    assert ended.code == 128 + second
    assert f"a second signal after SIGTERM: rank 0, rank 1 killed; exit code {128 + second}" in ended.stderr
    assert all(gone(pid) for pid in workers)


@pytest.mark.parametrize(
    ("options", "environment", "grace_s"),
    [(["--grace-seconds", "0.5"], {"TRAINYARD_GRACE_S": "300"}, "0.5"), ([], {"TRAINYARD_GRACE_S": "0"}, "5")],
    ids=["as chosen", "later than their own deadline"],
)
def test_after_the_grace_period_they_are_killed(
    laptop: Laptop, options: list[str], environment: dict[str, str], grace_s: str
) -> None:
    options = ["--nproc-per-node", "2", *options, *python(STUBBORN)]
    process, workers = started(laptop, *options, ranks=2, **environment)
    process.send_signal(signal.SIGTERM)
    ended = laptop.wait(process)
    assert ended.code == 137
    assert f"rank 0, rank 1 had not ended {grace_s} s after SIGTERM and had to be killed" in ended.stderr
    assert "raise TRAINYARD_GRACE_S" in ended.stderr
    assert all(gone(pid) for pid in workers)


@pytest.mark.parametrize("processes", [1, 2])
def test_nothing_outlives_a_killed_launcher(laptop: Laptop, processes: int) -> None:
    options = ["--nproc-per-node", str(processes), *python(f"{READY}time.sleep(300)")]
    process, workers = started(laptop, *options, ranks=processes)
    process.kill()
    until(lambda: all(gone(pid) for pid in workers))
    process.communicate()


def test_nothing_outlives_a_killed_launcher_of_tracked_runs(laptop: Laptop) -> None:
    inner = python(f"{READY}time.sleep(300)")
    program = ["--", sys.executable, "-m", "trainyard", "run", *inner]
    process = start(laptop, "--nproc-per-node", "1", *program, TRAINYARD_TRACKING="json")
    ready = laptop.folder / "ready-0"
    until(lambda: ready.exists() and bool(ready.read_text()))
    process.kill()
    until(lambda: gone(int(ready.read_text())))
    process.communicate()


def test_tracked_runs_in_a_launcher_are_one_run(laptop: Laptop) -> None:
    program = python("print('rank', rank); sys.exit(75)")
    run = ["--", sys.executable, "-m", "trainyard", "run", "--experiment", "e", *program]
    ended = launch(laptop, "--nproc-per-node", "2", *run, TRAINYARD_TRACKING="json")
    assert ended.code == 75, ended.stderr
    assert sorted(line for line in ended.stdout.splitlines() if "rank" in line) == [
        "[rank 0] rank 0",
        "[rank 1] rank 1",
    ]
    assert laptop.json_run("e")["status"] == "SCHEDULED"


def test_a_launcher_in_a_tracked_run_is_one_run(laptop: Laptop) -> None:
    script = "import trainyard\nwith trainyard.run() as run: run.log_metrics({'rank': rank}, step=1)"
    run = ["run", "--experiment", "e", "--", sys.executable, "-m", "trainyard", "launch", "--nproc-per-node", "2"]
    ended = laptop.command(*run, *python(script))
    assert ended.code == 0, ended.stderr
    (found,) = laptop.runs("e")
    assert found.info.status == "FINISHED"
    assert found.data.metrics == {"rank": 0.0}, "rank 0 records"


def test_lines_say_whose_they_are(laptop: Laptop) -> None:
    program = python("print('out'); print('error', file=sys.stderr); os.write(1, b'half \\xff')")
    process = start(laptop, "--nproc-per-node", "2", *program)
    assert process.stdout is not None and process.stderr is not None
    stdout, stderr = process.stdout.buffer.read(), process.stderr.buffer.read()  # type: ignore[attr-defined]
    process.communicate()
    assert sorted(stdout.splitlines(keepends=True)) == [
        b"[rank 0] half \xff\n",
        b"[rank 0] out\n",
        b"[rank 1] half \xff\n",
        b"[rank 1] out\n",
    ]
    assert sorted(stderr.splitlines()) == [b"[rank 0] error", b"[rank 1] error"]


def test_lines_are_not_mixed(laptop: Laptop) -> None:
    program = python("for _ in range(500): print(str(rank) * 20000)")
    ended = launch(laptop, "--nproc-per-node", "3", *program)
    lines = ended.stdout.splitlines()
    assert len(lines) == 1500
    assert set(lines) == {f"[rank {rank}] " + str(rank) * 20000 for rank in range(3)}


def test_lines_come_at_once(laptop: Laptop) -> None:
    process = start(laptop, "--nproc-per-node", "2", *python("print('here'); time.sleep(300)"))
    assert process.stdout is not None
    assert sorted(process.stdout.readline() for _ in range(2)) == ["[rank 0] here\n", "[rank 1] here\n"]
    process.send_signal(signal.SIGTERM)
    assert laptop.wait(process).code == 143


def test_what_one_process_prints_is_unchanged(laptop: Laptop) -> None:
    process = start(laptop, "--nproc-per-node", "1", *python("os.write(1, b'\\rhalf \\xff\\n\\nno end'); sys.exit(3)"))
    assert process.stdout is not None
    assert process.stdout.buffer.read() == b"\rhalf \xff\n\nno end"  # type: ignore[attr-defined]
    assert laptop.wait(process).code == 3


@pytest.mark.parametrize("processes", ["1", "2"])
def test_training_goes_on_when_nobody_reads_any_more(laptop: Laptop, processes: str) -> None:
    program = python("""
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        print("ready", flush=True)
        while not os.path.exists("closed"): time.sleep(0.01)
        for _ in range(100):
            try: os.write(1, b"x" * 10000 + b"\\n")
            except BrokenPipeError: pass
        open(f"done-{rank}", "w")
        """)
    process = start(laptop, "--nproc-per-node", processes, *program)
    assert process.stdout is not None
    for _ in range(int(processes)):
        assert "ready" in process.stdout.readline()
    process.stdout.close()
    (laptop.folder / "closed").touch()
    until(lambda: process.poll() is not None)
    assert len(list(laptop.folder.glob("done-*"))) == int(processes)
    assert process.returncode == 0


def test_what_a_process_leaves_behind_does_not_keep_the_launcher(laptop: Laptop) -> None:
    program = python("""
        import subprocess
        left = subprocess.Popen(["sleep", "300"])
        print(left.pid)
        """)
    ended = launch(laptop, "--nproc-per-node", "2", *program)
    assert ended.code == 0
    for line in ended.stdout.splitlines():
        os.kill(int(line.split()[-1]), signal.SIGKILL)


def test_orphans_are_reaped(laptop: Laptop) -> None:
    """As process 1 of a container, the launcher gets the children of processes that have ended."""
    program = python("""
        import subprocess
        middle = subprocess.run(["sh", "-c", "sleep 0.1 & echo $!"], stdout=subprocess.PIPE)
        while os.path.exists(f"/proc/{int(middle.stdout)}"): time.sleep(0.01)
        print("reaped")
        """)
    become_reaper = "import ctypes; ctypes.CDLL(None).prctl(36, 1)"  # PR_SET_CHILD_SUBREAPER
    script = f"{become_reaper}\nimport sys\nfrom trainyard.cli import main\nsys.exit(main(sys.argv[1:]))"
    process = laptop.python("-c", script, "launch", "--nproc-per-node", "1", *program)
    ended = laptop.wait(process)
    assert (ended.code, ended.stdout) == (0, "reaped\n")


class Names:
    """A resolver that knows the name after some tries."""

    def __init__(self, unknown: int) -> None:
        self.tries = 0
        self._unknown = unknown

    def __call__(self, host: str, _port: None) -> object:
        self.tries += 1
        if self.tries <= self._unknown:
            raise socket.gaierror(-2, "Name or service not known")
        return [host]


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(name, "_PAUSE_S", 0.0)
    monkeypatch.setattr(name, "_SAY_EVERY_S", 0.0)
    yield


@pytest.mark.usefixtures("patience")
def test_the_name_of_pod_0_may_come_late() -> None:
    names, said = Names(unknown=3), list[str]()
    wait_until_resolves("job-0.job", interruption=Interruption(), say=said.append, resolve=names)
    assert names.tries == 4
    assert said[0].startswith("waiting for pod 0: job-0.job does not resolve yet (Name or service not known)")


@pytest.mark.usefixtures("patience")
def test_a_name_that_never_comes_ends_with_1_and_a_remedy() -> None:
    with pytest.raises(TrainyardError, match="does not resolve after 0 s") as caught:
        wait_until_resolves(
            "job-0.job", interruption=Interruption(), say=print, resolve=Names(unknown=9), timeout_s=0.0
        )
    assert str(caught.value).startswith("MASTER_ADDR=job-0.job ")
    assert "is pod 0 of the Job scheduled (kubectl get pods)" in str(caught.value)
    assert caught.value.exit_code == 1


def test_sigterm_ends_the_wait_for_a_name(laptop: Laptop) -> None:
    options = ["--nnodes", "2", "--node-rank", "1", "--master-addr", "job-0.invalid", "--master-port", "1"]
    process = start(laptop, *options, *python("open('begun', 'w')"))
    until(lambda: catches(process.pid, signal.SIGTERM))
    process.send_signal(signal.SIGTERM)
    ended = laptop.wait(process)
    assert ended.code == 143
    assert not (laptop.folder / "begun").exists()
