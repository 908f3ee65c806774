"""The registered attentions that approximate another one, and the knob that buys each of them accuracy."""

import torch

from harness.core import registry


def budget_of(name: str) -> str | None:
    """The knob that buys an approximation's accuracy; None where the plugin declares none, or does not load.

    A plugin that does not load becomes a record with that reason in the operation's cases.
    """
    try:
        plugin = registry.get(name)
    except registry.RegistryError:
        return None
    return plugin.budget if plugin.estimates else None


def approximations(device: str) -> tuple[str, ...]:
    """Every attention for this type of device whose plugin declares ``estimates`` and ``budget``."""
    of_type = torch.device(device).type
    return tuple(
        name
        for name in registry.names()
        if budget_of(name) is not None and of_type in registry.get(name).capabilities.devices
    )
