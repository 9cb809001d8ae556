"""A low-rank adapter for a model that the task lm trained."""
