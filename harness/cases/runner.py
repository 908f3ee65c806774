"""Runs a case from its spec to its record. Every failure becomes a record with a status and a reason."""

import traceback
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

import torch
from pydantic import ValidationError

from harness.cases import prepared
from harness.cases.prepared import Incorrect, PreparedCase, RecordFields
from harness.core import registry
from harness.core.knobs import plain_knobs
from harness.core.plugin import AttentionPlugin, ContractError
from harness.core.record import Divergence, Record
from harness.core.record_text import clean_reasons, clean_text, exception_text
from harness.core.spec import AnySpec, Effort, QualitySpec
from harness.core.stored_values import first_fault, first_type_fault
from harness.measure import failure_reasons, launches, neighbours, recordings
from harness.measure.sampled_rows import OracleFailure, OracleTimeout
from harness.training import Diverged
from yoso.torch_private import compile_seconds

TRACEBACK_FRAMES = 3
"""Innermost frames of a crash that its record keeps."""
TIMING_ATTEMPTS = 3
"""A case is sampled again, up to this many times in all, while other processes disturb it."""


def run(spec: AnySpec, effort: Effort) -> Record:
    """Measure ``spec``. Raises only KeyboardInterrupt: everything else that a plugin raises becomes a record.

    A KeyboardInterrupt is taken for the user's, also where a plugin raises it. In a process of its own it then ends
    that process and not the run.

    Returns:
        A record of status ok; unsupported, with the plugin's reasons; incorrect, with the checks that failed; diverged,
        with the seed and the step; oom; or crashed, with the exception and its innermost frames.
    """

    def measure(plugin: AttentionPlugin) -> RecordFields:
        case = prepared.prepare(plugin, spec, verified=False)
        if not isinstance(case, PreparedCase):
            return case
        timing = case.time(effort, TIMING_ATTEMPTS)
        case.verify_timed_calls()
        memory, conditions = case.peak_memory(), case.conditions()
        return {**case.fields, "timing": timing, "memory": memory, "conditions": conditions}

    return _recorded(spec, measure)


def prepare(
    spec: AnySpec, verified: bool, observed: bool, inputs_seed: int | None = None
) -> tuple[Record, PreparedCase | None]:
    """Do everything that ``run`` does except the timing.

    Args:
        spec: the case.
        verified: skip the checks, because a process of the same code has already verified the case.
        observed: skip memory and conditions, because they are already known too.
        inputs_seed: seed of the inputs of the timed calls; None: drawn from entropy.

    Returns:
        The record, and the case to time if the status is ok and the kind of case is timed.
    """
    ready: list[PreparedCase] = []

    def measure(plugin: AttentionPlugin) -> RecordFields:
        case = prepared.prepare(plugin, spec, verified, observed, inputs_seed)
        if not isinstance(case, PreparedCase):
            return case
        if verified:
            with case.grad_mode():
                case.call()  # verification would have made the first call, which allocates more than later ones
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
    case = prepared.prepare(registry.get(spec.attention), spec, verified=True, observed=True)
    if not isinstance(case, PreparedCase):
        return None
    with case.grad_mode():
        case.call()
        return launches.count(case.call, spec.device)


def _recorded(spec: AnySpec, measure: Callable[[AttentionPlugin], RecordFields]) -> Record:
    """The record of ``measure``, or of the reason why it was not called or failed."""
    started, began, compiled = datetime.now(UTC), perf_counter(), _Compiled()
    fields: RecordFields = {"status": "ok"}
    try:
        plugin = registry.get(spec.attention)
        fields["exact_softmax"] = plugin.exact_softmax
        fields["knobs"] = plain_knobs(plugin, spec)
        reasons = _unsupported(plugin, spec)
        if reasons:
            fields |= {"status": "unsupported", "reasons": reasons}
        else:
            fields["kernel"] = _kernel(plugin, spec)
            fields |= measure(plugin)
            fields["compile_seconds"] = compiled.seconds() or None
    except Diverged as error:
        where = Divergence(seed=error.seed, step=error.step)
        fields |= {"status": "diverged", "reasons": [str(error)], "divergence": where}
    except KeyboardInterrupt:  # the user's
        raise
    except BaseException as error:  # a plugin may be third-party code: whatever it raises is the result
        fields |= failure(error)
    return _storable_record(spec, started.isoformat(timespec="seconds"), perf_counter() - began, fields)


