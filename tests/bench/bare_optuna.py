"""python -m tests.bench.bare_optuna URL STUDY TRIALS: what people write by hand, `study.optimize` around a program."""

import subprocess
import sys

import optuna


def main(url: str, name: str, trials: int) -> None:
    """As many trials as this process is to run."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        study_name=name, storage=url, sampler=optuna.samplers.RandomSampler(seed=0), load_if_exists=True
    )
    study.optimize(_objective, n_trials=trials)


def _objective(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", 0.0, 1.0)
    command = [sys.executable, "-m", "tests.bench.trial", str(x)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
