"""The keys `program` and `command`: what a trial runs, in our words or in W&B's."""

import shlex
from typing import Final

from trainyard.sweeps.document import Entry, Section, did_you_mean, items_of, text_of
from trainyard.sweeps.macros import MACROS

_SUCH_AS: Final = "[trainyard, train, digits]"
_WANDB: Final = ("${env}", "${interpreter}", "${program}", "${args}")
"""What W&B runs of a `program: train.py` without a `command`."""
_NOT_HERE: Final = {
    "${args_json_file}": "there is no such file; take ${args_json}, or read TRAINYARD_PARAMETERS in the program",
    "${envvar": "a trial has the environment of its worker; read the variable in the program",
}


def read_program(top: Section) -> tuple[str, ...]:
    """The words; empty where something is wrong, which goes to the section's problems."""
    program, command = top.get("program"), top.get("command")
    if program is None and command is None:
        top.missing("program", f"what a trial runs, such as {_SUCH_AS}")
        return ()
    before = len(top.problems)
    words = [] if program is None else _words(program, top.problems)
    if command is not None:
        if program is not None and (items_of(program) is not None or len(words) != 1):
            top.problems.append(
                command.wrong("stands beside a program that has arguments of its own; keep one of them")
            )
        words = _of_wandb(command, words, top.problems)
    elif program is not None and items_of(program) is None and len(words) == 1 and words[0].endswith(".py"):
        words = _filled(_WANDB, words[0])
    if len(top.problems) == before:
        _check_macros(words, program if command is None else command, top.problems)
    return tuple(words) if len(top.problems) == before else ()


def _words(entry: Entry, problems: list[str]) -> list[str]:
    """A list of words, or one text that is split as a shell does it."""
    items = items_of(entry)
    if items is None:
        text = text_of(entry)
        try:
            words = [] if text is None else shlex.split(text)
        except ValueError as error:  # a quote without its other half
            problems.append(entry.wrong(f"cannot be split into words: {error}"))
            return []
    else:
        words = [text_of(each) or "" for each in items]
        problems.extend(each.wrong("must be a word") for each in items if text_of(each) is None)
    if not words:
        problems.append(entry.wrong(f"must be words, such as {_SUCH_AS}"))
    return words


def _of_wandb(command: Entry, program: list[str], problems: list[str]) -> list[str]:
    words = _words(command, problems)
    if "${program}" in words and not program:
        problems.append(command.wrong("${program} stands for the key program, which is missing"))
        return []
    return _filled(words, program[0] if program else "")


def _filled(words: "list[str] | tuple[str, ...]", program: str) -> list[str]:
    fixed = {"${env}": "/usr/bin/env", "${interpreter}": "python", "${program}": program}
    return [fixed.get(word, word) for word in words]


def _check_macros(words: list[str], entry: Entry | None, problems: list[str]) -> None:
    """W&B drops an unknown one silently; and one inside of a longer word is no macro, there as here."""
    assert entry is not None
    for word in words:
        if not (word.startswith("${") and word.endswith("}")) or word in MACROS:
            continue
        reason = next((why for begin, why in _NOT_HERE.items() if word.startswith(begin)), None)
        hint = f"there is no macro {word}{did_you_mean(word, MACROS)}; macros: {', '.join(MACROS)}"
        problems.append(f"{entry.place}: {word}: {reason or hint}")
