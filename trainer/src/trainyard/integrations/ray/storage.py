"""Where Tune keeps the state of a sweep: a folder or s3://, the same for each pod."""

import json
import uuid
from typing import Any

from pyarrow import fs

from trainyard.errors import ConfigError


class Storage:
    """The folder of one sweep."""

    def __init__(self, uri: str, name: str) -> None:
        """Raises ConfigError."""
        self.uri = uri.rstrip("/")
        self.sweep_uri = f"{self.uri}/{name}"
        try:
            self._files, self._path = fs.FileSystem.from_uri(self.sweep_uri)
        except (OSError, ValueError) as error:
            raise ConfigError(f"storage={uri}: must be an absolute path or s3://BUCKET/PREFIX: {error}") from error

    def sweep_id(self, key: str, name: str) -> str:
        """Made once. `key` says what is searched. Raises ConfigError if something else is searched in this place."""
        path = f"{self._path}/trainyard.json"
        if self._files.get_file_info(path).type == fs.FileType.NotFound:
            known = {"key": key, "sweep_id": f"{name}-{uuid.uuid4().hex[:8]}"}
            self._files.create_dir(self._path)
            with self._files.open_output_stream(path) as file:
                file.write(json.dumps(known).encode())
            return known["sweep_id"]
        with self._files.open_input_stream(path) as file:
            found: dict[str, str] = json.loads(file.read())
        if found["key"] != key:
            raise ConfigError(
                f"{self.sweep_uri}: holds a sweep of another search (another space, metric or program): give this one another "
                "name or storage, or remove the folder"
            )
        return found["sweep_id"]

    def holds_state(self) -> bool:
        """Whether Tune has saved anything to go on from; a process killed in its first seconds has not."""
        selector: Any = fs.FileSelector(self._path, allow_not_found=True)
        names = {info.base_name for info in self._files.get_file_info(selector)}
        return "tuner.pkl" in names and any(name.startswith("experiment_state-") for name in names)
