"""The example with a mistake in it."""

from typing import Any

import asha  # type: ignore[import-not-found] # it is in the image


class Broken(asha.Digits):
    """Finds no data."""

    def build(self, config: dict[str, Any]) -> None:
        """Fail."""
        raise FileNotFoundError(f"no digits here for {config}")


if __name__ == "__main__":
    raise SystemExit(asha.main(Broken))
