"""One case from its spec to its record. Whatever happens to it is a record."""

import os
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from harness.core import registry
from harness.core.plugin import AttentionPlugin
from harness.core.record import Check, Divergence, Memory, Record, Timing
from harness.core.spec import AnySpec, Effort, ModelSpec, OperationSpec, QualitySpec, TaskSpec
from harness.measure import compile_time, conditions, inputs, launches, memory, quality, timing, verify
from harness.training.divergence import Diverged

CHECKPOINTS = "HARNESS_CHECKPOINTS"
"""The environment variable that names the folder in which trainings are kept and resumed; also for other processes."""
FRAMES = 3
"""Innermost frames of a crash that its record keeps."""
INPUT_SETS = 3
INPUT_BYTES = 2**33
"""What the rotated inputs of a case may take together."""


class Incorrect(Exception):
    """The case computes something else than it says."""

    def __init__(self, checks: list[Check]) -> None:
        super().__init__("; ".join(verify.failures(checks)))
        self.checks = checks


@dataclass(frozen=True)
class Prepared:
    """A verified case that waits to be timed: its call, on one set of inputs or more, and what it found so far."""

    spec: OperationSpec | ModelSpec
    module: nn.Module
    calls: list[Callable[[], Any]]
    held: list[Tensor]
    backward: bool
    found: dict[str, Any]

    def time(self, effort: Effort) -> Timing:
        """Samples of the call, warmed up before."""
        with self.mode():
            return timing.measure(self.calls[0], self.spec.device, effort, self.calls[1:])

    def peak(self) -> Memory:
        """Peak memory of the call."""
        with self.mode():
            return memory.peak(self.calls[0], self.spec.device, self.held)

    def observed(self) -> dict[str, Any]:
        """What a call does, as fields of the record; not its kernels, see ``kernel_launches``."""
        with self.mode():
            return {"conditions": conditions.observe(self.calls[0], self.module, self.spec)}

    def mode(self) -> AbstractContextManager[None]:
        """Gradients on or off, as the call has them."""
        # no_grad and not inference_mode: it is what transformers' users run, and every plugin works under it.
        return torch.set_grad_enabled(self.backward)


def run(spec: AnySpec, effort: Effort) -> Record:
    """Measure ``spec``. Raises nothing but KeyboardInterrupt and SystemExit.

    Returns:
        A record of status ok; unsupported, with the plugin's reasons; incorrect, with the checks that failed; diverged,
        with the seed and the step; oom; or crashed, with the exception and its innermost frames.
    """

    def measure(plugin: AttentionPlugin) -> dict[str, Any]:
        found = _untimed(plugin, spec, verified=False)
        if isinstance(found, Prepared):
            return {**found.found, "timing": found.time(effort), "memory": found.peak(), **found.observed()}
        return found

    return _recorded(spec, measure)


def prepare(spec: AnySpec, verified: bool, observed: bool) -> tuple[Record, Prepared | None]:
    """Everything that ``run`` does but the timing: the record, and what can be timed where that is of status ok.

    Args:
        spec: the case.
        verified: it was verified before, in a process of the same code; the checks are left out.
        observed: so was what a call does and takes; conditions, kernel launches and memory are left out.
    """
    prepared: list[Prepared] = []

    def measure(plugin: AttentionPlugin) -> dict[str, Any]:
        found = _untimed(plugin, spec, verified)
        if not isinstance(found, Prepared):
            return found
        if verified:
            with found.mode():
                found.calls[0]()  # what the first call alone allocates is not the case's; verification has called it
        measured = found.found if observed else {**found.found, "memory": found.peak(), **found.observed()}
        prepared.append(found)
        return measured

    record = _recorded(spec, measure)
    return record, prepared[0] if prepared else None


def kernel_launches(spec: AnySpec) -> int | None:
    """Kernels of one call of a case that was found right, on a CUDA device; None where there is nothing to count.

    To be asked in a process that times nothing afterwards (see ``harness.measure.launches``).
    """
    found = _untimed(registry.get(spec.attention), spec, verified=True)
    if not isinstance(found, Prepared):
        return None
    with found.mode():
        found.calls[0]()
        return launches.count(found.calls[0], spec.device)


