"""Trainyard's training side: what runs inside a training pod, and unchanged on a laptop."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("trainyard")
except PackageNotFoundError:  # a source tree on PYTHONPATH
    __version__ = "0+source"
