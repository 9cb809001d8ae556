"""Where and how a run goes to W&B: what the training process saw, then the shipper's own environment."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, cast
from urllib.parse import urlsplit

from trainyard.shipping.backend import Unusable
from trainyard.spool.records import Start

DEFAULT_BASE_URL: Final = "https://api.wandb.ai"
"""Said explicitly: the default of the wandb library is another company's server."""
_MODES: Final = {"online": "online", "offline": "offline", "dryrun": "offline", "disabled": "disabled"}
_REFUSED_IN_PROJECTS: Final = frozenset("/\\#?%:")
_PASSED_ON: Final = ("WANDB_RUN_GROUP", "WANDB_JOB_TYPE", "WANDB_NOTES", "WANDB_TAGS", "WANDB_INSECURE_DISABLE_SSL")
"""What the library may read itself. Everything else of the user's, such as WANDB_RUN_ID or WANDB_SERVICE, belongs to runs of his own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """All that the backend needs to know beside the records."""

    mode: Literal["online", "offline", "disabled"]
    base_url: str
    entity: str | None
    """None = the default of whoever the key belongs to."""
    project: str
    run_id: str
    """Of the run there: our uid, or what a sweep of W&B has chosen."""
    sweep_id: str | None
    """Of that sweep."""
    parameters: Mapping[str, Any]
    """What it has chosen for the run; its search looks for them in the run's config."""
    state_dir: Path
    """Holds `wandb/`, and in it everything that the library writes."""
    api_key: str | None = field(repr=False)
    init_timeout_s: float
    finish_timeout_s: float
    passed_on: Mapping[str, str]

    @classmethod
    def read(cls, start: Start, state_dir: Path, environ: Mapping[str, str]) -> "Options":
        """Raises Unusable, with what to change, for values that cannot be used."""

        def value(name: str, default: str = "") -> str:
            return start.settings.get(name) or environ.get(name) or default

        mode = _MODES.get(value("WANDB_MODE", "offline"))
        if mode is None:
            raise Unusable(f"WANDB_MODE is {value('WANDB_MODE')!r}: use online, offline or disabled")
        project = value("WANDB_PROJECT")
        if refused := sorted(_REFUSED_IN_PROJECTS.intersection(project)):
            raise Unusable(f"WANDB_PROJECT is {project!r}: W&B takes no {' '.join(refused)} in the name of a project")
        base_url = value("WANDB_BASE_URL", DEFAULT_BASE_URL).rstrip("/")
        if urlsplit(base_url).scheme not in ("http", "https"):
            raise Unusable(f"WANDB_BASE_URL is {base_url!r}: use an address such as {DEFAULT_BASE_URL}")
        api_key = environ.get("WANDB_API_KEY", "").strip() or None
        if mode == "online" and api_key is None:
            raise Unusable(
                "WANDB_API_KEY is not set where records are shipped: set it (in a pod, from a Secret), or WANDB_MODE=offline"
            )
        sweep_id, chosen = start.settings.get("WANDB_SWEEP_ID"), start.settings.get("WANDB_RUN_ID")
        of_sweep = bool(sweep_id and chosen)
        return cls(
            mode=cast(Literal["online", "offline", "disabled"], mode),
            base_url=base_url,
            entity=value("WANDB_ENTITY") or None,
            project=project
            or "".join("-" if letter in _REFUSED_IN_PROJECTS else letter for letter in start.experiment)[:128],
            run_id=chosen if of_sweep and chosen else start.uid,
            sweep_id=sweep_id if of_sweep else None,
            parameters=json.loads(value("TRAINYARD_PARAMETERS", "{}")) if of_sweep else {},
            state_dir=state_dir.resolve(),
            api_key=api_key if mode == "online" else None,
            init_timeout_s=_seconds("WANDB_INIT_TIMEOUT", environ, 30.0),
            finish_timeout_s=_seconds("WANDB_FINISH_TIMEOUT", environ, 60.0),
            passed_on={name: environ[name] for name in _PASSED_ON if environ.get(name)},
        )

    def process_environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """What the process that holds the library gets."""
        folder = self.state_dir / "wandb"
        mine = {
            **self.passed_on,
            "WANDB_MODE": self.mode,
            "WANDB_BASE_URL": self.base_url,
            "WANDB_DIR": str(self.state_dir),  # the library adds `wandb`
            "WANDB_CACHE_DIR": str(folder / "cache"),
            "WANDB_CONFIG_DIR": str(folder / "config"),
            "WANDB_DATA_DIR": str(folder / "data"),
            "WANDB_ARTIFACT_DIR": str(folder / "artifacts"),
            "WANDB_FINISH_TIMEOUT": str(self.finish_timeout_s),
            "WANDB_ERROR_REPORTING": "false",
            "WANDB_SILENT": "true",
        }
        if self.api_key:
            mine["WANDB_API_KEY"] = self.api_key
        return {name: text for name, text in environ.items() if not name.startswith("WANDB_")} | mine

    def without_key(self, text: str) -> str:
        """`text`, fit for a log."""
        return text.replace(self.api_key, "***") if self.api_key else text


def _seconds(name: str, environ: Mapping[str, str], default: float) -> float:
    text = environ.get(name) or str(default)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 86400:
        raise Unusable(f"{name} is {text!r}: use a number of seconds above 0")
    return seconds
