"""Files of k8s/, used by the commands that their headers name."""

from __future__ import annotations

import re
from pathlib import Path

from tests.kind.platform import Platform, manifest


def header(name: str) -> dict[str, str]:
    """The commands that a manifest's header names, by what they are for."""
    found = re.findall(r"^#   ([A-Z]\w+): +(\S.*?)(?: {3,}\(.*)?$", Path(manifest(name)).read_text(), re.MULTILINE)
    return dict(found)


def apply(platform: Platform, name: str) -> str:
    """Make what is in the file anew; returns what kubectl says."""
    clean(platform, name)
    return platform.shell(header(name)["Apply"])


def clean(platform: Platform, name: str) -> None:
    """Remove what the file makes."""
    platform.shell(f"{header(name)['Clean']} --ignore-not-found")
