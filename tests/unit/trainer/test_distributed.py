"""Ranks that meet and talk, as real processes over gloo."""

import signal
import socket
import subprocess
import textwrap
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import pytest
import torch
from torch import nn
from trainyard import distributed
from trainyard.distributed import World
from trainyard.environment import JobEnvironment
from trainyard.errors import ConfigError

from tests.unit.trainer.conftest import Laptop

JOIN = """
import os, sys, time, torch
from torch import nn
from torch.nn.functional import cross_entropy
from trainyard import distributed
from trainyard.environment import JobEnvironment

def join(timeout_s=60):
    return distributed.join(JobEnvironment.read(os.environ), device="cpu", timeout_s=timeout_s)
"""
MODEL = """
def model():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(5, 300), nn.Tanh(), nn.Linear(300, 40), nn.Tanh(), nn.Linear(40, 3))

def examples(count):
    generator = torch.Generator().manual_seed(4)
    return torch.randn(count, 5, generator=generator), torch.randint(3, (count,), generator=generator)

def step(module, world, inputs, labels):
    module.zero_grad()
    mine = slice(world.rank, None, world.size)
    loss = cross_entropy(module(inputs[mine]), labels[mine], reduction="sum") * world.size / len(inputs)
    loss.backward()
    return loss
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def begin(laptop: Laptop, script: str, rank: int, size: int, port: int, **environment: str) -> "subprocess.Popen[str]":
    ranks = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return laptop.python("-c", f"{JOIN}\n{textwrap.dedent(script)}", **{**ranks, **meeting, **environment})


def together(laptop: Laptop, script: str, size: int) -> Sequence[str]:
    """What each rank prints; all must end well."""
    port = free_port()
    processes = [begin(laptop, script, rank, size, port) for rank in range(size)]
    ended = [laptop.wait(process) for process in processes]
    assert [each.code for each in ended] == [0] * size, "\n".join(each.stderr for each in ended)
    return [each.stdout for each in ended]


@pytest.mark.parametrize("size", [2, 4])
def test_ranks_tell_each_other(laptop: Laptop, size: int) -> None:
    printed = together(
        laptop,
        """
        world = join()
        tensor = torch.tensor([1.0, world.rank])
        print(distributed.any_rank(world.rank == 1), distributed.any_rank(False))
        print(distributed.total(world.rank + 0.5), distributed.total(tensor).tolist(), tensor.tolist()[0])
        print(distributed.from_rank_0({"from": world.rank}), distributed.gather(str(world.rank)))
        print(world.description)
        distributed.leave()
        print(distributed.any_rank(False), distributed.total(2.0))
        """,
        size,
    )
    ranks = sum(range(size))
    assert (
        list(printed)
        == [
            "True False\n"
            f"{ranks + size / 2} [{float(size)}, {float(ranks)}] 1.0\n"
            f"{{'from': 0}} {[str(rank) for rank in range(size)]}\n"
            f"{size} processes, each on CPU, 1 thread(s)\n"
            "False 2.0\n"
        ]
        * size
    )


@pytest.mark.parametrize(("size", "count"), [(2, 7), (3, 2), (4, 9)])
def test_the_gradient_is_that_of_the_whole_batch(laptop: Laptop, size: int, count: int) -> None:
    """With shares of different size, of which some may be empty."""
    script = f"""
        {textwrap.indent(MODEL, "        ").strip()}
        world = join()
        module = distributed.parallel(model(), world)
        loss = step(module, world, *examples({count}))
        alone = model()
        whole = step(alone, distributed.World(device=world.device), *examples({count}))
        for one, other in zip(distributed.plain(module).parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad)
        torch.testing.assert_close(distributed.total(loss) / world.size, whole.detach())
        assert all(parameter.grad is None for parameter in distributed.parallel(model(), world).parameters())
        compiled = distributed.parallel(torch.compile(alone), world)
        print(distributed.parameter_hash(module), distributed.parameter_hash(compiled), distributed.plain(compiled) is alone)
    """
    printed = together(laptop, script, size)
    assert len(set(printed)) == 1
    digest, same, unwrapped = printed[0].split()
    assert digest == same
    assert unwrapped == "True"


def test_going_on_in_a_new_process_group_changes_no_bit(laptop: Laptop) -> None:
    """DistributedDataParallel orders the gradients anew after the first step, and gloo adds in an order that depends on it."""
    script = f"""
        {textwrap.indent(MODEL, "        ").strip()}
        world = join()
        inputs, labels = examples(50)

        def train(module, steps):
            wrapped = distributed.parallel(module, world)
            optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
            for _ in range(steps):
                step(wrapped, world, inputs, labels)
                optimizer.step()
            return distributed.parameter_hash(wrapped)

        undisturbed = train(model(), 6)
        module = model()
        for _ in range(3):
            train(module, 2)
        print(undisturbed, distributed.parameter_hash(module))
    """
    printed = together(laptop, script, 3)
    assert len(set(printed)) == 1, "the same weights on all ranks"
    undisturbed, continued = printed[0].split()
    assert undisturbed == continued


def test_ranks_wait_for_rank_0(laptop: Laptop) -> None:
    port = free_port()
    script = "distributed._SAY_EVERY_S = 0.5; world = join(); print(distributed.gather(world.rank))"
    early = begin(laptop, script, 1, 2, port)
    assert early.stderr is not None
    said = early.stderr.readline()  # after a while
    assert said.startswith(f"trainyard: rank 1 of 2 at 127.0.0.1:{port} waits for the others: ")
    assert said.endswith(" of 60 s, Connection refused\n")
    late = begin(laptop, script, 0, 2, port)
    assert laptop.wait(late).stdout == "[0, 1]\n"
    assert laptop.wait(early).stdout == "[0, 1]\n"


@contextmanager
def stale_listener(port: int, *, closes: bool) -> Iterator[threading.Event]:
    """Something that accepts at `port` and says nothing; tells when the first one has come."""
    came, over = threading.Event(), threading.Event()
    server = socket.create_server(("127.0.0.1", port))
    server.settimeout(0.05)
    held = []

    def accept() -> None:
        while not over.is_set():
            try:
                connection, _ = server.accept()
            except TimeoutError:
                continue
            came.set()
            if closes:
                connection.close()
            else:
                held.append(connection)

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield came
    finally:
        over.set()
        thread.join()
        for connection in held:
            connection.close()
        server.close()


@pytest.mark.parametrize("closes", [True, False], ids=["closes", "says nothing"])
def test_ranks_wait_for_a_stale_listener_to_go(laptop: Laptop, closes: bool) -> None:
    """As rank 0 of a former attempt, which is about to die."""
    port = free_port()
    script = "world = join(); print(distributed.gather(world.rank))"
    with stale_listener(port, closes=closes) as came:
        processes = [begin(laptop, script, rank, 2, port) for rank in range(2)]
        assert came.wait(60)
        for process in processes:
            assert process.poll() is None
    ended = [laptop.wait(process) for process in processes]
    assert [each.stdout for each in ended] == ["[0, 1]\n"] * 2, ended


def test_a_rank_that_dies_while_others_are_awaited_is_replaced(laptop: Laptop) -> None:
    """Rank 0 takes it for alive at first, and calls it; the others do not wait for it as long as they would in training."""
    port = free_port()
    script = """
        from datetime import timedelta
        distributed._TRIAL_TIMEOUT = timedelta(seconds=3)
        world = join()
        print(distributed.gather(os.environ['WHO']))
    """
    first = begin(laptop, script, 0, 3, port, WHO="0")
    lost = begin(laptop, script, 1, 3, port, WHO="lost")
    wait_for_key(port, "rank 1")
    lost.kill()
    lost.communicate()
    third = begin(laptop, script, 2, 3, port, WHO="2")
    wait_for_key(port, "call")
    replacement = begin(laptop, script, 1, 3, port, WHO="replacement")
    for process in (first, third, replacement):
        ended = laptop.wait(process)
        assert ended.stdout == "['0', 'replacement', '2']\n", ended.stderr


def wait_for_key(port: int, key: str) -> None:
    """Until it is in the store of rank 0."""
    minute = timedelta(seconds=60)
    torch.distributed.TCPStore("127.0.0.1", port, is_master=False, use_libuv=False, timeout=minute).wait([key])


@pytest.mark.parametrize(
    ("rank", "said"),
    [
        (0, "not there yet: rank 1, 2"),
        (1, "Connection refused"),
    ],
)
def test_waiting_ends_with_1_and_a_remedy(laptop: Laptop, rank: int, said: str) -> None:
    port = free_port()
    script = """
        distributed._SAY_EVERY_S = 0.5
        from trainyard.errors import TrainyardError
        try:
            join(timeout_s=2)
        except TrainyardError as error:
            print(error.exit_code, error)
    """
    ended = laptop.wait(begin(laptop, script, rank, 3, port))
    assert ended.stdout.startswith(
        f"1 rank {rank} of 3 at 127.0.0.1:{port}: the ranks did not come together within 2 s; {said}."
    )
    assert "kubectl get pods" in ended.stdout
    assert f"trainyard: rank {rank} of 3 at 127.0.0.1:{port} waits for the others: " in ended.stderr


def test_a_listener_that_never_answers_is_said(laptop: Laptop) -> None:
    port = free_port()
    with stale_listener(port, closes=False):
        ended = laptop.wait(begin(laptop, "join(timeout_s=2)", 1, 2, port))
    assert ended.code == 1
    assert "did not come together within 2 s; what listens there does not answer." in ended.stderr


def test_a_name_that_does_not_resolve_is_said(laptop: Laptop) -> None:
    ended = laptop.wait(begin(laptop, "join(timeout_s=0)", 1, 2, 29500, MASTER_ADDR="job-0.invalid"))
    assert ended.code == 1
    assert "rank 1 of 2 at job-0.invalid:29500" in ended.stderr
    assert "the name does not resolve" in ended.stderr


def test_sigterm_ends_the_wait(laptop: Laptop) -> None:
    script = """
        from trainyard.interruption import of_this_process
        from trainyard.errors import Interrupted
        of_this_process()
        print("begun", flush=True)
        try:
            join()
        except Interrupted as interrupted:
            sys.exit(interrupted.exit_code)
    """
    process = begin(laptop, script, 1, 2, free_port())
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGTERM)
    assert laptop.wait(process).code == 143


@pytest.mark.parametrize(("address", "port"), [("", "29500"), ("h", ""), ("h", "0"), ("h", "x")])
def test_without_an_address_nothing_is_begun(address: str, port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASTER_ADDR", address)
    monkeypatch.setenv("MASTER_PORT", port)
    with pytest.raises(ConfigError, match=f"MASTER_ADDR={address} MASTER_PORT={port}: must be host and port of rank 0"):
        distributed.join(JobEnvironment(rank=1, world_size=2), device="cpu")


def test_alone_everything_is_as_it_is() -> None:
    world = distributed.join(JobEnvironment(), device="cpu")
    assert world == World(device=torch.device("cpu"))
    assert world.description == f"CPU, {torch.get_num_threads()} thread(s)"
    model, tensor = nn.Linear(2, 2), torch.ones(2)
    assert distributed.parallel(model, world) is model
    assert distributed.plain(model) is model
    assert distributed.total(tensor) is tensor
    assert distributed.total(1.5) == 1.5
    assert distributed.any_rank(True) is True
    assert distributed.from_rank_0("x") == "x"
    assert distributed.gather("x") == ["x"]
    distributed.leave()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this is about machines without a GPU")
def test_without_a_gpu() -> None:
    assert distributed.join(JobEnvironment(), device="auto").device == torch.device("cpu")
    with pytest.raises(ConfigError, match="device=cuda: this process sees no GPU; use device=auto"):
        distributed.join(JobEnvironment(), device="cuda")


def test_every_process_needs_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match=r"LOCAL_RANK=2: this process sees 2 GPU\(s\)"):
        distributed.join(JobEnvironment(local_rank=2), device="auto")


def test_the_hash_is_of_the_parameters() -> None:
    def model(**changed: torch.Tensor) -> nn.Module:
        made = nn.ModuleDict({"a": nn.Linear(2, 3), "b": nn.BatchNorm1d(3)})
        with torch.no_grad():
            for number, parameter in enumerate(made.parameters()):
                parameter.fill_(number)
        made.load_state_dict({**made.state_dict(), **changed})
        return made

    digest = distributed.parameter_hash(model())
    assert digest.startswith("sha256:")
    assert len(digest) == len("sha256:") + 12
    assert digest == distributed.parameter_hash(model())
    assert digest == distributed.parameter_hash(torch.compile(model()))
    assert digest != distributed.parameter_hash(model(**{"a.bias": torch.tensor([1.0, 1.0, 1.5])}))
    assert digest != distributed.parameter_hash(model(**{"b.num_batches_tracked": torch.tensor(1)})), "a buffer"
    assert digest != distributed.parameter_hash(model().bfloat16())
    assert distributed.parameter_hash(model().bfloat16()) == distributed.parameter_hash(model().bfloat16())


def test_compiled_models_are_unwrapped() -> None:
    model = nn.Linear(2, 2)
    assert distributed.plain(torch.compile(model)) is model
