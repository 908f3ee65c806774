"""Attentions and tasks by name, from the installed packages' entry points; each is imported on first use."""

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from harness.core.plugin import AttentionPlugin
from harness.core.record_text import exception_text

ATTENTIONS = "harness.attentions"
TASKS = "harness.tasks"
REQUIRED_STRINGS = ("name", "summary", "source")
"""Attributes that every plugin must have, each a string."""
_added: dict[str, AttentionPlugin] = {}
"""Plugins that ``add`` registered in this process, by name."""


class RegistryError(ValueError):
    """A name is unknown or already taken, or a plugin does not load."""


@cache
def _entries(group: str) -> dict[str, list[EntryPoint]]:
    """Entry points by name; a name has more than one where several packages use it.

    The result is cached, because every layer of a model looks its attention up.
    """
    by_name: dict[str, list[EntryPoint]] = {}
    for entry in entry_points(group=group):
        same_name = by_name.setdefault(entry.name, [])
        if all(other.value != entry.value for other in same_name):
            same_name.append(entry)
    return by_name


def _entry(group: str, name: str) -> EntryPoint:
    """The only entry point of a known name.

    Raises:
        RegistryError: several packages use the name.
    """
    entries = _entries(group)[name]
    if len(entries) > 1:
        values = " and ".join(entry.value for entry in entries)
        raise RegistryError(
            f"two entry points of group {group!r} are named {name!r}: {values}; rename or uninstall one"
        )
    return entries[0]


def names() -> list[str]:
    """The names of all attentions, sorted; imports nothing."""
    return sorted({*_entries(ATTENTIONS), *_added})


def added_names() -> frozenset[str]:
    """The names of the attentions that ``add`` registered in this process, which other processes do not know."""
    return frozenset(_added)


def task_names() -> list[str]:
    """The names of all tasks, sorted; imports nothing."""
    return sorted(_entries(TASKS))


def add(plugin: AttentionPlugin) -> None:
    """Register a plugin in this process only; an entry point registers one in every process.

    Raises:
        RegistryError: the name is already taken.
    """
    if plugin.name in names():
        raise RegistryError(f"attention {plugin.name!r} is already registered; known: {', '.join(names())}")
    _added[plugin.name] = plugin


def remove(name: str) -> None:
    """Remove a plugin that ``add`` registered.

    Raises:
        RegistryError: ``add`` did not register that name in this process.
    """
    if name not in _added:
        raise RegistryError(f"attention {name!r} was not added in this process; added: {sorted(_added)}")
    del _added[name]


def get(name: str) -> AttentionPlugin:
    """The plugin of that name.

    Raises:
        RegistryError: the name is unknown (the message lists the known ones), two packages use it, or the plugin does
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
    missing = [field for field in REQUIRED_STRINGS if not isinstance(getattr(plugin, field, None), str)]
    if missing:
        raise RegistryError(
            f"attention {name!r} ({entry.value}) has no {' and no '.join(missing)}; set each to a string in the plugin"
        )
    if plugin.name != name:
        raise RegistryError(
            f"entry point {name!r} ({entry.value}) loads a plugin named {plugin.name!r}; give both the same name"
        )
    return plugin


def get_task(name: str) -> Any:
    """The task of that name, a ``harness.tasks.task.Task`` (this package must not import ``harness.tasks``).

    Raises:
        RegistryError: as for ``get``.
    """
    if name not in task_names():
        raise RegistryError(f"unknown task {name!r}; known: {', '.join(task_names())}")
    return _load(_entry(TASKS, name))


@cache
def _load(entry: EntryPoint) -> Any:
    try:
        loaded = entry.load()
        return loaded() if isinstance(loaded, type) else loaded
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # third-party code can raise anything; the message becomes the reason
        raise RegistryError(f"{entry.name!r} ({entry.value}) does not load: {exception_text(error)}") from error
