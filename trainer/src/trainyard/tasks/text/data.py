"""Texts with labels: docstrings of Python's standard library, or your own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainyard.data import LabelledTexts, labelled_texts, splits
from trainyard.provenance import dataset_version
from trainyard.tasks.classification.data import Dataset
from trainyard.tasks.sections import LabelledDataConfig
from trainyard.tasks.text.config import VocabularyConfig
from trainyard.tasks.text.docstrings import FAMILIES, docstrings
from trainyard.tasks.text.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True, slots=True)
class Texts:
    """A dataset of tokens, and what they stand for."""

    dataset: Dataset
    texts: Sequence[str]
    """All of them, before they are divided."""
    vocabulary: Vocabulary
    """Of the training texts alone."""


def load(config: LabelledDataConfig, vocabulary_config: VocabularyConfig) -> Texts:
    """Divided by `config.split_seed` with every class in each part. Raises ConfigError."""
    found = labelled_texts(config.uri) if config.uri else _docstrings()
    division = splits(found.labels, config.validation_fraction, config.test_fraction, config.split_seed)
    vocabulary = Vocabulary.of((found.texts[index] for index in division.train), vocabulary_config)
    dataset = Dataset.divided(
        vocabulary.encode(found.texts),
        found.labels,
        division,
        class_names=found.class_names,
        version=found.version,
        statistics={**found.statistics, "vocabulary": len(vocabulary)},
    )
    return Texts(dataset=dataset, texts=found.texts, vocabulary=vocabulary)


def _docstrings() -> LabelledTexts:
    texts, families = docstrings()
    class_names = tuple(sorted(FAMILIES))
    labels = np.array([class_names.index(family) for family in families], dtype=np.int64)
    content = np.frombuffer("\0".join(texts).encode(), dtype=np.uint8)
    statistics: Mapping[str, Any] = {"source": "docstrings of Python's standard library", "examples": len(texts)}
    return LabelledTexts(
        texts=texts,
        labels=labels,
        class_names=class_names,
        version=dataset_version(content, labels),
        statistics=statistics,
    )
