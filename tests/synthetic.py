"""Made-up runs for tests of the report and the gate: plausible numbers, every status, and unusual cases."""

from collections.abc import Sequence

import numpy as np

from harness.core.record import Check, Memory, Quality, Record, Run, Status, Swapped, TaskResult, Timing
from harness.core.spec import (
    AnySpec,
    Dtype,
    ModelSpec,
    OperationMode,
    OperationSpec,
    QualityInputs,
    QualitySpec,
    Scalar,
    TaskSpec,
)

LENGTHS = (128, 256, 512, 1024, 2048, 4096, 8192, 16384)
STARTED = "2026-01-02T03:04:05Z"
COSTS = {
    "softmax": (0.050, 2.0, 64e6, 2.0),
    "sdpa": (0.021, 1.95, 2.1e6, 1.0),
    "sdpa_flash": (0.0212, 1.95, 2.1e6, 1.0),
    "sdpa_math": (0.060, 2.0, 70e6, 2.0),
    "yoso": (0.011, 1.05, 4e6, 1.0),
    "yoso_e": (0.070, 2.0, 3e6, 1.0),
}
"""Per attention: seconds at length 1024, exponent of its growth, peak bytes at length 1024, exponent of its growth."""
UNSUPPORTED = {
    "xformers_cutlass": "device=cpu (supported: {'cuda'})",
    "xformers_flash2": "device=cpu (supported: {'cuda'}); operator wasn't built",
    "sdpa_cudnn": "torch has no cuDNN attention on a CPU",
}


def run(records: Sequence[Record], **changes: object) -> Run:
    """A run of these records on an example machine."""
    fields: dict[str, object] = {
        "started": STARTED,
        "command": "pytest suites/ --profile standard --benchmark-json=out.json",
        "profile": "standard",
        "commit": "0123456789abcdef+dirty",
        "machine": {"cpu": "Example CPU @ 2.0 GHz", "cores": 2, "torch": "2.13.0", "cuda_device": None},
        "records": list(records),
    }
    return Run.model_validate(fields | changes)


def record(spec: AnySpec, status: Status = "ok", **changes: object) -> Record:
    """A record without measurements; failures have a reason."""
    fields: dict[str, object] = {
        "case_id": spec.case_id,
        "spec": spec,
        "status": status,
        "reasons": [] if status == "ok" else [f"made up: {status}"],
        "kernel": f"{spec.attention} kernel" if status == "ok" else None,
        "started": STARTED,
        "took_seconds": 1.0,
    }
    return Record.model_validate(fields | changes)


def timed(
    spec: AnySpec, seconds: float, peak: float, rng: np.random.Generator, samples: int = 15, **more: object
) -> Record:
    wall_seconds = (seconds * np.exp(0.03 * rng.standard_normal(samples))).tolist()
    checks = [
        Check(what=what, error=float(rng.uniform(1e-7, 9e-7)), allowed=1e-6, passed=True)
        for what in ("output", "grad_q", "grad_k", "grad_v")
    ]
    changes: dict[str, object] = {
        "timing": Timing(wall_seconds=wall_seconds, warmup_calls=3, threads=2),
        "memory": Memory(peak_bytes=int(peak), input_bytes=spec.seq_len * 6144, source="torch CPU allocator"),
        "checks": checks,
    }
    return record(spec, **(changes | more))


def operation(
    attention: str, length: int, rng: np.random.Generator, mode: OperationMode = "forward", dtype: Dtype = "float32"
) -> Record:
    spec = OperationSpec(attention=attention, seq_len=length, mode=mode, dtype=dtype)
    if attention in UNSUPPORTED:
        return record(spec, "unsupported", reasons=[UNSUPPORTED[attention]])
    if attention in {"softmax", "sdpa_math"} and length >= 16384:
        return record(spec, "oom", reasons=["RuntimeError: not enough memory: you tried to allocate 8589934592 bytes."])
    if attention == "yoso_e" and mode == "forward_backward" and length >= 8192:
        return record(spec, "timeout", reasons=["still running after 60 s"])
    scale, power, peak, peak_power = COSTS[attention]
    factor = 2.6 if mode == "forward_backward" else 1.0
    seconds = factor * (scale * (length / 1024) ** power + 4e-5)
    knobs = {"num_hash": 32, "hash_code_len": length.bit_length() - 1} if attention == "yoso" else {}
    return timed(spec, seconds, factor * peak * (length / 1024) ** peak_power, rng, knobs=knobs)


