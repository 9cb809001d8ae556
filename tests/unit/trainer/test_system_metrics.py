"""How busy each rank is, recorded by rank 0 where somebody asks for it."""

from tests.unit.trainer.conftest import Laptop

JSON = {"TRAINYARD_TRACKING": "json"}
LONG = ("digits", "--set", "epochs=25")


def system_metrics(laptop: Laptop) -> set[str]:
    return {key for _, key, _ in laptop.json_run()["points"] if key.startswith("system/")}


def test_none_by_default(laptop: Laptop) -> None:
    assert laptop.train("digits", "--set", "epochs=2", **JSON).code == 0
    assert system_metrics(laptop) == set()


def test_of_one_process(laptop: Laptop) -> None:
    ended = laptop.train(*LONG, **JSON, TRAINYARD_SYSTEM_METRICS_S="0.2")
    assert ended.code == 0, ended.stderr
    assert system_metrics(laptop) == {"system/rank_0/cpu_percent", "system/rank_0/memory_mib"}
    points = laptop.json_run()["points"]
    memory = [value for _, key, value in points if key == "system/rank_0/memory_mib"]
    assert all(50 < value < 10_000 for value in memory)
    steps = [step for step, key, _ in points if key == "system/rank_0/memory_mib"]
    assert steps == sorted(steps) and steps[-1] > 0


def test_of_every_rank_of_several(laptop: Laptop) -> None:
    ended = laptop.command(
        "launch", "--nproc-per-node", "2", "--", "python3", "-m", "trainyard", "train", *LONG,
        **JSON, TRAINYARD_SYSTEM_METRICS_S="0.2",
    )  # fmt: skip
    assert ended.code == 0, ended.stderr
    assert {key.split("/")[1] for key in system_metrics(laptop)} == {"rank_0", "rank_1"}
