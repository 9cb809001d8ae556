"""What can go wrong, in the terms of the person who typed the command."""

from __future__ import annotations

from pathlib import Path


class UserError(Exception):
    """Something the person can put right. The text says what was seen, where, and what to do."""


class CommandError(Exception):
    """A program that should have succeeded did not."""

    def __init__(self, command: str, code: int, tail: str, log: Path | None = None) -> None:
        self.command = command
        self.code = code
        self.tail = tail
        self.log = log
        where = f"\nThe whole output: {log}" if log else ""
        super().__init__(f"`{command}` ended with exit code {code}:\n{tail}{where}")
