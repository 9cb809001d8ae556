"""The version of data that are made or come with a package; `trainyard.data.version` is about files."""

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def dataset_version(*arrays: "NDArray[np.generic]") -> str:
    """`sha256:` and 12 hex digits of the arrays' shapes, types and bytes."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.shape}{array.dtype.str}".encode())
        digest.update(array.tobytes())
    return f"sha256:{digest.hexdigest()[:12]}"
