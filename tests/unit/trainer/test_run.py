"""`trainyard.run` in a user's own script: a real process, and what the JSON backend then has."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.trainer.conftest import Ended, Laptop

Stop = Callable[["subprocess.Popen[str]", str, signal.Signals], Ended]
JSON = {"TRAINYARD_TRACKING": "json"}


def test_a_script_is_recorded(laptop: Laptop) -> None:
    ended = laptop.script(
        """
        import dataclasses, pathlib, trainyard
        @dataclasses.dataclass
        class Model:
            layers: int = 2
        pathlib.Path("notes.txt").write_text("notes")
        pathlib.Path("deep/er").mkdir(parents=True)
        pathlib.Path("deep/er/x.bin").write_bytes(bytes(range(256)))
        with trainyard.run(experiment="exp", name="first", params={"lr": 0.1, "model": Model(), "none": {}}, tags={"team": "a"}) as run:
            for step in range(3):
                run.log_metrics({"loss": 1 / (step + 1), "nan": float("nan")}, step=step)
            run.set_tags({"phase": 2})
            run.log_artifact("notes.txt")
            run.log_artifact("notes.txt", "docs/renamed.txt")
            pathlib.Path("notes.txt").write_text("changed afterwards")
            run.log_artifacts("deep", "folder")
            run.log_dict({"a": [1, 2]}, "a.json")
            run.log_dict({"a": [1, 2]}, "a.yaml")
            run.sync()
        """,
        **JSON,
    )
    assert (ended.code, ended.stdout, ended.stderr) == (0, "", "")
    run = laptop.json_run("exp")
    assert run["name"] == "first"
    assert run["status"] == "FINISHED"
    assert run["params"] == {"lr": "0.1", "model.layers": "2", "none": "{}"}
    assert run["tags"]["team"] == "a"
    assert run["tags"]["phase"] == "2"
    assert run["tags"]["trainyard.end_reason"] == "finished"
    assert run["points"] == [
        (step, key, value) for step in range(3) for key, value in (("loss", 1 / (step + 1)), ("nan", "nan"))
    ]
    files = {
        path.relative_to(run["folder"] / "artifacts").as_posix(): path.read_bytes()
        for path in (run["folder"] / "artifacts").rglob("*")
        if path.is_file()
    }
    assert files.pop("a.yaml") == b"a:\n- 1\n- 2\n"
    assert json.loads(files.pop("a.json")) == {"a": [1, 2]}
    assert files == {"notes.txt": b"notes", "docs/renamed.txt": b"notes", "folder/er/x.bin": bytes(range(256))}


def test_delivery_leaves_only_a_summary(laptop: Laptop) -> None:
    laptop.script("import trainyard\nwith trainyard.run() as run: run.log_metrics({'a': 1}, step=1)", **JSON)
    (spool,) = (laptop.folder / ".trainyard/spool").iterdir()
    assert not list(spool.glob("*.spool"))
    assert not (spool / "artifacts").exists()
    assert json.loads((spool / "shipped.json").read_text())["json"]["points"] == 1


def test_long_values_are_cut_visibly_and_kept_whole(laptop: Laptop) -> None:
    ended = laptop.script(
        """
        import trainyard
        with trainyard.run(params={"a": {"text": "x" * 6001, "short": "y" * 6000}}, tags={}) as run:
            run.set_tags({"note": "z" * 8001})
        """,
        **JSON,
    )
    assert ended.code == 0, ended.stderr
    run = laptop.json_run()
    assert len(run["params"]["a.text"]) == 6000
    assert run["params"]["a.text"].endswith("... [6001 characters; whole in artifact params/a.text.txt]")
    assert run["params"]["a.short"] == "y" * 6000
    assert (run["folder"] / "artifacts/params/a.text.txt").read_text() == "x" * 6001
    assert len(run["tags"]["note"]) == 8000
    assert (run["folder"] / "artifacts/tags/note.txt").read_text() == "z" * 8001


@pytest.mark.parametrize(
    ("last", "code", "status", "reason"),
    [
        ("pass", 0, "FINISHED", "finished"),
        ("raise SystemExit(0)", 0, "FINISHED", "finished"),
        ("1 / 0", 1, "FAILED", "failed"),
        ("raise SystemExit(3)", 3, "FAILED", "failed"),
        ("raise SystemExit(75)", 75, "SCHEDULED", "preempted"),
        ("raise KeyboardInterrupt", 130, "KILLED", "interrupted"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", 143, "KILLED", "interrupted"),
        ("run.end('KILLED', reason='pruned')", 0, "KILLED", "pruned"),
    ],
)
def test_the_end_is_truthful(laptop: Laptop, last: str, code: int, status: str, reason: str) -> None:
    ended = laptop.script(
        f"""
        import trainyard
        with trainyard.run() as run:
            run.log_metrics({{"loss": 1}}, step=1)
            {last}
        """,
        **JSON,
    )
    assert ended.code in (code, -2 if code == 130 else code)
    run = laptop.json_run()
    assert (run["status"], run["tags"]["trainyard.end_reason"]) == (status, reason)
    assert run["points"] == [(1, "loss", 1.0)]
    assert ("trainyard.traceback" in run["tags"]) == (status == "FAILED")
    if status == "FAILED":
        assert (run["folder"] / "artifacts/traceback.txt").read_text() == run["tags"]["trainyard.traceback"]


@pytest.mark.parametrize(("last", "status"), [("pass", "FINISHED"), ("1 / 0", "FAILED"), ("run.end()", "FINISHED")])
def test_a_run_without_a_block_ends_with_its_process(laptop: Laptop, last: str, status: str) -> None:
    laptop.script(
        f"import trainyard\nrun = trainyard.run().start()\nrun.log_metrics({{'a': 1}}, step=1)\n{last}", **JSON
    )
    assert laptop.json_run()["status"] == status


def test_a_decorated_function_gets_a_run_at_each_call(laptop: Laptop) -> None:
    ended = laptop.script(
        """
        import trainyard
        @trainyard.run(experiment="calls", params={"p": 1})
        def train(run, factor, *, steps):
            for step in range(steps):
                run.log_metrics({"loss": factor * step}, step=step)
            return factor
        assert [train(2, steps=3), train(3, steps=1)] == [2, 3]
        assert train.__name__ == "train"
        """,
        **JSON,
    )
    assert ended.code == 0, ended.stderr
    folders = list((laptop.folder / ".trainyard/runs/calls").iterdir())
    assert sorted(len((folder / "metrics.jsonl").read_text().splitlines()) for folder in folders) == [1, 3]


def test_only_rank_0_records(laptop: Laptop) -> None:
    text = """
        import trainyard
        with trainyard.run(params={"a": 1}) as run:
            run.log_metrics({"loss": 1}, step=1); run.log_dict({}, "x.json"); run.set_tags({}); run.sync()
            run.log_artifact("nothing"); run.log_artifacts("nothing"); run.log_bytes("x", b""); run.log_params({})
            run.log_figure(None, "x.png"); run.log_model(None); run.end()
        """
    assert laptop.script(text, RANK="1", **JSON).code == 0
    assert not (laptop.folder / ".trainyard").exists()


def test_env_file_gives_what_the_environment_does_not_say(laptop: Laptop) -> None:
    (laptop.folder / ".env").write_text("TRAINYARD_TRACKING=json\nTRAINYARD_JSON_DIR=elsewhere\nPATH=/evil\n")
    text = "import os, trainyard\nwith trainyard.run(): pass\nprint(os.environ['PATH'])"
    ended = laptop.script(text)
    assert ended.code == 0, ended.stderr
    assert "/evil" not in ended.stdout
    assert list((laptop.folder / "elsewhere").glob("default/*/run.json"))
    laptop.script(text, TRAINYARD_JSON_DIR="there")
    assert list((laptop.folder / "there").glob("default/*/run.json"))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("trainyard.run(tracking='jsn').start()", "tracking=jsn: must be one or more of json, mlflow, wandb"),
        ("trainyard.run(params=5).start()", "params must be a mapping or a dataclass, not int"),
        ("trainyard.run(params={'a.b': 1, 'a': {'b': 2}}).start()", "parameter a.b: appears twice"),
        ("trainyard.run(params={'k' * 251: 1}).start()", "a name must have 1 to 250 characters"),
        ("trainyard.run().start().log_artifact('none.txt')", "none.txt is not a file"),
        ("trainyard.run().start().log_artifacts('none')", "none is not a directory"),
        ("trainyard.run().start().log_bytes('../x', b'')", "artifact name '../x': must be a path inside the run"),
        ("trainyard.run().start().set_tags({'': 1})", "tag '': a name must have"),
        (
            "trainyard.run().start().log_model(object())",
            "object is neither a torch module nor a scikit-learn estimator",
        ),
        ("trainyard.run().start().log_model('.')", "is not a model in MLflow's format"),
        ("trainyard.run().start().log_model(1, alias='a')", "alias=a needs register=NAME"),
    ],
)
def test_wrong_calls_are_one_clear_error(laptop: Laptop, call: str, said: str) -> None:
    ended = laptop.script(f"import trainyard\n{call}", **JSON)
    assert ended.code == 1
    assert said in ended.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("TRAINYARD_TRACKING", "mlflow,tensorboard", "must be one or more of json, mlflow, wandb"),
        ("TRAINYARD_SHIPPER", "none", "must be thread, or sidecar"),
        ("TRAINYARD_SPOOL_BYTES", "1MB", "must be a number of bytes"),
        ("TRAINYARD_SHIP_DEADLINE_S", "soon", "must be a number of seconds"),
        ("RANK", "-1", "RANK=-1: must be 0 or more"),
    ],
)
def test_wrong_settings_are_named(laptop: Laptop, name: str, value: str, said: str) -> None:
    ended = laptop.script("import trainyard\ntrainyard.run().start()", **{**JSON, name: value})
    assert ended.code == 1
    assert name in ended.stderr.splitlines()[-1]
    assert said in ended.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("WANDB_MODE", "online", "WANDB_API_KEY is not set where records are shipped"),
        ("WANDB_MODE", "sometimes", "WANDB_MODE is 'sometimes': use online, offline or disabled"),
        ("WANDB_BASE_URL", "wandb.local", "WANDB_BASE_URL is 'wandb.local': use an address such as"),
    ],
)
def test_wrong_settings_of_wandb_are_told_before_there_is_a_run(
    laptop: Laptop, name: str, value: str, said: str
) -> None:
    ended = laptop.script("import trainyard\ntrainyard.run(tracking='json,wandb').start()", **{name: value})
    assert ended.code == 1
    assert said in ended.stderr.splitlines()[-1]
    assert not (laptop.folder / ".trainyard").exists()


def test_a_killed_script_is_told_by_the_next_one(laptop: Laptop) -> None:
    text = """
        import os, signal, trainyard
        with trainyard.run(name="{name}") as run:
            for step in range(1000):
                run.log_metrics({{"loss": step}}, step=step)
            {last}
        """
    laptop.script(text.format(name="killed", last="os.kill(os.getpid(), signal.SIGKILL)"), **JSON)
    laptop.script(text.format(name="next", last="import time; time.sleep(3)"), **JSON)
    runs = {
        json.loads(path.read_text())["name"]: (json.loads(path.read_text()), path.parent)
        for path in laptop.folder.glob(".trainyard/runs/default/*/run.json")
    }
    killed, folder = runs["killed"]
    assert (killed["status"], killed["tags"]["trainyard.end_reason"]) == ("FAILED", "lost")
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 1000
    assert runs["next"][0]["status"] == "FINISHED"


def test_a_figure_is_kept_as_a_picture(laptop: Laptop) -> None:
    ended = laptop.script(
        """
        import matplotlib; matplotlib.use("Agg")
        import matplotlib.pyplot as plot, trainyard
        figure, axes = plot.subplots()
        axes.plot([1, 2])
        with trainyard.run() as run:
            run.log_figure(figure, "plots/line.png")
            run.log_figure(figure, "plots/line.svg")
        """,
        **JSON,
    )
    assert ended.code == 0, ended.stderr
    folder = laptop.json_run()["folder"] / "artifacts/plots"
    assert (folder / "line.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (folder / "line.svg").read_bytes()


def test_a_scikit_learn_model_can_be_loaded_again(laptop: Laptop) -> None:
    ended = laptop.script(
        """
        import trainyard
        from sklearn.datasets import load_iris
        from sklearn.tree import DecisionTreeClassifier
        x, y = load_iris(return_X_y=True)
        with trainyard.run(tracking="mlflow,json") as run:
            run.log_params({"depth": 3})
            run.log_model(DecisionTreeClassifier(max_depth=3, random_state=0).fit(x, y), input_example=x[:3], register="iris")
        """
    )
    assert ended.code == 0, ended.stderr
    import mlflow

    assert (laptop.json_run()["folder"] / "models/model/MLmodel").is_file()
    mlflow.set_tracking_uri(laptop.uri)
    model = mlflow.pyfunc.load_model("models:/iris/1")
    from sklearn.datasets import load_iris

    features, kinds = load_iris(return_X_y=True)
    assert (model.predict(features) == kinds).mean() > 0.95
    logged = laptop.client.get_logged_model(model.metadata.model_id)
    assert logged.params == {"depth": "3"}
    (run,) = laptop.runs("default")
    assert model.metadata.run_id == run.info.run_id


def test_importing_is_cheap(laptop: Laptop) -> None:
    heavy = ("mlflow", "torch", "numpy", "requests", "wandb", "yaml", "matplotlib")
    text = f"import sys, trainyard\nprint([name for name in {heavy} if name in sys.modules])"
    assert laptop.script(text).stdout == "[]\n"


def test_the_shipper_needs_no_large_library(laptop: Laptop) -> None:
    """120 MB is what it may have in a pod; MLflow's client alone takes 190."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "trainyard", "spool", "show"],
        cwd=laptop.folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3] / "trainer/src")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert not {"mlflow", "torch", "numpy", "pandas", "wandb"} & {
        line.split("|")[-1].strip() for line in done.stderr.splitlines()
    }


def test_a_mistake_of_the_user_ends_a_script_with_42_and_one_message(laptop: Laptop) -> None:
    ended = laptop.script(
        """
        import trainyard
        from trainyard.data import corpus
        with trainyard.run("mistakes") as run:
            corpus("no/such/text.txt")
        """
    )
    assert ended.code == 42
    assert "no/such/text.txt" in ended.stderr
    assert "Traceback" not in ended.stderr
    (run,) = laptop.runs("mistakes")
    assert run.info.status == "FAILED"
    assert "ConfigError" in run.data.tags["trainyard.traceback"]
