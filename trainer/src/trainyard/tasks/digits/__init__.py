"""Handwritten digits: real data that comes with scikit-learn, trained in seconds on one core."""
