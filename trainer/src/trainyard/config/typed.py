"""Settings from the command line and from environment variables."""

from collections.abc import Iterable, Mapping

from trainyard.config.setting import Setting

PREFIX = "TRAINYARD_SET__"
"""`TRAINYARD_SET__MODEL__DROPOUT=0.1` sets `model.dropout`."""


def from_arguments(overrides: Iterable[str], problems: list[str]) -> list[Setting]:
    """Of the texts after `--set`; what is no `key=value` goes to `problems`."""
    settings = []
    for override in overrides:
        key, equals, text = (part.strip() for part in override.partition("="))
        if equals:
            settings.append(Setting(key=key, value=text, text=text, name=f"--set {key}"))
        else:
            problems.append(f"--set {override}: must be key=value")
    return settings


def from_environment(environ: Mapping[str, str], problems: list[str]) -> list[Setting]:
    """Of the variables that begin with PREFIX, in any case; an empty one counts as unset."""
    settings: list[Setting] = []
    names: dict[str, str] = {}
    # One underscore is a slip of who wanted to set something: silence would train with the default.
    for name in sorted(name for name in environ if name.upper().startswith(PREFIX[:-1]) and environ[name].strip()):
        text = environ[name].strip()
        if not name.upper().startswith(PREFIX):
            problems.append(f"{name}={text}: begins with one underscore; write {PREFIX}{name[len(PREFIX) - 1 :]}")
            continue
        key = name[len(PREFIX) :].lower().replace("__", ".")
        if key in names:
            problems.append(f"{name}={text}: {names[key]} sets the same key; unset one of them")
        names[key] = name
        settings.append(Setting(key=key, value=text, text=text, name=name, spell=_variable))
    return settings


def _variable(key: str) -> str:
    return PREFIX + key.upper().replace(".", "__")
