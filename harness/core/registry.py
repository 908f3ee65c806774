"""Attentions and tasks by name, found through entry points; loaded when asked for."""

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from harness.core.plugin import AttentionPlugin

ATTENTIONS = "harness.attentions"
TASKS = "harness.tasks"
WORDS = ("name", "summary", "source")
"""What every plugin says of itself."""
_added: dict[str, AttentionPlugin] = {}


class RegistryError(ValueError):
    """A name that is unknown or taken, or a plugin that does not load."""


@cache
def _entries(group: str) -> dict[str, list[EntryPoint]]:
    """Entry points by name: one each, but for names that two packages took. Read once: every layer of a model asks."""
    found: dict[str, list[EntryPoint]] = {}
    for entry in entry_points(group=group):
        others = found.setdefault(entry.name, [])
        if all(other.value != entry.value for other in others):
            others.append(entry)
    return found


def _entry(group: str, name: str) -> EntryPoint:
    """The only entry point of that name, which is known."""
    found = _entries(group)
    first, *others = found[name]
    if others:
        values = " and ".join(entry.value for entry in found[name])
        raise RegistryError(
            f"two entry points of group {group!r} are named {name!r}: {values}; rename or uninstall one"
        )
    return first


def names() -> list[str]:
    """Every known attention, sorted; nothing is imported."""
    return sorted({*_entries(ATTENTIONS), *_added})


def task_names() -> list[str]:
    """Every known task, sorted; nothing is imported."""
    return sorted(_entries(TASKS))


def add(plugin: AttentionPlugin) -> None:
    """Register a plugin of this process, as an entry point would.

    Raises:
        RegistryError: the name is taken.
    """
    if plugin.name in names():
        raise RegistryError(f"attention {plugin.name!r} is already registered; known: {', '.join(names())}")
    _added[plugin.name] = plugin


def remove(name: str) -> None:
    """Take back what ``add`` registered.

    Raises:
        RegistryError: ``add`` did not register that name.
    """
    if name not in _added:
        raise RegistryError(f"attention {name!r} was not added in this process; added: {sorted(_added)}")
    del _added[name]


def get(name: str) -> AttentionPlugin:
    """The plugin of that name.

    Raises:
        RegistryError: it is unknown (the message lists what exists), two packages offer one of that name, or it does
            not load (the message says why).
    """
    if name in _added:
        return _added[name]
    if name not in names():
        raise RegistryError(f"unknown attention {name!r}; known: {', '.join(names())}")
    entry = _entry(ATTENTIONS, name)
    plugin = _load(entry)
    if not isinstance(plugin, AttentionPlugin):
        raise RegistryError(f"attention {name!r} ({entry.value}) is a {type(plugin).__name__}, not an AttentionPlugin")
    missing = [word for word in WORDS if not isinstance(getattr(plugin, word, None), str)]
    if missing:
        raise RegistryError(f"attention {name!r} ({entry.value}) has no {' and no '.join(missing)}; each is a string")
    if plugin.name != name:
        raise RegistryError(f"entry point {name!r} ({entry.value}) gives a plugin that is named {plugin.name!r}")
    return plugin


def get_task(name: str) -> Any:
    """The task of that name (see ``harness.tasks``).

    Raises:
        RegistryError: as for ``get``.
    """
    if name not in task_names():
        raise RegistryError(f"unknown task {name!r}; known: {', '.join(task_names())}")
    return _load(_entry(TASKS, name))


@cache
def _load(entry: EntryPoint) -> Any:
    try:
        found = entry.load()
        return found() if isinstance(found, type) else found
    except (Exception, SystemExit) as error:  # somebody else's code: whatever it raises is the reason
        raise RegistryError(f"{entry.name!r} ({entry.value}) does not load: {type(error).__name__}: {error}") from error
