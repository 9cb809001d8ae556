"""`trainyard train text` on a laptop, with texts of one's own, read back from MLflow."""

import json
from pathlib import Path

import mlflow
import numpy as np

from tests.unit.trainer.conftest import Laptop
from tests.unit.trainer.trainings import write_texts


def test_a_whole_training(laptop: Laptop) -> None:
    texts = write_texts(laptop.folder / "texts.csv", 600)
    settings = (
        "epochs=4",
        "lr=0.003",
        "model.layers=1",
        "model.dropout=0.1",
        "vocabulary.length=10",
        f"data.uri={texts}",
    )
    ended = laptop.train("text", *(word for setting in settings for word in ("--set", setting)))
    assert ended.code == 0, ended.stderr
    (run,) = laptop.runs("text")
    assert run.info.status == "FINISHED"
    assert run.info.run_name.startswith("bert_text_")
    assert run.data.metrics["test/accuracy"] > 0.9

    def artifact(name: str) -> bytes:
        return Path(laptop.client.download_artifacts(run.info.run_id, name)).read_bytes()

    assert json.loads(artifact("sample_predictions.json"))[0]["text"]
    words = json.loads(artifact("vocabulary.json"))["words"]
    mlflow.set_tracking_uri(laptop.uri)
    model = mlflow.pyfunc.load_model("models:/tiny_bert@challenger")
    assert model.metadata.saved_input_example_info is not None
    tokens = np.zeros((1, 10), dtype=np.int64)
    tokens[0, :8] = [words.index(word) for word in ["[CLS]", "the", "old", "is", "late", "ship", "was", "here"]]
    assert model.predict(tokens).argmax() == ["air", "rail", "sea"].index("sea")
