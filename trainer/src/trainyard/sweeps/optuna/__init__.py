"""Sweeps whose trials Optuna proposes: a study in a database, and workers that share it."""