def model(family: str, attention: str, length: int, rng: np.random.Generator, mode: str, head: str) -> Record:
    fields = {"family": family, "attention": attention, "seq_len": length, "mode": mode, "head": head}
    spec = ModelSpec.model_validate(fields)
    scale, power, peak, peak_power = COSTS[attention]
    family_factor = 3.0 if family == "transformers_yoso" else 1.0
    mode_factor = 3.0 if mode == "training_step" else 1.0
    seconds = mode_factor * (family_factor * scale * (length / 1024) ** power + 0.02 * length / 1024)
    return timed(
        spec,
        seconds,
        mode_factor * (peak * (length / 1024) ** peak_power + 3e7),
        rng,
        parameters=2_000_000 + length * 256,
    )


def quality(family: str, count: int, rng: np.random.Generator, inputs: QualityInputs = "matched") -> Record:
    knobs: dict[str, Scalar] = {"num_hash": count, "hash_family": family}
    spec = QualitySpec(attention="yoso", seq_len=1024, inputs=inputs, knobs=knobs)
    floor = 0.2 if family == "hadamard_dependent" else 0.0
    error_factor = 1.0 if inputs == "matched" else 0.5
    errors = {
        what: (
            error_factor * scale * np.hypot(1.5 / np.sqrt(count), floor) * np.exp(0.04 * rng.standard_normal(8))
        ).tolist()
        for what, scale in (("output", 1.0), ("grad_q", 1.4), ("grad_k", 1.4), ("grad_v", 1.0))
    }
    biases = {"output": (error_factor**2 * (floor**2 + 0.1 / count * rng.standard_normal(8))).tolist()}
    return record(spec, knobs=knobs, quality=Quality(reference="yoso_e", errors=errors, squared_bias=biases))


def task(attention: str, scores: list[float], swaps: Sequence[Swapped] = (), **changes: object) -> Record:
    spec = TaskSpec(attention=attention, seq_len=512, seeds=len(scores))
    fields: dict[str, object] = {
        "metric": "accuracy",
        "scores": scores,
        "train_seconds": [60.0] * len(scores),
        "eval_seconds": [0.25] * len(scores),
        "steps": [200] * len(scores),
        "chance": 0.1,
        "majority": 0.172,
        "data": "ListOps, generated",
        "train_memory": Memory(peak_bytes=2**24 + len(attention) * 2**20, input_bytes=2**20, source="made up"),
        "evaluated_with": list(swaps),
    }
    return record(spec, task=TaskResult.model_validate(fields | changes))


def swap(attention: str, scores: Sequence[float], reason: str | None = None, **knobs: Scalar) -> Swapped:
    return Swapped(
        attention=attention, knobs=knobs, scores=list(scores), eval_seconds=[0.125] * len(scores), reason=reason
    )


def realistic(
    lengths: Sequence[int] = LENGTHS, modes: Sequence[OperationMode] = ("forward", "forward_backward")
) -> Run:
    """A run with the cases of the standard profile on a CPU, including failures of every kind."""
    rng = np.random.default_rng(0)
    records = [
        operation(attention, length, rng, mode)
        for attention in (*COSTS, *UNSUPPORTED)
        for length in lengths
        for mode in modes
    ]
    failed_check = Check(what="output", error=0.7, allowed=1e-6, passed=False)
    broken = OperationSpec(attention="broken", seq_len=512)
    records.append(record(broken, "incorrect", reasons=["output differs: 0.7 > 1e-06"], checks=[failed_check]))
    records.append(record(OperationSpec(attention="broken", seq_len=1024), "crashed", reasons=["SIGSEGV in worker"]))
    for length in [n for n in lengths if n <= 4096]:
        for mode in ("forward", "training_step"):
            for attention in ("yoso", "yoso_e", "softmax", "sdpa"):
                records.append(model("yoso", attention, length, rng, mode, "encoder"))
            records.append(model("bert", "sdpa", length, rng, mode, "encoder"))
            records.append(model("transformers_yoso", "yoso_e", length, rng, mode, "encoder"))
        records.append(model("yoso", "yoso", length, rng, "forward", "question_answering"))
        records.append(model("yoso", "sdpa", length, rng, "forward", "question_answering"))
    made_up: tuple[QualityInputs, ...] = ("matched", "clustered")
    records += [
        quality(family, count, rng, inputs)
        for inputs in made_up
        for family in ("gaussian", "hadamard", "hadamard_dependent")
        for count in (8, 16, 32, 64, 128)
    ]
    fewer = [swap("yoso", scores, num_hash=m) for m, scores in ((8, [0.251, 0.297]), (32, [0.333, 0.347]))]
    refused = swap("sdpa_cudnn", [], "torch has no cuDNN attention on a CPU")
    records += [
        task("yoso", [0.352, 0.361]),
        task("yoso_e", [0.37, 0.362], [*fewer, swap("softmax", [0.187, 0.191]), refused]),
        task("softmax", [0.366, 0.358]),
    ]
    diverged = "loss is nan: seed 0, step 12"
    records.append(record(TaskSpec(attention="broken", seq_len=512), "diverged", reasons=[diverged]))
    return run(records)
