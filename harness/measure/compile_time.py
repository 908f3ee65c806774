"""Time that torch.compile has worked in this process; it counts that itself."""

import sys


def spent() -> float:
    """Seconds so far, forward and backward graphs; 0 where nothing was ever compiled."""
    counter = sys.modules.get("torch._dynamo.utils")
    return 0.0 if counter is None else float(counter.calculate_time_spent()["total_wall_time"])
