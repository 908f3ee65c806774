"""Peak rates of a device, measured on it in a few seconds. A kernel's time is compared with these ceilings.

Every rate comes from torch's own operations on random data (zeros draw less power and run faster). The rates are what a
program reaches in practice, so they lie below the datasheet, and a kernel may exceed one by some per cent.
"""

from collections.abc import Callable
from time import perf_counter
from typing import Any, Literal

import torch
from torch import Tensor

from harness.core.plugin import torch_dtype
from harness.core.record import Ceiling
from harness.core.spec import Dtype
from yoso.torch_private import compile_elementwise_kernel

SAMPLES = 5
CUDA_COPY_BYTES = 2**30
CUDA_MATRIX = 8192
CPU_COPY_BYTES = 2**26
CPU_MATRIX = 1024
CUDA_WARM_SECONDS = 0.2
"""An idle GPU runs at about a fifth of its clock and takes some tenths of a second to reach the full one."""
CACHE_READS = 64
"""How often one call reads the data that is held in the L2 cache."""
CHAINS, STEPS, VECTOR_NUMBERS = 8, 256, 2**24
"""Of the vector ceiling: independent chains of multiply-adds per number, steps per chain, and numbers."""


def measure(device: str) -> list[Ceiling]:
    """Every ceiling of ``device``. A ceiling that cannot be measured has a reason instead of samples."""
    if torch.device(device).type == "cuda":
        ceilings = [_attempt(_copy, device, CUDA_COPY_BYTES)]
        dtypes: tuple[Dtype, ...] = ("bfloat16", "float16", "float32")
        ceilings += [_attempt(_matmul, device, dtype, CUDA_MATRIX) for dtype in dtypes]
        ceilings += [_attempt(_vector, device), _attempt(_cache_read, device)]
        torch.cuda.empty_cache()
        return ceilings
    matmul = _attempt(_matmul, device, "float32", CPU_MATRIX)
    # A CPU multiplies matrices on its vector units, so both ceilings are the same.
    return [_attempt(_copy, device, CPU_COPY_BYTES), matmul, matmul.model_copy(update={"name": "vector float32"})]


def _copy(device: str, size: int) -> Ceiling:
    """Copy ``size`` bytes; bytes read and bytes written both count."""
    source = torch.randn(size // 4, device=device)
    target = torch.empty_like(source)
    return _ceiling("copy", device, "byte", 2 * size, lambda: target.copy_(source))


def _matmul(device: str, dtype: Dtype, size: int) -> Ceiling:
    """The product of two square matrices; in float32 without TF32."""
    left, right = (torch.randn(size, size, device=device).to(torch_dtype(dtype)) for _ in range(2))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        return _ceiling(f"matmul {dtype}", device, "operation", 2 * size**3, lambda: left @ right)
    finally:
        torch.set_float32_matmul_precision(before)


def _vector(device: str) -> Ceiling:
    """Multiply-adds in registers, in an elementwise kernel that torch compiles at run time."""
    names = [f"x{chain}" for chain in range(CHAINS)]
    starts = " ".join(f"T {name} = x + T({chain});" for chain, name in enumerate(names))
    steps = " ".join(f"{name} = {name} * x + T(1);" for name in names)
    source = (
        f"template <typename T> T chains(T x) {{ {starts} "
        f"for (int i = 0; i < {STEPS}; ++i) {{ {steps} }} return {' + '.join(names)}; }}"
    )
    kernel = compile_elementwise_kernel(source)
    x = torch.rand(VECTOR_NUMBERS, device=device)
    amount = 2 * CHAINS * STEPS * VECTOR_NUMBERS
    return _ceiling("vector float32", device, "operation", amount, lambda: kernel(x))


def _cache_read(device: str) -> Ceiling:
    """The L2 bandwidth that ``torch.sum`` reaches when one call sums half the L2 cache ``CACHE_READS`` times."""
    size = torch.cuda.get_device_properties(device).L2_cache_size // 2
    x = torch.randn(size // 4, device=device).expand(CACHE_READS, -1)
    return _ceiling("cache read", device, "byte", CACHE_READS * size, lambda: x.sum(-1))


def _ceiling(
    name: str, device: str, unit: Literal["byte", "operation"], amount: float, call: Callable[[], Tensor]
) -> Ceiling:
    """Warm ``call`` up and sample it; one call does ``amount`` of ``unit``."""
    on_cuda = torch.device(device).type == "cuda"
    seconds_of = _cuda_seconds if on_cuda else _cpu_seconds
    warm_until = perf_counter() + (CUDA_WARM_SECONDS if on_cuda else 0.0)
    calls = 0
    while calls < 2 or perf_counter() < warm_until:
        seconds_of(call)
        calls += 1
    samples = [seconds_of(call) for _ in range(SAMPLES)]
    return Ceiling(name=name, device=device, unit=unit, amount=amount, seconds=samples)


def _cpu_seconds(call: Callable[[], Tensor]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


def _cuda_seconds(call: Callable[[], Tensor]) -> float:
    first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    first.record()
    call()
    last.record()
    torch.cuda.synchronize()
    return first.elapsed_time(last) / 1e3


def _attempt(measure_one: Callable[..., Ceiling], device: str, *arguments: Any) -> Ceiling:
    """Measure one ceiling. An error becomes its reason, because a missing ceiling must not end the whole run."""
    try:
        if torch.device(device).type == "cuda":
            with torch.cuda.device(device):
                return measure_one(device, *arguments)
        return measure_one(device, *arguments)
    except (RuntimeError, AttributeError) as error:
        function = measure_one.__name__.strip("_").replace("_", " ")
        name = " ".join([function, *(argument for argument in arguments if isinstance(argument, str))])
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        return Ceiling(name=name, device=device, unit="operation", amount=0.0, seconds=[], reason=reason)
