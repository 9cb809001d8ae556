"""A small BERT, trained from nothing to tell texts apart; the default texts come with Python."""