def _recorded(spec: AnySpec, measure: Callable[[AttentionPlugin], dict[str, Any]]) -> Record:
    started, began, compiled = datetime.now(UTC), perf_counter(), compile_time.spent()
    found: dict[str, Any] = {"status": "ok"}
    try:
        plugin = registry.get(spec.attention)
        found["exact_softmax"] = plugin.exact_softmax
        found["knobs"] = plugin.knobs(spec)
        reasons = plugin.unsupported(spec)
        if reasons:
            found |= {"status": "unsupported", "reasons": reasons}
        else:
            found["kernel"] = plugin.kernel(spec)
            found |= measure(plugin)
            found["compile_seconds"] = compile_time.spent() - compiled or None
    except Incorrect as error:
        found |= {"status": "incorrect", "reasons": verify.failures(error.checks), "checks": error.checks}
    except Diverged as error:
        where = Divergence(seed=error.seed, step=error.step)
        found |= {"status": "diverged", "reasons": [str(error)], "divergence": where}
    except Exception as error:  # a plugin is somebody else's code: whatever it raises is the result
        found |= failure(error)
    return Record(
        case_id=spec.case_id,
        spec=spec,
        started=started.isoformat(timespec="seconds"),
        took_seconds=perf_counter() - began,
        **found,
    )


def failure(error: Exception) -> dict[str, Any]:
    """Status, oom or crashed, and reasons of a case that raised ``error``."""
    return {"status": "oom" if _is_out_of_memory(error) else "crashed", "reasons": _reasons(error)}


def _untimed(plugin: AttentionPlugin, spec: AnySpec, verified: bool) -> "Prepared | dict[str, Any]":
    match spec:
        case OperationSpec():
            return _operation(plugin, spec, verified)
        case ModelSpec():
            return _model(plugin, spec, verified)
        case QualitySpec():
            module = plugin.build(spec)
            return {"quality": quality.errors(plugin, spec, module, inputs.make(spec))}
        case TaskSpec():
            from harness.training.progress import train_shown  # transformers' Trainer takes seconds to import

            checkpoints = os.environ.get(CHECKPOINTS)
            result = train_shown(spec, Path(checkpoints) if checkpoints else None)
            return {"task": result, "parameters": result.parameters}


def _operation(plugin: AttentionPlugin, spec: OperationSpec, verified: bool) -> Prepared:
    given = inputs.make(spec)
    backward = spec.mode == "forward_backward"
    module = plugin.build(spec).train(backward)
    checks = [] if verified else verify.check(plugin, spec, module, given)
    if not all(one.passed for one in checks):
        raise Incorrect(checks)
    calls = [_call(module, one, backward) for one in [given, *_rotations(given)]]
    held = [given.q, given.k, given.v, *module.parameters(), *([given.grad] if backward else [])]
    work = plugin.cost(spec)
    found = {"checks": checks, "work": None if work is None else dict(work)}
    return Prepared(spec, module, calls, held, backward, found)


def _call(module: nn.Module, given: inputs.Inputs, backward: bool) -> Callable[[], Any]:
    q, k, v = (x.detach().requires_grad_(backward) for x in (given.q, given.k, given.v))

    def call() -> Any:
        out = module(q, k, v, given.key_padding_mask)
        return torch.autograd.grad(out, (q, k, v), given.grad) if backward else out

    return call


def _rotations(given: inputs.Inputs) -> list[inputs.Inputs]:
    """Other inputs for the samples to take in turn, on CUDA, so that nothing of a call before is of use to the next."""
    bytes_a_set = 4 * given.q.nbytes
    sets = min(INPUT_SETS, INPUT_BYTES // bytes_a_set) if given.q.is_cuda else 1
    found = [given]
    while len(found) < sets:
        found.append(inputs.rotated(found[-1]))
    return found[1:]


def _model(plugin: AttentionPlugin, spec: ModelSpec, verified: bool) -> Prepared:
    from harness.measure import largest_batch, model_agreement
    from harness.models import model_case

    batch = None
    if spec.largest_batch:
        batch = largest_batch.find(spec)
        spec = spec.model_copy(update={"batch": batch})
    built = model_case.build(spec)
    checks = [] if verified else built.check()
    if not verified and all(one.passed for one in checks):
        checks += model_agreement.check(plugin, spec, built)
    if not all(one.passed for one in checks):
        raise Incorrect(checks)
    found = {"checks": checks, "parameters": built.parameters, "batch": batch}
    return Prepared(spec, built.model, [built.call], list(built.held), True, found)


def _is_out_of_memory(error: BaseException) -> bool:
    # torch's CPU allocator raises a bare RuntimeError with this text.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def _reasons(error: BaseException) -> list[str]:
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES:]
    where = [f"at {Path(frame.filename).name}:{frame.lineno} in {frame.name}" for frame in frames]
    return [f"{type(error).__name__}: {error}", *where]
