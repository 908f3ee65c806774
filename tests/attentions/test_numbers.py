"""Every attention equals its float64 oracle on the input without padding, at any scale, dtype and padding."""

import math
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from harness.core import registry
from harness.core.plugin import AttentionPlugin, torch_dtype
from harness.core.spec import OperationSpec
from harness.measure.verify import ROUNDING_FACTOR
from yoso.torch_private import import_inductor

DTYPES = ("float32", "bfloat16", "float16")
SCALES = (1e-4, 1e-2, 0.03, 1.0, 100.0, 1e4)
LINEAR = ("cosformer", "linear", "linformer", "performer_relu", "performer_softmax", "nystromformer")
LONG = 16_384
NUMBERS = ("output", "gradient of q", "gradient of k", "gradient of v")


@dataclass(frozen=True)
class Call:
    """The inputs of one call, of which the first ``front`` tokens and the last ``end`` tokens are padding."""

    q: Tensor
    k: Tensor
    v: Tensor
    grad: Tensor
    front: int = 0
    end: int = 0

    @property
    def real(self) -> slice:
        """The positions of the real tokens."""
        return slice(self.front, self.q.shape[2] - self.end)

    @property
    def mask(self) -> Tensor | None:
        """bool ``[B, N]``, or None without padding."""
        if not self.front and not self.end:
            return None
        mask = torch.zeros(self.q.shape[0], self.q.shape[2], dtype=torch.bool)
        mask[:, self.real] = True
        return mask


def supported(name: str, **changes) -> tuple[AttentionPlugin, OperationSpec]:
    sizes = {"seq_len": 192, "batch": 1, "heads": 2, "head_dim": 16, "mode": "forward_backward"} | changes
    plugin = registry.get(name)
    spec = OperationSpec(attention=name, **sizes)
    if reasons := plugin.unsupported(spec):
        spec = spec.model_copy(update={"mode": "forward"})
        if plugin.unsupported(spec):
            pytest.skip("; ".join(reasons))
    return plugin, spec


def declares(plugin: AttentionPlugin, ability: str, place: str) -> bool:
    declared = getattr(plugin.capabilities, ability)
    return place in declared.split() if isinstance(declared, str) else declared


def draw(spec: OperationSpec, scale: float = 1.0, v_scale: float = 1.0, v_mean: float = 0.0) -> Call:
    generator = torch.Generator().manual_seed(0)
    shape = (spec.batch, spec.heads, spec.seq_len, spec.head_dim)
    q, k, v, grad = (torch.randn(shape, generator=generator) for _ in range(4))
    dtype = torch_dtype(spec.dtype)
    return Call((q * scale).to(dtype), (k * scale).to(dtype), ((v + v_mean) * v_scale).to(dtype), grad.to(dtype))


def module_results(module: Callable[..., Tensor], spec: OperationSpec, call: Call, rows: Tensor) -> list[Tensor]:
    """The output at the real positions ``rows``, and the gradients at all real positions."""
    backward = spec.mode == "forward_backward"
    q, k, v = (x.clone().requires_grad_(backward) for x in (call.q, call.k, call.v))
    torch.manual_seed(spec.seed)
    out = module(q, k, v, call.mask)
    upstream = torch.zeros_like(out)
    upstream[:, :, call.real][:, :, rows] = call.grad[:, :, call.real][:, :, rows].to(out.dtype)
    gradients = torch.autograd.grad(out, (q, k, v), upstream) if backward else ()
    return [out.detach()[:, :, call.real][:, :, rows], *(x[:, :, call.real] for x in gradients)]


def oracle_results(
    plugin: AttentionPlugin, spec: OperationSpec, call: Call, rows: Tensor, dtype: torch.dtype
) -> list[Tensor]:
    """What the oracle gives for the real tokens alone, without a mask."""
    q, k, v = (x[:, :, call.real].to(dtype).requires_grad_() for x in (call.q, call.k, call.v))
    torch.manual_seed(spec.seed)
    out = plugin.oracle(spec, q, k, v, None, rows)
    gradients = torch.autograd.grad(out, (q, k, v), call.grad[:, :, call.real][:, :, rows].to(dtype))
    return [out.detach(), *gradients]


def assert_equal_to_oracle(
    plugin: AttentionPlugin,
    spec: OperationSpec,
    call: Call,
    module: Callable[..., Tensor] | None = None,
    rounded_to: torch.dtype | None = None,
    rows: Tensor | None = None,
) -> None:
    """Finite where the true result is, with an error that rounding explains: see ``allowed_error``."""
    dtype = rounded_to or torch_dtype(spec.dtype)
    rows = torch.arange(call.q[:, :, call.real].shape[2]) if rows is None else rows
    actual = module_results(plugin.build(spec) if module is None else module, spec, call, rows)
    exact = oracle_results(plugin, spec, call, rows, torch.float64)
    rounded = oracle_results(plugin, spec, call, rows, dtype)
    for name, value, truth, explained in zip(NUMBERS, actual, exact, rounded, strict=False):
        representable = truth.to(dtype).isfinite()
        value, truth, explained = (x.double()[representable] for x in (value, truth, explained))
        assert value.isfinite().all(), f"{name}: {int((~value.isfinite()).sum())} of {value.numel()} are not finite"
        error, allowed = (value - truth).norm().item(), allowed_error(name, call, truth, explained, dtype)
        assert error <= allowed, f"{name}: error {error:.3g} of {truth.norm().item():.3g}, allowed {allowed:.3g}"


