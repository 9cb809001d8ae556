"""Data that somebody brings: a file, a directory or s3://, checked when it is loaded, with a version and statistics.

Importing it imports numpy, pandas and scikit-learn; boto3 only with the first s3:// address.
"""

from trainyard.data.arrays import LabelledArrays, labelled_arrays
from trainyard.data.corpora import Corpus, corpus
from trainyard.data.fetching import fetch
from trainyard.data.splitting import Splits, splits
from trainyard.data.texts import LabelledTexts, labelled_texts

__all__ = [
    "Corpus",
    "LabelledArrays",
    "LabelledTexts",
    "Splits",
    "corpus",
    "fetch",
    "labelled_arrays",
    "labelled_texts",
    "splits",
]
