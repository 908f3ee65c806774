"""Attentions and tasks by name, found through entry points; loaded when asked for."""

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from harness.plugin import AttentionPlugin

ATTENTIONS = "harness.attentions"
TASKS = "harness.tasks"
_added: dict[str, AttentionPlugin] = {}


class RegistryError(ValueError):
    """A name that is unknown or taken, or a plugin that does not load."""


def _entries(group: str) -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=group):
        other = found.setdefault(entry.name, entry)
        if other.value != entry.value:
            raise RegistryError(
                f"two entry points of group {group!r} are named {entry.name!r}: {other.value} and {entry.value}; "
                "rename or uninstall one"
            )
    return found


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
        RegistryError: it is unknown (the message lists what exists), or it does not load (the message says why).
    """
    if name in _added:
        return _added[name]
    entry = _entries(ATTENTIONS).get(name)
    if entry is None:
        raise RegistryError(f"unknown attention {name!r}; known: {', '.join(names())}")
    plugin = _load(entry)
    if not isinstance(plugin, AttentionPlugin):
        raise RegistryError(f"attention {name!r} ({entry.value}) is a {type(plugin).__name__}, not an AttentionPlugin")
    if plugin.name != name:
        raise RegistryError(f"entry point {name!r} ({entry.value}) gives a plugin that is named {plugin.name!r}")
    return plugin


def get_task(name: str) -> Any:
    """The task of that name (see ``harness.tasks``).

    Raises:
        RegistryError: as for ``get``.
    """
    entry = _entries(TASKS).get(name)
    if entry is None:
        raise RegistryError(f"unknown task {name!r}; known: {', '.join(task_names())}")
    return _load(entry)


@cache
def _load(entry: EntryPoint) -> Any:
    try:
        found = entry.load()
        return found() if isinstance(found, type) else found
    except Exception as error:  # somebody else's code: whatever it raises is the reason
        raise RegistryError(f"{entry.name!r} ({entry.value}) does not load: {type(error).__name__}: {error}") from error
