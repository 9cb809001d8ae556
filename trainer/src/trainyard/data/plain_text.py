"""Files of plain text."""

from trainyard.data.source import DataFile
from trainyard.errors import ConfigError


def read_text(file: DataFile) -> str:
    """The file's text, lines ending in a newline only. Raises ConfigError if it is none."""
    try:
        text = file.path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{file.name}: byte {error.start} is not UTF-8; convert the file, for example with iconv"
        ) from error
    if "\0" in text:
        raise ConfigError(f"{file.name}: has a zero character at {text.index(chr(0))}; this is no text")
    return text
