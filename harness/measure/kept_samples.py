"""Which timed results are kept for verification: those of the first sample, of the last, and of a random one."""

import secrets
from typing import Generic, TypeVar

from torch import Tensor

from harness.core.record import TIMED_CALL, Check
from harness.measure.timing import Purpose

FIRST, RANDOM, LAST = "the first", "a random one", "the last"
Result = TypeVar("Result")


class KeptSamples(Generic[Result]):
    """The results that are kept of the samples so far; of a name the newest."""

    def __init__(self) -> None:
        self._samples = 0
        self._names: list[str] = []
        self._by_name: dict[str, Result] = {}

    def begin(self, purpose: Purpose) -> bool:
        """A sample or a warm-up call begins: whether its result will be kept.

        Of all samples after the first, each is the random one with the same probability.
        """
        if purpose == "warm-up":
            self._names = []
            return False
        number = self._samples
        self._samples += 1
        is_random = number > 0 and secrets.randbelow(number) == 0
        chosen = {FIRST: number == 0, RANDOM: is_random, LAST: purpose == "last sample"}
        self._names = [name for name, is_chosen in chosen.items() if is_chosen]
        return bool(self._names)

    def keep(self, result: Result) -> None:
        """Keep the result of the sample that began last."""
        self._by_name |= dict.fromkeys(self._names, result)

    def distinct(self) -> list[tuple[str, Result]]:
        """The kept results with their names, each once: the last sample is that, also where it is the random one."""
        in_order = [(name, self._by_name[name]) for name in (FIRST, RANDOM, LAST) if name in self._by_name]
        return list({id(result): (name, result) for name, result in in_order}.values())


def of_timed_call(check: Check, name: str, number: int, calls: int) -> Check:
    """The check as one of a timed call; warm-up calls count in its number, too."""
    return check.inside(TIMED_CALL, f"{name}, call {number + 1} of {calls}")


def in_own_memory(tensor: Tensor) -> Tensor:
    """A copy in new memory, on the CPU: the module may write to the tensor again, and device memory may be short."""
    detached = tensor.detach()
    return detached.clone() if detached.device.type == "cpu" else detached.cpu()
