"""Time that torch.compile has worked in this process; it counts that itself."""

from yoso.torch_private import compile_seconds


def spent() -> float:
    """Seconds so far, forward and backward graphs; 0 where nothing was ever compiled."""
    return compile_seconds()
