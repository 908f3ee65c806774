"""Time every CUDA kernel and compare it with its floor: ``python suites/studies/kernel_times.py kernels.json``.

A kernel's floor is the longest of the times that its bytes and its operations take at the ceilings that
``harness.measure.ceilings`` measures on the same device. A kernel that is limited by both cannot reach 100 %. Times
come from torch's profiler; they are medians over calls with alternating inputs, with the L2 cache flushed before each
call. They do not include the host and launch latency, which ``pytest suites`` measures.
"""

import argparse
import json
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from harness.measure import ceilings
from yoso.attention import yoso_e, yoso_sampling
from yoso.build import jit
from yoso.ops import operators
from yoso.ops.hashing import draw_planes
from yoso.torch_private import profiler_events

CALLS = 6
SACRIFICED_LAUNCHES = 64
"""Launches before the measured calls, because the profiler may lose records at the start of a session."""
FLUSH_BYTES = 2**27


@dataclass(frozen=True)
class Shape:
    """Self-attention in bfloat16: B * H = ``heads``, n, d, m and tau."""

    heads: int
    length: int
    dim: int
    num_hash: int
    hash_code_len: int
    hash_family: str = "hadamard"

    @property
    def vectors(self) -> int:
        """Number of rows of query, key or value."""
        return self.heads * self.length

    @property
    def row_bytes(self) -> int:
        """Bytes of a row in bfloat16."""
        return 2 * self.dim


SHAPES = (
    Shape(64, 4096, 64, 32, 12),
    Shape(64, 16384, 64, 32, 14),
    Shape(64, 65536, 64, 32, 16),
    Shape(64, 4096, 64, 32, 8),
    Shape(64, 4096, 64, 32, 12, "gaussian"),
    Shape(64, 4096, 64, 32, 12, "hadamard_authors"),
)
LONGEST_EXPECTATION = 4096
SORTS = 3
"""Sorts in a forward and a backward call: of the keys, and again of the keys and of the queries."""
CROWDED = 8
"""Average number of colliding keys per query and hash from which on most buckets are crowded."""


@dataclass(frozen=True)
class KernelTime:
    """A kernel's time in one call, summed over its launches, and its floors."""

    seconds: float
    launches: int
    floor_seconds: dict[str, float]
    """By ceiling; empty for a kernel without a floor."""
    fraction: float | None
    """The largest floor divided by ``seconds``."""


@dataclass(frozen=True)
class ShapeTimes:
    """All kernels of a call, forward and backward, of one shape."""

    shape: Shape
    colliding_pairs: float
    kernels: dict[str, KernelTime]


def floors(kernel: str, shape: Shape, pairs: float) -> dict[str, float] | None:
    """The least bytes and operations of all launches of a kernel in one call, by ceiling; None without a floor.

    If most buckets are crowded, their pairs are not gathered one by one, and how many are is not known here, so the
    kernels that gather have no floor. A Gaussian direction takes two float16 products, a Hadamard direction one.

    Args:
        kernel: the kernel's name, from ``short_name``.
        shape: the shape of the call.
        pairs: the number of colliding pairs, summed over heads and hashes.
    """
    tensor, hashes = shape.vectors * shape.row_bytes, shape.vectors * shape.num_hash
    products = 2 * shape.vectors * shape.length * shape.dim
    parts = 2 if shape.hash_family == "gaussian" else 1
    directions = shape.heads * shape.num_hash * shape.hash_code_len * shape.dim
    by_kernel: dict[str, dict[str, float]] = {
        "codes_kernel": {
            "matmul float16": 2 * parts * 2.0 * hashes * shape.hash_code_len * shape.dim,
            "copy": 2.0 * (tensor + 2 * hashes),
        },
        "directions_kernel": {"copy": 2 * parts * 2.0 * directions},
        "sort_codes": {"copy": SORTS * 12.0 * hashes},
        "unit_rows": {"copy": 2.0 * tensor},
        "unit_rows_backward": {"copy": 3.0 * tensor},
        "expectation": {"matmul bfloat16": 2.0 * products},
        "expectation_backward, query's side": {"matmul bfloat16": 3.0 * products},
        "expectation_backward, key's side": {"matmul bfloat16": 4.0 * products},
    }
    if pairs < CROWDED * hashes:
        by_kernel |= {
            "cumulate": {"cache read": pairs * shape.row_bytes, "copy": tensor + 4.0 * hashes},
            "visit_pairs, query's side": {"cache read": 2 * pairs * shape.row_bytes, "copy": 2 * tensor + 4.0 * hashes},
            "visit_pairs, key's side": {"cache read": 2 * pairs * shape.row_bytes, "copy": 3 * tensor + 4.0 * hashes},
        }
    return by_kernel.get(kernel)


def short_name(symbol: str) -> str | None:
    """The function name of one of YOSO's kernels, with its variant by template parameters; None for other kernels."""
    match = re.search(r"yoso::cuda::(?:\(anonymous namespace\)::|<unnamed>::)?(\w+)(<.*>)?\(", symbol)
    if match is None:
        return None
    name, parameters = match[1], match[2] or ""
    flags = re.findall(r"\b(true|false)\b", parameters)
    if name == "visit_pairs":
        return f"visit_pairs, {'key' if flags[-1] == 'true' else 'query'}'s side"
    if name == "unit_rows_kernel":
        return "unit_rows_backward" if flags[-1] == "true" else "unit_rows"
    if name == "expectation_kernel":
        variant = "" if flags[-1] == "false" else f"_backward, {'key' if flags[-2] == 'true' else 'query'}'s side"
        return f"expectation{variant}"
    return name


