"""How far one backend is with one spool; survives the shipper's end."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainyard.errors import SpoolError
from trainyard.spool.folder import SpoolFolder, write_json
from trainyard.spool.reader import Damage, Position


class Cursor:
    """Implements `trainyard.shipping.backend.Progress`."""

    def __init__(self, folder: SpoolFolder, backend: str, *, say: Callable[[str], None]) -> None:
        """Raises SpoolError for a file that is damaged."""
        self.backend = backend
        self.position = Position()
        self.damage = Damage()
        """Before `position`."""
        self.last_ms = 0
        """When the last value before `position` was measured."""
        self.points = 0
        """Values delivered so far."""
        self.warnings = 0
        self.ended = False
        self.fence: dict[str, int] | None = None
        """The last step of each metric that was there when delivery began: not sent again. None until that is known."""
        self.state: dict[str, Any] = {}
        self._path = folder.cursor(backend)
        self._say = say
        if self._path.exists():
            self._load(self._path)

    def _load(self, path: Path) -> None:
        try:
            stored = json.loads(path.read_bytes())
            self.position = Position(stored["segment"], stored["offset"])
            self.damage = Damage(stored["damaged_places"], stored["damaged_bytes"])
            self.points, self.warnings, self.last_ms = stored["points"], stored["warnings"], stored["last_ms"]
            self.ended, self.state, self.fence = stored["ended"], stored["state"], stored.get("fence")
        except (ValueError, KeyError, TypeError) as error:
            raise SpoolError(
                f"{path} is damaged ({error}): delete it to deliver the spool to {self.backend} again"
            ) from error

    def advance(self, position: Position, damage: Damage, points: int) -> None:
        """Everything before `position` is delivered, `damage` apart."""
        self.position, self.damage = position, damage
        self.points += points
        self.save()

    def end(self) -> None:
        """Everything is."""
        self.ended = True
        self.save()

    def save(self) -> None:
        """See `Progress`."""
        write_json(
            self._path,
            {
                "segment": self.position.segment,
                "offset": self.position.offset,
                "damaged_places": self.damage.places,
                "damaged_bytes": self.damage.bytes,
                "last_ms": self.last_ms,
                "points": self.points,
                "warnings": self.warnings,
                "ended": self.ended,
                "fence": self.fence,
                "state": self.state,
            },
        )

    def summary(self) -> dict[str, object]:
        """What became of the run there."""
        return {"points": self.points, "warnings": self.warnings, "state": self.state}

    def describe(self) -> str:
        """The same, for people."""
        refused = f", {self.warnings} warnings above" if self.warnings else ""
        return f"{self.points} points{refused}"

    def warn(self, text: str) -> None:
        """See `Progress`."""
        self.warnings += 1
        self._say(f"{self.backend}: {text}")
