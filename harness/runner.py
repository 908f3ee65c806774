"""One case from its spec to its record. Whatever happens to it is a record."""

import os
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import nn

from harness import registry
from harness.measuring import conditions, inputs, memory, quality, timing, verify
from harness.measuring.timing import Effort
from harness.plugin import AttentionPlugin
from harness.record import Check, Divergence, Record
from harness.spec import AnySpec, ModelSpec, OperationSpec, QualitySpec, TaskSpec
from harness.training.diverged import Diverged

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


def run(spec: AnySpec, effort: Effort) -> Record:
    """Measure ``spec``. Raises nothing but KeyboardInterrupt and SystemExit.

    Returns:
        A record of status ok; unsupported, with the plugin's reasons; incorrect, with the checks that failed; diverged,
        with the seed and the step; oom; or crashed, with the exception and its innermost frames.
    """
    started, began = datetime.now(UTC), perf_counter()
    found: dict[str, Any] = {"status": "ok"}
    try:
        plugin = registry.get(spec.attention)
        found["knobs"] = plugin.knobs(spec)
        reasons = plugin.unsupported(spec)
        if reasons:
            found |= {"status": "unsupported", "reasons": reasons}
        else:
            found["kernel"] = plugin.kernel(spec)
            found |= _measure(plugin, spec, effort)
    except Incorrect as error:
        found |= {"status": "incorrect", "reasons": verify.failures(error.checks), "checks": error.checks}
    except Diverged as error:
        where = Divergence(seed=error.seed, step=error.step)
        found |= {"status": "diverged", "reasons": [str(error)], "divergence": where}
    except Exception as error:  # a plugin is somebody else's code: whatever it raises is the result
        found |= {"status": "oom" if _is_out_of_memory(error) else "crashed", "reasons": _reasons(error)}
    return Record(
        case_id=spec.case_id,
        spec=spec,
        started=started.isoformat(timespec="seconds"),
        took_seconds=perf_counter() - began,
        **found,
    )


def _measure(plugin: AttentionPlugin, spec: AnySpec, effort: Effort) -> dict[str, Any]:
    match spec:
        case OperationSpec():
            return _operation(plugin, spec, effort)
        case ModelSpec():
            return _model(plugin, spec, effort)
        case QualitySpec():
            module = plugin.build(spec)
            return {"quality": quality.errors(plugin, spec, module, inputs.make(spec))}
        case TaskSpec():
            from harness.training.shown import train_shown  # transformers' Trainer takes seconds to import

            checkpoints = os.environ.get(CHECKPOINTS)
            result = train_shown(spec, Path(checkpoints) if checkpoints else None)
            return {"task": result, "parameters": result.parameters}


def _operation(plugin: AttentionPlugin, spec: OperationSpec, effort: Effort) -> dict[str, Any]:
    given = inputs.make(spec)
    backward = spec.mode == "forward_backward"
    module = plugin.build(spec).train(backward)
    checks = verify.check(plugin, spec, module, given)
    if not all(one.passed for one in checks):
        raise Incorrect(checks)
    call, *others = (_call(module, one, backward) for one in [given, *_rotations(given)])
    held = [given.q, given.k, given.v, *module.parameters(), *([given.grad] if backward else [])]
    # no_grad and not inference_mode: it is what transformers' users run, and every plugin works under it.
    with torch.set_grad_enabled(backward):
        seen = conditions.observe(call, module, spec)
        found = timing.measure(call, spec.device, effort, others)
        peak = memory.peak(call, spec.device, held)
    work = dict(cost) if (cost := plugin.cost(spec)) is not None else None
    return {"checks": checks, "conditions": seen, "timing": found, "memory": peak, "work": work}


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


def _model(plugin: AttentionPlugin, spec: ModelSpec, effort: Effort) -> dict[str, Any]:
    from harness.measuring import largest_batch, model_agreement, models  # transformers takes seconds to import

    batch = None
    if spec.largest_batch:
        batch = largest_batch.find(spec)
        spec = spec.model_copy(update={"batch": batch})
    built = models.build(spec)
    checks = built.check()
    if all(one.passed for one in checks):
        checks += model_agreement.check(plugin, spec, built)
    if not all(one.passed for one in checks):
        raise Incorrect(checks)
    seen = conditions.observe(built.call, built.model, spec)
    found = timing.measure(built.call, spec.device, effort)
    peak = memory.peak(built.call, spec.device, built.held)
    return {
        "checks": checks,
        "conditions": seen,
        "timing": found,
        "memory": peak,
        "parameters": built.parameters,
        "batch": batch,
    }


def _is_out_of_memory(error: BaseException) -> bool:
    # torch's CPU allocator raises a bare RuntimeError with this text.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def _reasons(error: BaseException) -> list[str]:
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES:]
    where = [f"at {Path(frame.filename).name}:{frame.lineno} in {frame.name}" for frame in frames]
    return [f"{type(error).__name__}: {error}", *where]
