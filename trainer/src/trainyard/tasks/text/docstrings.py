"""Docstrings of Python's standard library, by what its modules are for: real texts that are wherever Python is."""

import ast
import sysconfig
from collections.abc import Iterator
from pathlib import Path

FAMILIES = {
    "concurrency": (
        "asyncio",
        "concurrent",
        "multiprocessing",
        "queue",
        "sched",
        "selectors",
        "subprocess",
        "threading",
    ),
    "files": (
        *("_pyio", "bz2", "fileinput", "genericpath", "glob", "gzip", "lzma", "ntpath", "os", "pathlib", "posixpath"),
        *("shutil", "tarfile", "tempfile", "zipfile"),
    ),
    "mail": ("email", "imaplib", "mailbox", "poplib", "smtplib"),
    "network": (
        *("ftplib", "http", "ipaddress", "socket", "socketserver", "ssl", "urllib", "webbrowser", "wsgiref", "xmlrpc"),
    ),
    "numbers": (
        *("_pydatetime", "_pydecimal", "calendar", "colorsys", "fractions", "numbers", "random", "statistics"),
    ),
    "testing": ("bdb", "cProfile", "doctest", "pdb", "timeit", "trace", "traceback", "unittest"),
}
"""Modules and packages, by family."""
_LEAST_WORDS = 4


def docstrings(library: Path | None = None) -> tuple[list[str], list[str]]:
    """(texts, their families): each text once, and none that two families have. No module is imported.

    Args:
        library: folder of the standard library's source; None: of the Python that runs.
    """
    library = library or Path(sysconfig.get_path("stdlib"))
    family_of: dict[str, str | None] = {}
    for family, modules in FAMILIES.items():
        for text in (text for module in modules for text in _of_module(library, module)):
            family_of[text] = family if family_of.get(text, family) == family else None
    found = [(text, family) for text, family in family_of.items() if family]
    return [text for text, _ in found], [family for _, family in found]


def _of_module(library: Path, module: str) -> Iterator[str]:
    """The docstrings of a module, or of all modules of a package; of those that this Python has."""
    single = library / f"{module}.py"
    for path in [single] if single.is_file() else sorted((library / module).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = " ".join((ast.get_docstring(node) or "").split())
                if len(text.split()) >= _LEAST_WORDS:
                    yield text
