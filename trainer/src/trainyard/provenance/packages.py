"""Installed Python packages."""

import platform
import re
from importlib.metadata import distributions


def installed_packages() -> str:
    """A line `name==version` for each package that Python would import, sorted; the first line says which Python."""
    found: dict[str, str] = {}
    for each in distributions():
        # Of two with one name Python takes the first; one without a name is what an uninstallation left behind.
        if name := each.metadata["Name"]:
            found.setdefault(_normal(name), f"{name}=={each.version}")
    lines = [f"# Python {platform.python_version()}", *(found[name] for name in sorted(found))]
    return "\n".join(lines) + "\n"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
