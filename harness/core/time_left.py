"""An estimate of how long the remaining cases of a run take."""

from collections.abc import Iterable


class TimeLeft:
    """Estimates how long the remaining cases take, from the duration of those that have ended.

    A case takes as long as the others of its kind took on average, or where none has ended as all others.
    """

    def __init__(self) -> None:
        self._seconds: dict[str, list[float]] = {}

    def add(self, kind: str, seconds: float) -> None:
        """A case of this kind has ended."""
        self._seconds.setdefault(kind, []).append(seconds)

    def seconds(self, kinds: Iterable[str]) -> float | None:
        """For remaining cases of these kinds; None before any case has ended."""
        everything = [seconds for durations in self._seconds.values() for seconds in durations]
        if not everything:
            return None
        means = {kind: sum(durations) / len(durations) for kind, durations in self._seconds.items()}
        overall = sum(everything) / len(everything)
        return sum(means.get(kind, overall) for kind in kinds)
