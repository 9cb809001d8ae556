"""Trainings that somebody else's loop runs: Hugging Face's Trainer, Lightning."""

from trainyard.integrations.folder import checkpoint_folder

__all__ = ["checkpoint_folder"]
