"""Tests of the trainer. Run inside the trainer's test image."""

import os

from trainyard.cpu import available_cpus, limit_threads

# As the command does, before numpy and torch are imported: training in this process then gives the command's numbers.
limit_threads(os.environ, available_cpus())
