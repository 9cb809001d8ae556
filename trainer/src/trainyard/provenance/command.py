"""The command line, without the secrets that may be on it."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

HIDDEN: Final = "***"
_SECRET = (
    r"(?:pass(?:word|wd|phrase)|pwd|secrets?|token|credentials?|signature|authorization|auth"
    r"|(?:api|access|account|private|secret|encryption|signing)[-_.]?key)"
)
_NAME: Final = re.compile(rf"[\w.-]*{_SECRET}", re.IGNORECASE)
_WHOLE: Final = re.compile(rf"([\w.-]*{_SECRET}=).+", re.IGNORECASE | re.DOTALL)
_WITHIN: Final = re.compile(
    rf"""((?<![\w.-])[\w.-]*{_SECRET}["']?\s*[=:]\s*(?:(?:Basic|Bearer|Token)\s+)?)(?:"[^"]*"|'[^']*'|[^\s"'&;,]+)""",
    re.IGNORECASE,
)
_IN_URL: Final = re.compile(r"(?<=://)(?:[^/\s@]*:\S*|[^/\s@]*)(?=@)")


def command() -> list[str]:
    """What this process was started with: the program's name, and its arguments as `masked` leaves them."""
    return masked([Path(sys.argv[0]).name, *sys.argv[1:]])


def masked(arguments: Sequence[str]) -> list[str]:
    """`arguments` with *** for what looks secret: values of arguments whose names end like password, token or api_key, in
    `--name=value`, `--name value` and within a longer text; and who logs in by a URL.
    """
    shown: list[str] = []
    for argument in arguments:
        names_secret = bool(shown) and shown[-1].startswith("-") and _NAME.fullmatch(shown[-1]) is not None
        shown.append(HIDDEN if names_secret and not argument.startswith("--") else _masked(argument))
    return shown


def _masked(argument: str) -> str:
    if whole := _WHOLE.fullmatch(argument):
        return f"{whole[1]}{HIDDEN}"
    return _WITHIN.sub(rf"\g<1>{HIDDEN}", _IN_URL.sub(HIDDEN, argument))
