"""Reports, from predictions made up here."""

import json
import struct

import numpy as np
from trainyard.reports.confusion_matrix import confusion_matrix_png
from trainyard.reports.sample_predictions import sample_predictions_json


def test_confusion_matrix_is_a_png_of_the_promised_size() -> None:
    labels = np.array([0, 1, 2, 2])
    png = confusion_matrix_png(labels, np.array([0, 2, 2, 2]), classes=3)
    assert png.startswith(b"\x89PNG")
    assert struct.unpack(">II", png[16:24]) == (800, 800)


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
