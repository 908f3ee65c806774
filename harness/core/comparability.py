"""Whether two runs can be compared at all: the same machine, the same software, the same settings."""

from harness.core.record import Record, Run

PASSING = {"load_1min", "cuda_celsius", "cuda_memory_mhz"}
"""What a machine's fingerprint says of the moment and not of the machine."""
SIDES = ("base", "head")
"""What the two runs are called by themselves."""


def differences(base: Run, head: Run, names: tuple[str, str] = SIDES) -> list[str]:
    """What was not the same, one line each, as ``torch: base has 2.12.0, head 2.13.0``; none where all was."""
    found = [
        _line(name, base.machine.get(name), head.machine.get(name), names)
        for name in sorted({*base.machine, *head.machine} - PASSING)
        if base.machine.get(name) != head.machine.get(name)
    ]
    if base.profile != head.profile:
        found.append(_line("profile", base.profile, head.profile, names))
    for name in ("dtype", "device"):
        one, other = _values(base, name), _values(head, name)
        if one and other and not one & other:
            found.append(_line(name, ", ".join(sorted(one)), ", ".join(sorted(other)), names))
    return found


def case_difference(base: Record, head: Record) -> str | None:
    """What of one case's settings was not the same; a kernel or a default that changed is what the gate is for."""
    one, other = base.timing, head.timing
    if one is None or other is None:
        return None
    for name in ("threads", "flushed_bytes", "input_sets"):
        if getattr(one, name) != getattr(other, name):
            return _line(name, getattr(one, name), getattr(other, name))
    return None


def _values(run: Run, name: str) -> set[str]:
    return {str(getattr(record.spec, name)) for record in run.records}


def _line(what: str, base: object, head: object, names: tuple[str, str] = SIDES) -> str:
    words = ["none" if one is None else one for one in (base, head)]
    return f"{what}: {names[0]} has {words[0]}, {names[1]} {words[1]}"
