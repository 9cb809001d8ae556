"""Which container image this is."""

import re
from typing import Final

from trainyard.environment import JobEnvironment

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


def image_digest(environment: JobEnvironment) -> str | None:
    """`sha256:...` of the image: TRAINYARD_IMAGE_DIGEST, or what its reference ends in (`NAME@sha256:...`); None if neither says.

    A pod cannot ask: the downward API has no field for the image ID that the kubelet found. A manifest that pins the image by its
    digest, as one should, tells it.
    """
    told = environment.image_digest or (environment.image or "").rpartition("@")[2]
    return told if _DIGEST.fullmatch(told) else None
