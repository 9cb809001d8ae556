"""Tags by which the runs of a sweep are found."""

from typing import Final

KEY_TAG: Final = "trainyard.sweep_key"
"""Of the parent: `Sweep.key`."""
ID_TAG: Final = "trainyard.sweep_id"
"""Of the parent and of each trial."""
ROLE_TAG: Final = "trainyard.sweep_role"
TRIAL_TAG: Final = "trainyard.trial"
"""Of a trial: the number of its first attempt."""
PARENT: Final = "parent"
"""Value of `ROLE_TAG`."""
