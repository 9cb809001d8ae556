"""Reports from labels, probabilities and numbers that are known here."""

import csv
import io
import json
import struct

import numpy as np
import pytest
from matplotlib.image import imread
from trainyard.reports.confusion_matrix import confusion_matrix_png
from trainyard.reports.history import history_csv
from trainyard.reports.learning_curve import learning_curve_png
from trainyard.reports.sample_predictions import sample_predictions_json


def size(png: bytes) -> tuple[int, ...]:
    assert png.startswith(b"\x89PNG")
    return struct.unpack(">II", png[16:24])


@pytest.mark.parametrize(
    "classes", [["0", "1", "2"], ["concurrency", "files", "network"], [str(n) for n in range(100)]]
)
def test_confusion_matrix_is_a_png_of_the_promised_size(classes: list[str]) -> None:
    labels = np.array([0, 1, 2, 2])
    assert size(confusion_matrix_png(labels, np.array([0, 2, 2, 2]), classes=classes)) == (800, 800)


def test_confusion_matrix_shows_what_was_confused() -> None:
    right = confusion_matrix_png(np.array([0, 1]), np.array([0, 1]), classes=["a", "b"])
    wrong = confusion_matrix_png(np.array([0, 1]), np.array([1, 0]), classes=["a", "b"])
    named = confusion_matrix_png(np.array([0, 1]), np.array([0, 1]), classes=["a", "c"])
    assert len({right, wrong, named}) == 3


def test_learning_curve_has_a_panel_for_each_measure() -> None:
    curve = [(1.0, 0.5), (2.0, 0.25)]
    one = learning_curve_png({"loss": {"train": curve, "validation": curve[:1]}})
    two = learning_curve_png({"loss": {"train": curve}, "accuracy": {"train": curve}}, x="step")
    assert size(one) == (700, 600)
    assert size(two) == (1400, 600)
    # Something is drawn: more than one colour beside white and black.
    assert len(np.unique(imread(io.BytesIO(one))[..., :3].reshape(-1, 3), axis=0)) > 10


def test_history_is_a_table_that_gives_the_numbers_back() -> None:
    rows = [{"epoch": 1, "train/loss": 0.1 + 0.2}, {"epoch": 2, "train/loss": 1e-9}]
    read = list(csv.DictReader(io.StringIO(history_csv(rows).decode())))
    assert [{"epoch": int(row["epoch"]), "train/loss": float(row["train/loss"])} for row in read] == rows


def test_confident_mistakes_come_first() -> None:
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]], dtype=np.float32)
    samples = json.loads(
        sample_predictions_json(np.array([7, 8, 9, 10]), np.array([0, 0, 0, 1]), probabilities, count=3)
    )
    assert [(sample["index"], sample["predicted"], sample["correct"]) for sample in samples] == [
        (9, 1, False),
        (8, 1, False),
        (7, 0, True),
    ]
    assert samples[0]["confidence"] == 0.8


def test_samples_can_be_read_by_people() -> None:
    texts = ["naïve", "plain"]
    content = sample_predictions_json(
        np.array([0, 1]),
        np.array([0, 1]),
        np.array([[0.1, 0.9], [0.2, 0.8]], dtype=np.float32),
        classes=["no", "yes"],
        describe=lambda position: {"text": texts[position]},
    )
    assert "naïve" in content.decode()
    first, second = json.loads(content)
    assert (first["text"], first["label"], first["predicted"]) == ("naïve", "no", "yes")
    assert (second["text"], second["label"], second["predicted"]) == ("plain", "yes", "yes")
