"""Checkpoints in a real object store, written and read by the trainer image."""
