"""Keeping credentials out of what is printed, whoever's words it is."""

import re
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import unquote

_SECRET: Final = re.compile(r"(MLFLOW|WANDB|AWS)_\w*(PASSWORD|TOKEN|KEY)")
_IN_ADDRESS: Final = re.compile(r"(?<=://)\S*@")
_SHORTEST: Final = 4
"""Replacing a shorter one would garble every word; no message repeats it."""


def hider(environ: Mapping[str, str]) -> Callable[[str], str]:
    """What makes a text fit to be printed."""
    secrets = {value.strip() for name, value in environ.items() if _SECRET.fullmatch(name)}
    in_address = _IN_ADDRESS.search(environ.get("MLFLOW_TRACKING_URI", ""))
    if in_address is not None:
        password = in_address[0].removesuffix("@").partition(":")[2]
        secrets |= {password, unquote(password)}
    longest_first = sorted((secret for secret in secrets if len(secret) >= _SHORTEST), key=len, reverse=True)

    def hide(text: str) -> str:
        text = _IN_ADDRESS.sub("***@", text)
        for secret in longest_first:
            text = text.replace(secret, "***")
        return text

    return hide
