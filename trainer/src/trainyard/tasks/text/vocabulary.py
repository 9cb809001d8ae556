"""Words as numbers."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from trainyard.tasks.text.config import VocabularyConfig

PADDING, UNKNOWN, BEGIN = 0, 1, 2
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]")
_WORD = re.compile(r"\w+|[^\w\s]")


class Vocabulary:
    """Which words are known. A word is a run of letters, digits and underscores in lower case, or one other sign."""

    def __init__(self, words: Sequence[str], length: int) -> None:
        """`words`: in the order of their numbers, the special ones first; `length`: tokens of a text."""
        self.words = tuple(words)
        self._length = length
        self._numbers = {word: number for number, word in enumerate(words)}

    @classmethod
    def of(cls, texts: Iterable[str], config: VocabularyConfig) -> "Vocabulary":
        """The most frequent words of `texts`; of two as frequent ones, the first in the alphabet."""
        counts = Counter(word for text in texts for word in _words(text))
        known = sorted(
            (word for word in counts if counts[word] >= config.least_count), key=lambda word: (-counts[word], word)
        )
        return cls((*_SPECIAL, *known[: config.size]), config.length)

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Shape (n, length): [CLS], the words of each text as far as there is room, and [PAD]."""
        tokens = np.full((len(texts), self._length), PADDING, dtype=np.int64)
        for row, text in zip(tokens, texts, strict=True):
            found = [BEGIN, *(self._numbers.get(word, UNKNOWN) for word in _words(text))][: self._length]
            row[: len(found)] = found
        return tokens

    def to_json(self) -> bytes:
        """All that is needed to encode a text elsewhere: the words in the order of their numbers, the length, the pattern."""
        content = {"words": self.words, "length": self._length, "pattern": _WORD.pattern, "lower_case": True}
        return json.dumps(content, ensure_ascii=False).encode()


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
