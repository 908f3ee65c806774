"""Says why a case is incorrect: one cause once, with the place where it is worst, and what else failed by name."""

from collections.abc import Sequence

from harness.core.record import CHANGED_INPUTS, MEAN_DEVIATION, NEIGHBOUR, NEIGHBOURS, Check

NAMED = 5
"""Further failed checks that are named; the others are counted."""


def reasons(checks: Sequence[Check]) -> list[str]:
    """One sentence about the cause, and one about the other failed checks.

    The cause is that the call changed its inputs, or the first known mistake that a result equals, or else the first
    failed check.

    A single fault fails many checks: the output in total, in its worst head and row, all gradients, a second call, and
    most neighbours. Every failed check is in the record; the sentences are for a reader.

    Returns:
        Nothing if every check passed.
    """
    failed = [check for check in checks if not check.passed]
    if not failed:
        return []
    causes = [check for check in failed if check.what == CHANGED_INPUTS] or [
        check for check in failed if check.equals is not None
    ]
    first = (causes or failed)[0]
    parts = [check for check in failed if check is not first and check.what.startswith(f"{first.what}, ")]
    others = [check for check in failed if check is not first and check not in parts]
    sentence = failure(first)
    places = [check.where for check in parts if check.where is not None and not check.what.endswith(MEAN_DEVIATION)]
    places = [place for place in places if not any(other.endswith(f"of {place}") for other in places)]
    if places:
        sentence += f", worst in {' and in '.join(places)}"
    if first.equals is not None:
        sentence += f"; it equals {first.equals}"
    return [sentence, *_others(others)]


def failure(check: Check) -> str:
    """What failed, where, its error and the allowed error."""
    if check.error is None and check.allowed == 0:  # the words say all: a wrong shape, an exception, no gradient
        return check.what
    error = "not finite" if check.error is None else f"{check.error:.3g}"
    where = "" if check.where is None else f": {check.where}"
    return f"{check.what}{where}: error {error}, allowed {check.allowed:.3g}"


def _others(failed: Sequence[Check]) -> list[str]:
    """The other failed checks by name, without the parts of those that are named; neighbours are counted."""
    names = [check.what for check in failed]
    whole = [name for name in names if not any(name.startswith(f"{other}, ") for other in names)]
    neighbours = [name for name in whole if name.startswith(f"{NEIGHBOUR} ")]
    own = [name for name in whole if name not in neighbours and not name.startswith(f"{NEIGHBOURS}: ")]
    shown = own[:NAMED]
    if len(own) > NAMED:
        shown.append(f"{len(own) - NAMED} more")
    if neighbours:
        shown.append(f"{len(neighbours)} neighbouring size{'' if len(neighbours) == 1 else 's'}")
    return [f"also wrong: {', '.join(shown)}"] if shown else []
