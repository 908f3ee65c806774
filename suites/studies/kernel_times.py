"""What every CUDA kernel takes, beside its floor: ``python suites/studies/kernel_times.py kernels.json``.

A kernel's floor is the larger of its bytes and its operations over the ceilings that ``harness.measure.ceilings``
finds on the same device, so 100 % cannot be reached where both matter. Times are torch's profiler's, medians over
calls with other inputs each, the second-level cache flushed before each. They are the kernels' alone: what a call
takes, its launches and the host included, is what ``pytest suites`` measures.
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
LOST = 64
"""Kernels at the start of a profiler's session that it may lose."""
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
        """Rows of a tensor."""
        return self.heads * self.length

    @property
    def row_bytes(self) -> int:
        """Of a row in bfloat16."""
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
"""Of a forward and a backward call: the keys, and again the keys and the queries."""
CROWDED = 8
"""Colliding keys of a query and hash from which on buckets are crowded as a rule."""


def floors(kernel: str, shape: Shape, pairs: float) -> dict[str, float] | None:
    """What all launches of a kernel in one call must do at least, by ceiling; None for a kernel without a floor.

    Where buckets are crowded, their pairs are not gathered one by one, and how they are shared out is not known here:
    what gathers then has no floor. A Gaussian direction takes two float16 products, a Hadamard one is exact in one.

    Args:
        kernel: as ``short_name`` has it.
        shape: the call's.
        pairs: colliding pairs of all heads and hashes.
    """
    tensor, hashes = shape.vectors * shape.row_bytes, shape.vectors * shape.num_hash
    products = 2 * shape.vectors * shape.length * shape.dim
    parts = 2 if shape.hash_family == "gaussian" else 1
    directions = shape.heads * shape.num_hash * shape.hash_code_len * shape.dim
    known: dict[str, dict[str, float]] = {
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
        known |= {
            "cumulate": {"cache read": pairs * shape.row_bytes, "copy": tensor + 4.0 * hashes},
            "visit_pairs, query's side": {"cache read": 2 * pairs * shape.row_bytes, "copy": 2 * tensor + 4.0 * hashes},
            "visit_pairs, key's side": {"cache read": 2 * pairs * shape.row_bytes, "copy": 3 * tensor + 4.0 * hashes},
        }
    return known.get(kernel)


def short_name(symbol: str) -> str | None:
    """A kernel's own name, with what its template parameters choose; None for a kernel that is not YOSO's."""
    found = re.search(r"yoso::cuda::(?:\(anonymous namespace\)::|<unnamed>::)?(\w+)(<.*>)?\(", symbol)
    if found is None:
        return None
    name, parameters = found[1], found[2] or ""
    flags = re.findall(r"\b(true|false)\b", parameters)
    if name == "visit_pairs":
        return f"visit_pairs, {'key' if flags[-1] == 'true' else 'query'}'s side"
    if name == "unit_rows_kernel":
        return "unit_rows_backward" if flags[-1] == "true" else "unit_rows"
    if name == "expectation_kernel":
        side = "" if flags[-1] == "false" else f"_backward, {'key' if flags[-2] == 'true' else 'query'}'s side"
        return f"expectation{side}"
    return name


def times(call: Callable[[int], Any]) -> dict[str, tuple[float, int]]:
    """Seconds of a call by kernel, the median over calls, and launches a call."""
    flush = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device="cuda")
    for index in range(2):
        call(index)
    by_kernel: dict[str, list[tuple[int, float]]] = defaultdict(list)
    with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as profiler:
        for _ in range(LOST):
            flush[:1].zero_()
        for index in range(CALLS):
            flush.zero_()
            call(index)
        torch.cuda.synchronize()
    for event in profiler_events(profiler):
        if event.device_type() == DeviceType.CUDA and (name := short_name(event.name())):
            by_kernel[name].append((event.start_ns(), event.duration_ns() / 1e9))
    found = {}
    for name, events in by_kernel.items():
        launches, rest = divmod(len(events), CALLS)
        if rest:
            raise RuntimeError(f"the profiler has {len(events)} records of {name} in {CALLS} calls: some are lost")
        seconds = [duration for _, duration in sorted(events)]
        found[name] = median(sum(seconds[i : i + launches]) for i in range(0, len(seconds), launches)), launches
    return found