class _Compiled:
    """Counts the seconds that ``torch.compile`` works on a case, from now on and without its neighbours."""

    def __init__(self) -> None:
        self._before, self._resets = compile_seconds(), neighbours.resets()

    def seconds(self) -> float:
        """So far. The neighbours come first, and torch counts from zero again after they were compiled."""
        is_counted_anew = neighbours.resets() > self._resets
        return compile_seconds() - (0.0 if is_counted_anew else self._before)


def _storable_record(spec: AnySpec, started: str, seconds: float, fields: RecordFields) -> Record:
    """The record of ``fields``; a crashed one that says why, if a plugin's values in them cannot be stored."""
    try:
        fields["reasons"] = clean_reasons(fields.get("reasons", []))
        fields["checks"] = [
            check.model_copy(update={"what": clean_text(check.what)}) for check in fields.get("checks", [])
        ]
        record = Record(case_id=spec.case_id, spec=spec, started=started, took_seconds=seconds, **fields)
        fault = first_fault(record.model_dump())  # no reader of the file would take it
        if fault is not None:
            raise ContractError(fault)
    except Exception as error:
        why = first_type_fault(error) if isinstance(error, ValidationError) else exception_text(error)
        reason = clean_text(f"the values that its plugin gave cannot be stored: {why}")
        record = Record(
            case_id=spec.case_id, spec=spec, status="crashed", reasons=[reason], started=started, took_seconds=seconds
        )
    return record


def _unsupported(plugin: AttentionPlugin, spec: AnySpec) -> list[str]:
    """The plugin's reasons against the case, and why there are no inputs for it.

    Raises:
        ContractError: they are not a list of sentences.
    """
    reasons = plugin.unsupported(spec)
    if not isinstance(reasons, list | tuple):
        raise ContractError(f"`unsupported` must return a list of sentences, got a {type(reasons).__name__}")
    if not all(isinstance(reason, str) and reason.strip() for reason in reasons):
        raise ContractError(f"`unsupported` must return a list of sentences, got {list(reasons)}")
    no_inputs = recordings.unavailable(spec) if isinstance(spec, QualitySpec) and spec.inputs == "recorded" else None
    return [*reasons, *([no_inputs] if no_inputs else [])]


def _kernel(plugin: AttentionPlugin, spec: AnySpec) -> str:
    """The plugin's name of the implementation.

    Raises:
        ContractError: it is not text.
    """
    kernel = plugin.kernel(spec)
    if not isinstance(kernel, str):
        raise ContractError(f"`kernel` must return the implementation's name, got a {type(kernel).__name__}")
    return clean_text(kernel)


def failure(error: BaseException) -> RecordFields:
    """Status and reasons of a case that raised ``error``, and the failed checks of an incorrect one."""
    if isinstance(error, Incorrect):
        return {"status": "incorrect", "reasons": failure_reasons.reasons(error.checks), "checks": error.checks}
    if isinstance(error, OracleTimeout):
        return {"status": "timeout", "reasons": [str(error)]}
    return {"status": "oom" if _is_out_of_memory(error) else "crashed", "reasons": _reasons(error)}


def _is_out_of_memory(error: BaseException) -> bool:
    # torch's CPU allocator raises a bare RuntimeError with this text.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in clean_text(error)


def _reasons(error: BaseException) -> list[str]:
    # Where an oracle failed is in the exception that it raised, and not where the verification reports this.
    raised = error.__cause__ if isinstance(error, OracleFailure) and error.__cause__ is not None else error
    # Not traceback.extract_tb, which reads the source through the loader of a plugin's module.
    frames = deque(traceback.walk_tb(raised.__traceback__), maxlen=TRACEBACK_FRAMES)
    codes = [(frame.f_code, line) for frame, line in frames]
    where = [f"at {Path(code.co_filename).name}:{line} in {code.co_name}" for code, line in codes]
    return clean_reasons([exception_text(error), *where])
