"""Ray Tune: each trial is a run below its sweep's, and the sweep goes on after its pod is gone.

    class Digits(TrackedTrainable):
        experiment, iterations = "digits", 27

        def build(self, config): ...                  # the model, from the trial's parameters
        def iterate(self): ...                        # an epoch; returns its metrics
        def save_checkpoint(self, checkpoint_dir): ...
        def load_checkpoint(self, checkpoint): ...

    search = Search(name="digits", space={"lr": tune.loguniform(1e-4, 1e-1)}, metric="validation/loss", mode="min", trials=8)
    if __name__ == "__main__":
        raise SystemExit(search.run(Digits, scheduler=ASHAScheduler()))

Needs the packages ray[tune] and optuna.
"""

from trainyard.integrations.ray.search import Search
from trainyard.integrations.ray.trainable import TrackedTrainable

__all__ = ["Search", "TrackedTrainable"]