def allowed_error(name: str, call: Call, truth: Tensor, rounded: Tensor, dtype: torch.dtype) -> float:
    """A multiple of the error of the oracle in ``dtype``, and the rounding of the numbers that the result sums.

    A gradient of q or k is a sum of terms that cancel where one key has all the weight; the true sum is then near zero.
    """
    numbers = torch.finfo(dtype)
    subnormal = numbers.smallest_normal * numbers.eps * math.sqrt(truth.numel())
    floor = 4 * numbers.eps * truth.norm().item() + 2 * subnormal
    explained = (rounded - truth).norm().item()
    q, k, v = (x[:, :, call.real].double().norm(dim=-1).amax().item() for x in (call.q, call.k, call.v))
    if name == NUMBERS[3]:
        # A fused kernel recomputes each weight as exp(score - logsumexp), a difference of two rounded float32 numbers.
        largest_score = q * k / math.sqrt(call.q.shape[3])
        floor += min(largest_score * torch.finfo(torch.float32).eps, 0.01) * truth.norm().item()
    if name in NUMBERS[1:3]:
        other = k if name == NUMBERS[1] else q
        one_key = q * k > 100 * call.q.shape[3]
        terms = other * v / math.sqrt(call.q.shape[3]) * call.grad.double().norm().item()
        floor += numbers.eps * terms / (1 if one_key else math.sqrt(truth.shape[0] / call.q.shape[3]))
    return floor + (ROUNDING_FACTOR * explained if math.isfinite(explained) else 0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", registry.names())
def test_any_scale(name, dtype):
    plugin, spec = supported(name, dtype=dtype)
    module = plugin.build(spec)
    holds = declares(plugin, "scales", dtype)
    for scale in SCALES if holds else (1e-2, 1.0):
        assert_equal_to_oracle(plugin, spec, draw(spec, scale), module)
    for v_scale in (1e-4, 1e4) if holds else (1e-2, 100.0):
        assert_equal_to_oracle(plugin, spec, draw(spec, v_scale=v_scale), module)
    assert_equal_to_oracle(plugin, spec, draw(spec, v_mean=5.0), module)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LINEAR)
def test_long_sums_of_values_with_a_mean(name, dtype):
    plugin, spec = supported(name, seq_len=LONG, heads=1, dtype=dtype)
    assert_equal_to_oracle(plugin, spec, draw(spec, v_mean=5.0), rows=torch.arange(0, LONG, LONG // 16))


@pytest.mark.parametrize("lower", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", registry.names())
def test_autocast_is_a_call_in_its_dtype(name, lower):
    """With padding where the attention has it, because its fill value depends on the dtype of the scores."""
    plugin, spec = supported(name)
    padded = declares(plugin, "padding_mask", "cpu")
    call = replace(draw(spec), end=42 if padded else 0)
    module = plugin.build(spec)
    with torch.autocast("cpu", dtype=lower):
        assert_equal_to_oracle(plugin, spec, call, module, rounded_to=lower)
    # As torch recommends: only the forward pass is inside.
    in_autocast = torch.autocast("cpu", dtype=lower)(module.forward)
    assert_equal_to_oracle(plugin, spec, call, in_autocast, rounded_to=lower)


@pytest.mark.parametrize(("front", "end"), [(0, 1), (0, 20), (0, 150), (1, 0), (20, 0), (150, 0), (20, 92)])
@pytest.mark.parametrize("name", registry.names())
def test_real_tokens_get_what_their_sequence_gets_alone(name, front, end):
    plugin, spec = supported(name, padding=0.1)
    if not declares(plugin, "padding_width", "cpu"):
        pytest.skip(plugin.capabilities.reason("padding_width"))
    assert_equal_to_oracle(plugin, spec, replace(draw(spec), front=front, end=end))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", registry.names())
def test_a_sequence_of_padding_alone_is_finite_and_changes_no_other(name, dtype):
    plugin, spec = supported(name, batch=2, padding=0.1, dtype=dtype)
    call = draw(spec)
    backward = spec.mode == "forward_backward"
    q, k, v = (x.requires_grad_(backward) for x in (call.q, call.k, call.v))
    module = plugin.build(spec)

    def results(last_tokens: int) -> list[Tensor]:
        mask = torch.arange(spec.seq_len) < torch.tensor([[150], [last_tokens]])
        torch.manual_seed(spec.seed)
        out = module(q, k, v, mask)
        return [out, *(torch.autograd.grad(out, (q, k, v), call.grad) if backward else ())]

    for alone, beside in zip(results(0), results(150), strict=True):
        assert alone.isfinite().all()
        torch.testing.assert_close(alone[0, :, :150], beside[0, :, :150])


@pytest.mark.filterwarnings("ignore")  # inductor's own
@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="inductor needs a C++ compiler")
@pytest.mark.parametrize("name", [name for name in registry.names() if registry.get(name).capabilities.compile])
def test_torch_compile_with_its_default_backend(name):
    """Inductor writes kernels of its own; its gradient of overlapping views is wrong, for example (torch 2.13)."""
    plugin, spec = supported(name, padding=0.1)
    import_inductor()
    torch.compiler.reset()
    same_draws = {"fallback_random": True}  # by default inductor draws other numbers than torch from the same seed
    compiled = torch.compile(plugin.build(spec), fullgraph=True, dynamic=False, options=same_draws)
    assert_equal_to_oracle(plugin, spec, replace(draw(spec), end=42), compiled)
