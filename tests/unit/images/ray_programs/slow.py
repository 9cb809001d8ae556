"""The example, slow enough to be interrupted in the middle of a trial."""

import time

import asha  # type: ignore[import-not-found] # it is in the image


class Slow(asha.Digits):
    """A third of a second more an epoch."""

    def iterate(self) -> dict[str, float]:
        """As it is, and a pause."""
        time.sleep(0.3)
        metrics: dict[str, float] = super().iterate()
        return metrics


if __name__ == "__main__":
    raise SystemExit(asha.main(Slow))