def kernel_seconds(call: Callable[[int], None]) -> dict[str, tuple[float, int]]:
    """For each kernel, the seconds that it takes in one call (the median over calls) and its launches per call."""
    flush = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device="cuda")
    for index in range(2):
        call(index)
    by_kernel: dict[str, list[tuple[int, float]]] = defaultdict(list)
    with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as profiler:
        for _ in range(SACRIFICED_LAUNCHES):
            flush[:1].zero_()
        for index in range(CALLS):
            flush.zero_()
            call(index)
        torch.cuda.synchronize()
    for event in profiler_events(profiler):
        if event.device_type() == DeviceType.CUDA and (name := short_name(event.name())):
            by_kernel[name].append((event.start_ns(), event.duration_ns() / 1e9))
    results = {}
    for name, events in by_kernel.items():
        launches, remainder = divmod(len(events), CALLS)
        if remainder:
            raise RuntimeError(f"the profiler lost records: {len(events)} of {name} in {CALLS} calls; run it again")
        seconds = [duration for _, duration in sorted(events)]
        results[name] = median(sum(seconds[i : i + launches]) for i in range(0, len(seconds), launches)), launches
    return results


def colliding_pairs(codes: tuple[Tensor, Tensor], hash_code_len: int) -> float:
    """The number of colliding pairs of all heads and hashes, extrapolated from the first head."""
    counts = [
        torch.stack([torch.bincount(row.int(), minlength=2**hash_code_len) for row in tokens[0, 0].int()]).double()
        for tokens in codes
    ]
    return float((counts[0] * counts[1]).sum()) * codes[0].shape[0] * codes[0].shape[1]


def measure(shape: Shape, ceilings_by_name: dict[str, float]) -> ShapeTimes:
    """Time the kernels of one shape, forward and backward: of sampling and, for short sequences, of the expectation."""
    batch = 8 if shape.heads % 8 == 0 else 1
    size = (batch, shape.heads // batch, shape.length, shape.dim)
    input_sets = [
        [torch.randn(size, device="cuda", dtype=torch.bfloat16).requires_grad_() for _ in range(3)] for _ in range(2)
    ]
    grad = torch.randn(size, device="cuda", dtype=torch.bfloat16)
    sizes: dict[str, Any] = {"num_hash": shape.num_hash, "hash_code_len": shape.hash_code_len}
    family: dict[str, Any] = {"hash_family": shape.hash_family}
    planes = draw_planes(shape.hash_family, groups=shape.heads, head_dim=shape.dim, device="cuda", **sizes)
    codes = tuple(operators.fast_hash(x.detach(), planes, **sizes, **family) for x in input_sets[0][:2])
    pairs = colliding_pairs((codes[0], codes[1]), shape.hash_code_len)

    def step(attention: Callable[..., Tensor], index: int) -> None:
        inputs = input_sets[index % len(input_sets)]
        torch.autograd.grad(attention(*inputs), inputs, grad)

    def sampling(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return yoso_sampling(query, key, value, planes=planes, **sizes, **family)

    def expectation(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return yoso_e(query, key, value, hash_code_len=shape.hash_code_len)

    seconds = kernel_seconds(lambda index: step(sampling, index))
    if shape.length <= LONGEST_EXPECTATION and shape.hash_family == "hadamard":
        of_expectation = kernel_seconds(lambda index: step(expectation, index))
        seconds |= {name: value for name, value in of_expectation.items() if name.startswith("expectation")}
    kernels = {name: kernel_time(name, shape, pairs, ceilings_by_name, *value) for name, value in seconds.items()}
    return ShapeTimes(shape, pairs, kernels)


def kernel_time(
    name: str, shape: Shape, pairs: float, ceilings_by_name: dict[str, float], seconds: float, launches: int
) -> KernelTime:
    """Add a kernel's floors to its seconds and launches per call."""
    amounts = floors(name, shape, pairs) or {}
    if name.startswith("unit_rows"):
        amounts = {ceiling: amount * launches for ceiling, amount in amounts.items()}
    floor_seconds = {ceiling: amount / ceilings_by_name[ceiling] for ceiling, amount in amounts.items()}
    fraction = max(floor_seconds.values()) / seconds if floor_seconds else None
    return KernelTime(seconds, launches, floor_seconds, fraction)


def main() -> None:
    """Measure all shapes, print a table and write the results as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="the JSON file to write")
    out: Path = parser.parse_args().out
    measured = [ceiling for ceiling in ceilings.measure("cuda") if not ceiling.reason]
    ceilings_by_name = {ceiling.name: ceiling.amount / min(ceiling.seconds) for ceiling in measured}
    result = {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "kernels": jit.describe("cuda"),
        "ceilings": ceilings_by_name,
    }
    shapes: list[ShapeTimes] = []
    for shape in SHAPES:
        shapes.append(measure(shape, ceilings_by_name))
        out.write_text(json.dumps(result | {"shapes": [asdict(times) for times in shapes]}, indent=1))
        print(", ".join(f"{key} {value}" for key, value in asdict(shape).items()))
        for name, kernel in sorted(shapes[-1].kernels.items(), key=lambda item: -item[1].seconds):
            fraction = "" if kernel.fraction is None else f"{kernel.fraction:7.0%} of its bound"
            print(f"  {name:36} {kernel.seconds * 1e6:9.1f} us {kernel.launches:4.0f} launches {fraction}")
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
