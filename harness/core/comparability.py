"""Whether two runs or two cases can be compared: they need the same machine, software and settings."""

from harness.core.record import Record, Run

CHANGING_MACHINE_FIELDS = {"load_1min", "cuda_celsius", "cuda_memory_mhz"}
"""Fields of a machine's fingerprint that change from moment to moment on the same machine; they are not compared."""
BASE_AND_HEAD = ("base", "head")
"""Default names of the two runs in the messages."""


def run_differences(base: Run, head: Run, names: tuple[str, str] = BASE_AND_HEAD) -> list[str]:
    """Why the runs are not comparable, one message per difference; empty where they are.

    A message reads ``torch: base has 2.12.0, head 2.13.0``.

    Args:
        base: the first run.
        head: the second run.
        names: what the messages call the two runs.
    """
    messages = [
        _message(name, base.machine.get(name), head.machine.get(name), names)
        for name in sorted({*base.machine, *head.machine} - CHANGING_MACHINE_FIELDS)
        if base.machine.get(name) != head.machine.get(name)
    ]
    if base.profile != head.profile:
        messages.append(_message("profile", base.profile, head.profile, names))
    for name in ("dtype", "device"):
        base_values, head_values = _spec_values(base, name), _spec_values(head, name)
        if base_values and head_values and not base_values & head_values:
            messages.append(_message(name, ", ".join(sorted(base_values)), ", ".join(sorted(head_values)), names))
    return messages


def case_difference(base: Record, head: Record, names: tuple[str, str] = BASE_AND_HEAD) -> str | None:
    """The first timing setting in which two records of a case differ, as a message; None where they agree.

    A different kernel or a different default of the attention is not a difference in settings: finding the effect of
    such changes is the purpose of the regression gate.
    """
    if base.timing is None or head.timing is None:
        return None
    for name in ("threads", "flushed_bytes", "input_sets"):
        base_value, head_value = getattr(base.timing, name), getattr(head.timing, name)
        if base_value != head_value:
            return _message(name, base_value, head_value, names)
    return None


def _spec_values(run: Run, field: str) -> set[str]:
    return {str(getattr(record.spec, field)) for record in run.records}


def _message(what: str, base: object, head: object, names: tuple[str, str] = BASE_AND_HEAD) -> str:
    base_text, head_text = ("none" if value is None else value for value in (base, head))
    return f"{what}: {names[0]} has {base_text}, {names[1]} {head_text}"
