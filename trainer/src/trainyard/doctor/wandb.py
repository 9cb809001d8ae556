"""The backend `wandb`."""

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Final

from trainyard.doctor.examination import Check, Trouble
from trainyard.doctor.state import STATE
from trainyard.doctor.trial import trial_start
from trainyard.environment import JobEnvironment
from trainyard.shipping.backend import Retry
from trainyard.shipping.wandb.options import Options
from trainyard.shipping.wandb.server import WandbServer

_MODE: Final = "wandb mode"
_KEY: Final = "wandb key"


def wandb_checks(environment: JobEnvironment, environ: Mapping[str, str]) -> Sequence[Check]:
    """In the order in which they make sense; those about the server only where one is used."""
    start = trial_start(environment.backend_settings)
    mode = environment.backend_settings.get("WANDB_MODE", "offline")

    def options() -> Options:
        return Options.read(start, environment.state_dir, environ)

    def ask() -> str:
        read = options()
        try:
            WandbServer(read).run_status(start.uid, read.entity)
        except Retry as trouble:
            seen, _, remedy = str(trouble).partition(": ")
            raise Trouble(seen, remedy or "look at the server") from trouble
        except (AttributeError, KeyError, TypeError, ValueError) as error:  # JSON, but of some other program
            raise Trouble(f"{read.base_url} does not answer as W&B does", "correct WANDB_BASE_URL") from error
        return f"{read.base_url} takes the key and answers for project {read.project}"

    looked = [Check(name=_MODE, look=lambda: _mode(mode), needs=[STATE])]
    if mode == "online":
        looked.append(Check(name=_KEY, look=lambda: _key(environ), needs=[_MODE]))
        looked.append(Check(name="wandb server", look=ask, needs=[_MODE, _KEY]))
    return looked


def _mode(mode: str) -> str:
    if mode == "disabled":
        return "WANDB_MODE is disabled: nothing goes there"
    if importlib.util.find_spec("wandb") is None:
        raise Trouble("the library wandb is not installed", "pip install 'trainyard[wandb]'")
    if mode == "online":
        return "WANDB_MODE is online"
    return f"WANDB_MODE is {mode}: runs are kept on disk until somebody calls `wandb sync`"


def _key(environ: Mapping[str, str]) -> str:
    if not environ.get("WANDB_API_KEY", "").strip():
        raise Trouble(
            "WANDB_API_KEY is not set",
            "set it (in a pod, from a Secret), or WANDB_MODE=offline to keep the runs on disk",
        )
    return "WANDB_API_KEY is set"
