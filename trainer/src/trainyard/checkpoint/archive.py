"""The checkpoints of one run: reading the newest, adding one, removing the oldest."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch

from trainyard.checkpoint.config import CheckpointConfig
from trainyard.checkpoint.errors import CheckpointError
from trainyard.checkpoint.finding import check_sizes, find_newest, manifest_of
from trainyard.checkpoint.layout import FORMAT, RECORD, STATE, Damaged, Manifest, Name
from trainyard.checkpoint.patience import Patience
from trainyard.checkpoint.retention import superfluous
from trainyard.checkpoint.store import Store, store_at
from trainyard.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Saved:
    """What one checkpoint holds, on the CPU."""

    step: int
    run: Mapping[str, str]
    """`uid` and `name`."""
    config_hash: str | None
    score: float | None
    common: dict[str, Any]
    """State of what all ranks have in common, by name."""
    ranks: list[Any]
    """What each rank has for itself."""


class Archive:
    """Used by rank 0 alone, and by one thread at a time."""

    def __init__(
        self,
        uri: str,
        *,
        staging: Path,
        config: CheckpointConfig,
        best: Literal["min", "max"],
        say: Callable[[str], None],
    ) -> None:
        """Raises ConfigError for what is no place for checkpoints."""
        self._store: Store = store_at(uri, staging=staging)
        self._config = config
        self._best = best
        self._say = say
        self._opened = False
        self._scores: dict[Name, float | None] | None = None
        """Of the checkpoints that are there; None before the first one is written."""
        self._damaged: list[Name] = []

    @property
    def uri(self) -> str:
        """Where the checkpoints are."""
        return self._store.uri

    @property
    def carries_record(self) -> bool:
        """See `Store`."""
        return self._store.carries_record

    def newest(self, config_hash: str | None, patiently: Patience) -> Saved | None:
        """The newest complete one; None if there is none. Raises ConfigError if it is of another configuration, CheckpointError."""
        self._open(patiently)

        def take(name: Name, manifest: Manifest) -> Saved:
            self._refuse_other_configuration(name, manifest.config_hash, config_hash)
            check_sizes(self._store, name, manifest, patiently)
            if STATE not in manifest.files:
                raise Damaged(f"{STATE} is missing")
            with patiently(lambda: self._store.fetch(name, STATE, manifest.files[STATE])) as file:
                return self._read(name, file)

        found = find_newest(self._store, take, patiently=patiently, say=self._say)
        self._damaged = found.damaged
        return found.content

    def write(self, saved: Saved, record: bytes | None, patiently: Patience) -> None:
        """Add one, and remove those that have had their time. Raises CheckpointError, ConfigError."""
        self._open(patiently)
        scores = self._known(patiently)
        before = [each.attempt for each in (*scores, *self._damaged) if each.step == saved.step]
        name = Name(saved.step, max(before, default=0) + 1)
        with self._store.draft(name) as draft:
            files = {STATE: draft.add(STATE, lambda file: torch.save(_plain(saved), file))}
            if record is not None:
                files[RECORD] = draft.add(RECORD, lambda file: file.write(record))
            manifest = Manifest(
                step=saved.step,
                files=files,
                run=saved.run,
                config_hash=saved.config_hash,
                score=saved.score,
                saved_at=datetime.now(UTC).isoformat(timespec="seconds"),
            ).encode()
            patiently(lambda: draft.commit(manifest))
        scores[name] = Manifest.decode(manifest, name).score
        self._remove_old(scores)

    def _open(self, patiently: Patience) -> None:
        if not self._opened:
            patiently(self._store.open)
            self._opened = True

    def _read(self, name: Name, file: Any) -> Saved:
        try:
            fields = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # its checksum is right, so another version would read it
            raise CheckpointError(
                f"{self.uri}/{name}/{STATE} cannot be read by torch {torch.__version__}: {error}"
            ) from error
        fields.pop("format")
        return Saved(**fields)

    def _known(self, patiently: Patience) -> dict[Name, float | None]:
        """Scores of the checkpoints that are there; those that cannot be used are set apart."""
        if self._scores is None:
            scores = {}
            for name in patiently(self._store.names):
                try:
                    scores[name] = manifest_of(self._store, name, patiently).score
                except Damaged:
                    self._damaged.append(name)
            self._damaged = sorted(set(self._damaged))
            self._scores = {name: score for name, score in scores.items() if name not in self._damaged}
        return self._scores

    def _remove_old(self, scores: dict[Name, float | None]) -> None:
        """What cannot be removed costs disk, and is tried again; it must not stop a training."""
        for name in superfluous(scores, self._config, self._best):
            if self._removed(name):
                del scores[name]
        self._damaged = [name for name in self._damaged if not self._removed(name)]

    def _removed(self, name: Name) -> bool:
        try:
            self._store.remove(name)
        except (CheckpointError, ConfigError) as error:
            self._say(f"checkpoint {self.uri}/{name} could not be removed: {error}")
            return False
        return True

    def _refuse_other_configuration(self, name: Name, theirs: str | None, ours: str | None) -> None:
        if None not in (theirs, ours) and theirs != ours:
            raise ConfigError(
                f"checkpoint {self.uri}/{name} was written with configuration {theirs}, and this training has {ours}: "
                f"start it as another Job, or delete {self.uri} to begin at the beginning"
            )


def _plain(saved: Saved) -> dict[str, Any]:
    """As in the file."""
    return {
        "format": FORMAT,
        "step": saved.step,
        "run": dict(saved.run),
        "config_hash": saved.config_hash,
        "score": saved.score,
        "common": saved.common,
        "ranks": saved.ranks,
    }
