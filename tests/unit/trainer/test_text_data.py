"""Texts, their words, and the docstrings that are the default."""

from pathlib import Path

import numpy as np
import pytest
from trainyard.errors import ConfigError
from trainyard.tasks.sections import LabelledDataConfig
from trainyard.tasks.text.config import VocabularyConfig
from trainyard.tasks.text.data import load
from trainyard.tasks.text.docstrings import FAMILIES, docstrings
from trainyard.tasks.text.vocabulary import BEGIN, PADDING, UNKNOWN, Vocabulary

from tests.unit.trainer.trainings import write_texts


@pytest.fixture(scope="module")
def found() -> tuple[list[str], list[str]]:
    return docstrings()


def test_docstrings_are_many_and_of_every_family(found: tuple[list[str], list[str]]) -> None:
    _, families = found
    counts = {family: families.count(family) for family in FAMILIES}
    assert set(families) == set(FAMILIES)
    assert min(counts.values()) > 200, counts


def test_no_docstring_is_there_twice_or_too_short_to_tell_anything(found: tuple[list[str], list[str]]) -> None:
    texts, _ = found
    assert len(set(texts)) == len(texts)
    assert min(len(text.split()) for text in texts) >= 4


def test_docstrings_are_the_same_again(found: tuple[list[str], list[str]]) -> None:
    assert docstrings() == found


def test_a_docstring_of_two_families_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "queue.py").write_text(
        '"""Words that are in two families."""\ndef put():\n    """Words that only this family has."""\n'
    )
    (tmp_path / "http").mkdir()
    (tmp_path / "http" / "client.py").write_text(
        '"""Words that are in two families."""\nclass Client:\n    """Too short."""\n    async def get(self):\n        """Words   of the\n        other family."""\n'
    )
    assert docstrings(tmp_path) == (
        ["Words that only this family has.", "Words of the other family."],
        ["concurrency", "network"],
    )


def test_the_vocabulary_has_the_most_frequent_words() -> None:
    texts = ["The cat sat. The dog sat.", "the bird"]
    vocabulary = Vocabulary.of(texts, VocabularyConfig(size=16, least_count=2, length=8))
    assert vocabulary.words == ("[PAD]", "[UNK]", "[CLS]", "the", ".", "sat")
    everything = Vocabulary.of(texts, VocabularyConfig(size=16, least_count=1, length=8))
    assert everything.words[3:] == ("the", ".", "sat", "bird", "cat", "dog")


def test_texts_become_numbers_of_one_length() -> None:
    vocabulary = Vocabulary.of(["a a b b", "a"], VocabularyConfig(size=16, least_count=2, length=4))
    a, b = vocabulary.words.index("a"), vocabulary.words.index("b")
    tokens = vocabulary.encode(["A b", "b c a b a", ""])
    assert tokens.tolist() == [[BEGIN, a, b, PADDING], [BEGIN, b, UNKNOWN, a], [BEGIN, PADDING, PADDING, PADDING]]
    assert tokens.dtype == np.int64


def test_words_of_the_test_part_are_not_known(tmp_path: Path) -> None:
    path = Path(write_texts(tmp_path / "texts.csv"))
    vocabulary_config = VocabularyConfig(least_count=1, length=8)
    config = LabelledDataConfig(uri=str(path))
    test = load(config, vocabulary_config).dataset.test.indices
    lines = path.read_text().splitlines()
    for index in test:  # the first line is the header
        lines[index + 1] = f"unheard{index} {lines[index + 1]}"
    path.write_text("\n".join(lines) + "\n")
    texts = load(config, vocabulary_config)
    assert not any(word.startswith("unheard") for word in texts.vocabulary.words)
    assert all(texts.dataset.test.inputs[:, 1] == UNKNOWN)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("words,label\nhello,a\n", "text"),
        ("text,label\n" + "hello there,a\n ,b\n" * 9, "blank"),
        ("text,label\n" + "hello there,a\n" * 19, "every label is a"),
    ],
)
def test_texts_that_cannot_be_trained_on_are_refused(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "texts.csv").write_text(content)
    with pytest.raises(ConfigError, match=said):
        load(LabelledDataConfig(uri=str(tmp_path / "texts.csv")), VocabularyConfig())
