"""Reading a spool while it is written, and after its writer has vanished at whatever byte."""

from dataclasses import dataclass

from trainyard.spool import format as layout
from trainyard.spool.folder import SpoolFolder
from trainyard.spool.records import Artifact, End, Model, Record


@dataclass(frozen=True, slots=True)
class Position:
    """Between two records: segment from 1, and bytes into it."""

    segment: int = 1
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Damage:
    """What could not be read."""

    places: int = 0
    bytes: int = 0


class SpoolReader:
    """Reads the records behind a position, in order."""

    def __init__(self, folder: SpoolFolder, position: Position = Position(), damage: Damage = Damage()) -> None:
        self.position = position
        self.damage = damage
        self._folder = folder
        self._keys: dict[int, str] = {}
        self._data: memoryview = memoryview(b"")
        self._loaded = 0

    def read(self, *, points: int, writer_gone: bool) -> list[Record]:
        """The next records: at most `points` values together, or more if one record has more. [] if there are none yet.

        Artifacts, models and the end come alone. `writer_gone` must have been found out before the call: then what is
        incomplete will stay so, and is cut.
        """
        found: list[Record] = []
        size = 0
        while size < points:
            before = self.position, self.damage
            record = self._next(writer_gone)
            if record is None:
                break
            if isinstance(record, Artifact | Model | End):
                if not found:
                    return [record]
                self.position, self.damage = before
                break
            found.append(record)
            size += len(record.values)
        return found

    def _next(self, writer_gone: bool) -> Record | None:
        refreshed = False
        while True:
            if self._loaded != self.position.segment and not self._load():
                return None
            body = layout.whole_record(self._data, self.position.offset)
            if body is not None:
                record = layout.decode(bytes(body), self._keys)
                self._move(self.position.offset + layout.PREFIX.size + len(body))
                if record is not None:
                    return record
                continue
            if not refreshed:
                # Whether it is complete must be known before the last look, or what is written in between is passed over.
                final = writer_gone or self._has_next()
                self._refresh()
                refreshed = True
                continue
            if not final:
                return None
            if self._skip_damage():
                continue
            if not self._has_next():
                return None
            self.position = Position(self.position.segment + 1, 0)
            refreshed = False

    def _load(self) -> bool:
        """Open the position's segment and learn the keys of the part that lies before it."""
        path = self._folder.segment(self.position.segment)
        if not path.exists():
            return False
        self._refresh()
        self._keys = {}
        self._loaded = self.position.segment
        try:
            layout.check_header(bytes(self._data[: layout.HEADER_BYTES]), str(path))
        except layout.HeaderError:
            # After a loss of power; records behind it may be whole.
            self.damage = Damage(self.damage.places + 1, self.damage.bytes + layout.HEADER_BYTES)
        counted = self.damage
        target, self.position = self.position.offset, Position(self.position.segment, layout.HEADER_BYTES)
        while self.position.offset < target:
            body = layout.whole_record(self._data, self.position.offset)
            if body is None:
                if not self._skip_damage():
                    self._move(target)  # a loss of power has taken what was delivered already
                continue
            layout.decode(bytes(body), self._keys)
            self._move(self.position.offset + layout.PREFIX.size + len(body))
        self.damage = counted
        return True

    def _refresh(self) -> None:
        self._data = memoryview(self._folder.segment(self.position.segment).read_bytes())

    def _has_next(self) -> bool:
        return self._folder.segment(self.position.segment + 1).exists()

    def _skip_damage(self) -> bool:
        """Go to the next intact record of this segment; False if what is left is empty or unreadable to its end."""
        at = self.position.offset
        written = len(bytes(self._data[at:]).rstrip(b"\0"))
        if not written:
            return False
        following = layout.next_record(self._data, at + 1)
        end = at + written if following is None else following
        self.damage = Damage(self.damage.places + 1, self.damage.bytes + end - at)
        self._move(len(self._data) if following is None else following)
        return following is not None

    def _move(self, offset: int) -> None:
        self.position = Position(self.position.segment, offset)