def colliding_pairs(codes: tuple[Tensor, Tensor], hash_code_len: int) -> float:
    """Of all heads and hashes, scaled up from the first head's."""
    counts = [
        torch.stack([torch.bincount(row.int(), minlength=2**hash_code_len) for row in side[0, 0].int()]).double()
        for side in codes
    ]
    return float((counts[0] * counts[1]).sum()) * codes[0].shape[0] * codes[0].shape[1]


def measure(shape: Shape, limits: dict[str, float]) -> dict[str, Any]:
    """One shape's kernels, forward and backward, of sampling and, where it is short, of the expectation."""
    batch = 8 if shape.heads % 8 == 0 else 1
    size = (batch, shape.heads // batch, shape.length, shape.dim)
    sets = [
        [torch.randn(size, device="cuda", dtype=torch.bfloat16).requires_grad_() for _ in range(3)] for _ in range(2)
    ]
    grad = torch.randn(size, device="cuda", dtype=torch.bfloat16)
    sizes: dict[str, Any] = {"num_hash": shape.num_hash, "hash_code_len": shape.hash_code_len}
    family: dict[str, Any] = {"hash_family": shape.hash_family}
    planes = draw_planes(shape.hash_family, groups=shape.heads, head_dim=shape.dim, device="cuda", **sizes)
    codes = tuple(operators.fast_hash(x.detach(), planes, **sizes, **family) for x in sets[0][:2])
    pairs = colliding_pairs((codes[0], codes[1]), shape.hash_code_len)

    def step(attention: Callable[..., Tensor], index: int) -> None:
        inputs = sets[index % len(sets)]
        torch.autograd.grad(attention(*inputs), inputs, grad)

    found = times(lambda index: step(lambda q, k, v: yoso_sampling(q, k, v, planes=planes, **sizes, **family), index))
    if shape.length <= LONGEST_EXPECTATION and shape.hash_family == "hadamard":
        expected = times(lambda index: step(lambda q, k, v: yoso_e(q, k, v, hash_code_len=shape.hash_code_len), index))
        found |= {name: value for name, value in expected.items() if name.startswith("expectation")}
    kernels = {name: beside_floor(name, shape, pairs, limits, *taken) for name, taken in found.items()}
    return {"shape": asdict(shape), "colliding_pairs": pairs, "kernels": kernels}


def beside_floor(
    name: str, shape: Shape, pairs: float, limits: dict[str, float], seconds: float, launches: int
) -> dict[str, Any]:
    """A kernel's seconds and launches a call, its floors in seconds, and the larger's fraction of what it took."""
    amounts = floors(name, shape, pairs) or {}
    if name.startswith("unit_rows"):
        amounts = {key: amount * launches for key, amount in amounts.items()}
    by_ceiling = {key: amount / limits[key] for key, amount in amounts.items()}
    return {
        "seconds": seconds,
        "launches": launches,
        "floor_seconds": by_ceiling,
        "fraction": max(by_ceiling.values()) / seconds if by_ceiling else None,
    }


def main() -> None:
    """Measure every shape, print a table and write it all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    out: Path = parser.parse_args().out
    found = ceilings.measure("cuda")
    limits = {one.name: one.amount / min(one.seconds) for one in found if not one.reason}
    result: dict[str, Any] = {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "kernels": jit.describe("cuda"),
        "ceilings": limits,
        "shapes": [],
    }
    for shape in SHAPES:
        result["shapes"].append(measure(shape, limits))
        out.write_text(json.dumps(result, indent=1))
        print(", ".join(f"{key} {value}" for key, value in asdict(shape).items()))
        for name, one in sorted(result["shapes"][-1]["kernels"].items(), key=lambda item: -item[1]["seconds"]):
            fraction = "" if one["fraction"] is None else f"{one['fraction']:7.0%} of its bound"
            print(f"  {name:36} {one['seconds'] * 1e6:9.1f} us {one['launches']:4.0f} launches {fraction}")
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
