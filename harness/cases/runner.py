"""Runs a case from its spec to its record. Every failure becomes a record with a status and a reason."""

import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

import torch

from harness.cases import prepared
from harness.cases.prepared import Incorrect, PreparedCase, RecordFields
from harness.core import registry
from harness.core.plugin import AttentionPlugin
from harness.core.record import Divergence, Record
from harness.core.spec import AnySpec, Effort
from harness.measure import launches, verify
from harness.training import Diverged
from yoso.torch_private import compile_seconds

TRACEBACK_FRAMES = 3
"""Innermost frames of a crash that its record keeps."""


def run(spec: AnySpec, effort: Effort) -> Record:
    """Measure ``spec``. Raises only KeyboardInterrupt and SystemExit.

    Returns:
        A record of status ok; unsupported, with the plugin's reasons; incorrect, with the checks that failed; diverged,
        with the seed and the step; oom; or crashed, with the exception and its innermost frames.
    """

    def measure(plugin: AttentionPlugin) -> RecordFields:
        case = prepared.prepare(plugin, spec, verified=False)
        if not isinstance(case, PreparedCase):
            return case
        timing, memory, conditions = case.time(effort), case.peak_memory(), case.conditions()
        return {**case.fields, "timing": timing, "memory": memory, "conditions": conditions}

    return _recorded(spec, measure)


def prepare(spec: AnySpec, verified: bool, observed: bool) -> tuple[Record, PreparedCase | None]:
    """Do everything that ``run`` does except the timing.

    Args:
        spec: the case.
        verified: skip the checks, because a process of the same code has already verified the case.
        observed: skip memory and conditions, because they are already known too.

    Returns:
        The record, and the case to time if the status is ok and the kind of case is timed.
    """
    ready: list[PreparedCase] = []

    def measure(plugin: AttentionPlugin) -> RecordFields:
        case = prepared.prepare(plugin, spec, verified)
        if not isinstance(case, PreparedCase):
            return case
        if verified:
            with case.grad_mode():
                case.calls[0]()  # verification would have made the first call, which allocates more than later ones
        fields = case.fields
        if not observed:
            memory, conditions = case.peak_memory(), case.conditions()
            fields = {**fields, "memory": memory, "conditions": conditions}
        ready.append(case)
        return fields

    record = _recorded(spec, measure)
    return record, ready[0] if ready else None


def kernel_launches(spec: AnySpec) -> int | None:
    """Kernels of one call of a verified case on a CUDA device; None if there is nothing to count.

    Call this only in a process that times nothing afterwards (see ``harness.measure.launches``).
    """
    case = prepared.prepare(registry.get(spec.attention), spec, verified=True)
    if not isinstance(case, PreparedCase):
        return None
    with case.grad_mode():
        case.calls[0]()
        return launches.count(case.calls[0], spec.device)


def _recorded(spec: AnySpec, measure: Callable[[AttentionPlugin], RecordFields]) -> Record:
    """The record of ``measure``, or of the reason why it was not called or failed."""
    started, began, compiled_before = datetime.now(UTC), perf_counter(), compile_seconds()
    fields: RecordFields = {"status": "ok"}
    try:
        plugin = registry.get(spec.attention)
        fields["exact_softmax"] = plugin.exact_softmax
        fields["knobs"] = plugin.knobs(spec)
        reasons = plugin.unsupported(spec)
        if reasons:
            fields |= {"status": "unsupported", "reasons": reasons}
        else:
            fields["kernel"] = plugin.kernel(spec)
            fields |= measure(plugin)
            fields["compile_seconds"] = compile_seconds() - compiled_before or None
    except Incorrect as error:
        fields |= {"status": "incorrect", "reasons": verify.failures(error.checks), "checks": error.checks}
    except Diverged as error:
        where = Divergence(seed=error.seed, step=error.step)
        fields |= {"status": "diverged", "reasons": [str(error)], "divergence": where}
    except Exception as error:  # a plugin may be third-party code: whatever it raises is the result
        fields |= failure(error)
    return Record(
        case_id=spec.case_id,
        spec=spec,
        started=started.isoformat(timespec="seconds"),
        took_seconds=perf_counter() - began,
        **fields,
    )


def failure(error: Exception) -> RecordFields:
    """Status (oom or crashed) and reasons of a case that raised ``error``."""
    return {"status": "oom" if _is_out_of_memory(error) else "crashed", "reasons": _reasons(error)}


def _is_out_of_memory(error: BaseException) -> bool:
    # torch's CPU allocator raises a bare RuntimeError with this text.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def _reasons(error: BaseException) -> list[str]:
    frames = traceback.extract_tb(error.__traceback__)[-TRACEBACK_FRAMES:]
    where = [f"at {Path(frame.filename).name}:{frame.lineno} in {frame.name}" for frame in frames]
    return [f"{type(error).__name__}: {error}", *where]
