"""Files on their way to the server: kept here, since the spool forgets them once they are delivered."""

import shutil
from pathlib import Path


class WaitingFiles:
    """A folder; the files in it have the names that they have in the run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, file: Path, name: str) -> None:
        """Keep `file` as `name`, instead of what had that name."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        try:
            path.hardlink_to(file)
        except OSError:  # another file system, or another user's file
            shutil.copyfile(file, path)

    def sizes(self) -> dict[str, int]:
        """Bytes of each file by its name."""
        paths = [path for path in self.folder.rglob("*") if path.is_file()]
        return {str(path.relative_to(self.folder)): path.stat().st_size for path in paths}

    def clear(self) -> None:
        """All have arrived."""
        shutil.rmtree(self.folder, ignore_errors=True)
