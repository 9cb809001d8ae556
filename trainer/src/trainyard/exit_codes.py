"""How a training process ends, as Kubernetes sees it. Nothing exits 0 unfinished: after SIGTERM, 0 counts as success."""

FINISHED = 0
FAILED = 1
"""A bug, or something that another try may not meet; counted against the Job's backoffLimit."""
PREEMPTED = 75
"""Stopped with a checkpoint written: the same again goes on."""
BAD_CONFIGURATION = 42
"""The configuration or the data is wrong; podFailurePolicy fails the Job at once."""


def stopped_by(signal_number: int) -> int:
    """The shell's code for an end by a signal: 143 for SIGTERM, 130 for SIGINT."""
    return 128 + signal_number
