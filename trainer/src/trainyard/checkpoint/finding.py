"""Which checkpoint counts: the newest one that is complete."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from trainyard.checkpoint.layout import MANIFEST, Damaged, Manifest, Name, check_size
from trainyard.checkpoint.patience import Patience
from trainyard.checkpoint.store import Store

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Found(Generic[_T]):
    """The newest complete checkpoint, if there is one."""

    name: Name | None = None
    content: _T | None = None
    """What was asked of it."""
    damaged: list[Name] = field(default_factory=list)
    """Newer ones."""


def find_newest(
    store: Store, take: Callable[[Name, Manifest], _T], *, patiently: Patience, say: Callable[[str], None]
) -> Found[_T]:
    """`take(name, manifest)` of the newest checkpoint; of an older one where that raises Damaged, which is told."""
    damaged: dict[Name, str] = {}
    found: Found[_T] = Found()
    for name in patiently(store.names):
        try:
            content = take(name, manifest_of(store, name, patiently))
        except Damaged as reason:
            damaged[name] = str(reason)
        else:
            found = Found(name=name, content=content, damaged=list(damaged))
            break
    else:
        found = Found(damaged=list(damaged))
    instead = (
        f"{found.name} is used instead" if found.name else "there is no other one: training begins at the beginning"
    )
    for name, why in damaged.items():
        say(f"checkpoint {store.uri}/{name} is skipped, since {why}; {instead}")
    return found


def manifest_of(store: Store, name: Name, patiently: Patience) -> Manifest:
    """Raises Damaged."""
    return Manifest.decode(patiently(lambda: store.read(name, MANIFEST)), name)


def check_sizes(store: Store, name: Name, manifest: Manifest, patiently: Patience) -> None:
    """Raises Damaged if a file is missing or has another size than when it was written."""
    for member, content in manifest.files.items():
        check_size(patiently(lambda member=member: store.size(name, member)), member, content)  # type: ignore[misc]
