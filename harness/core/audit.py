"""Whether a plugin's declarations can be believed: findings in plain sentences, which everyone sees.

A declaration decides what is compared and what is not, so a careless one hides mistakes: a large ``kernel_error``
allows wrong outputs, an oracle that calls the module is always right, and a case that ``unsupported`` refuses without
need is never measured. The conformance tests fail for each finding, and ``harness list`` and the page of attentions
print them.
"""

import math
import re
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from harness.core.attention_shape import device_reasons
from harness.core.plugin import AttentionPlugin, torch_dtype
from harness.core.record_text import exception_text
from harness.core.spec import OperationSpec

MAX_KERNEL_ERROR = 1e-3
"""Largest ``kernel_error``: about what TF32 rounds. The verifier adds it to the allowed error."""
LENGTHS = (1, 16, 64, 100, 256, 1000, 4096)
HEAD_DIMS = (16, 32, 80, 128)
TINY = 1e-9
"""A relative change that float64 shows and smaller dtypes do not."""
MAX_ORACLE_ROUNDING = 1e-5
"""Largest error of an oracle in float32 in a short sequence. Those of the attentions here are below 1e-6."""
USUAL = {"batch": 2, "heads": 2, "head_dim": 64, "seq_len": 256}
"""Sizes that most kernels support."""
ACCEPTED_REASON = re.compile(
    # hardware, then software
    r"AVX|instruction set|compute capability|\bsm_?\d|\bGPUs?\b|no CUDA device|does not exist|\bmemory\b|\bGiB\b"
    r"|install|\bimport|no module|\bpackage|\bversion|\bcompiler\b|\bnvcc\b|PATH",
    re.IGNORECASE,
)
"""Reasons that a plugin cannot know when it declares its capabilities: this machine's hardware and its software."""


def audit(plugin: AttentionPlugin, device: str = "cpu", call_oracle: bool = True) -> list[str]:
    """Every finding about ``plugin``, one sentence each; an empty list if there is nothing to object to.

    Args:
        plugin: the plugin.
        device: where the oracle is called.
        call_oracle: build the module and call the oracle, too, which may import large packages and compile kernels.
    """
    findings = kernel_error_findings(plugin)
    try:
        findings += support_findings(plugin)
        spec = _smallest_supported(plugin, device) if call_oracle else None
        if spec is not None:
            # An oracle that raises is found by the first, and would raise again.
            findings += oracle_findings(plugin, spec) or rounding_findings(plugin, spec)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a plugin may be third-party code: whatever it raises is the finding
        reason = exception_text(error)
        findings.append(f"`capabilities`, `unsupported`, `build` and `oracle` must work, but one raises {reason}")
    return findings


def kernel_error_findings(plugin: AttentionPlugin) -> list[str]:
    """``kernel_error`` is for fast exponentials and the like; a larger one would allow wrong outputs."""
    declared: Any = plugin.kernel_error
    is_number = isinstance(declared, int | float) and math.isfinite(declared)
    if is_number and 0 <= declared <= MAX_KERNEL_ERROR:
        return []
    return [
        f"`kernel_error` must be a number from 0 to {MAX_KERNEL_ERROR}, got {declared!r}; declare the relative error "
        "of the kernel's own functions only, and put what the attention approximates by definition into `oracle`"
    ]


def oracle_findings(plugin: AttentionPlugin, spec: OperationSpec) -> list[str]:
    """An oracle that calls the module which ``build`` returns compares the module with itself.

    Args:
        plugin: the plugin.
        spec: a case that it supports.
    """
    module_type, dtypes = _calls_of_module(plugin, spec)
    if not dtypes:
        return []
    return [
        f"`oracle` calls the module that `build` returns ({module_type.__name__}.forward, for inputs in "
        f"{' and '.join(str(dtype) for dtype in dtypes)}), so the module is compared with itself; write the definition "
        "in plain torch"
    ]


def rounding_findings(plugin: AttentionPlugin, spec: OperationSpec) -> list[str]:
    """An oracle that rounds more than its dtype needs allows the module to be as rough.

    In float64 a tiny change of v must change the result by about as much; in float32 it must round little.

    Args:
        plugin: the plugin.
        spec: a case that it supports.
    """
    generator = torch.Generator(spec.device).manual_seed(0)
    shape = (spec.batch, spec.heads, spec.seq_len, spec.head_dim)
    q, k, v, noise = (
        torch.randn(shape, generator=generator, device=spec.device, dtype=torch.float64) for _ in range(4)
    )
    rows = torch.arange(spec.seq_len, device=spec.device)

    def result(changed_v: Tensor, dtype: torch.dtype) -> Tensor:
        torch.manual_seed(0)
        with torch.device(spec.device), torch.no_grad():
            return plugin.oracle(spec, q.to(dtype), k.to(dtype), changed_v.to(dtype), None, rows).double()

    with torch.random.fork_rng(devices=[]):
        exact = result(v, torch.float64)
        change = ((result(v + TINY * noise, torch.float64) - exact).norm() / exact.norm()).item()
        rounding = ((result(v, torch.float32) - exact).norm() / exact.norm()).item()
    findings = []
    if not TINY / 100 < change < TINY * 100:
        findings.append(
            f"`oracle` rounds in float64: a change of v by {TINY:g} changes its result by {change:.3g}; compute in the "
            "dtype of q, and convert nothing to a smaller one"
        )
    if not rounding < MAX_ORACLE_ROUNDING:
        findings.append(
            f"`oracle` has an error of {rounding:.3g} in float32 against itself in float64, expected less than "
            f"{MAX_ORACLE_ROUNDING:g}; the module may be as wrong as that, so compute in the dtype of q"
        )
    return findings


def support_findings(plugin: AttentionPlugin) -> list[str]:
    """Capabilities that rule out every case, and reasons of ``unsupported`` that are empty or not declared.

    A reason is accepted if it names hardware or software that this machine lacks, or a limit that ``capabilities``
    declare: the head size where ``head_dims`` is not "any", or the text of ``why``.
    """
    declared = plugin.capabilities
    missing = [name for name in ("devices", "dtypes") if not getattr(declared, name)]
    if missing:
        return [f"`capabilities` rule out every case: {' and '.join(missing)} are empty; name what the kernel runs on"]
    answers = {spec: plugin.unsupported(spec) for spec in _declared_cases(plugin)}
    findings = _wrong_answers(answers)
    return findings or [*_missing_devices(answers), *_needless_refusals(plugin, answers)]


def _wrong_answers(answers: dict[OperationSpec, list[str]]) -> list[str]:
    for spec, reasons in answers.items():
        is_list = isinstance(reasons, list | tuple)
        if not is_list or not all(isinstance(reason, str) and reason.strip() for reason in reasons):
            return [f"`unsupported` must return a list of sentences, got {reasons!r} at {_sizes(spec)}"]
    return []


def _missing_devices(answers: dict[OperationSpec, list[str]]) -> list[str]:
    for spec, reasons in answers.items():
        if not reasons and device_reasons(spec):
            return [
                f"`unsupported` gives no reason against {spec.device}, which this machine does not have; add "
                "harness.core.attention_shape.device_reasons(spec) to the reasons"
            ]
    return []


def _needless_refusals(plugin: AttentionPlugin, answers: dict[OperationSpec, list[str]]) -> list[str]:
    """The finding that most of the declared cases which this machine could run are refused."""
    possible = {
        spec: reasons
        for spec, reasons in answers.items()
        if not any(_is_accepted(plugin, reason) for reason in reasons)
    }
    refused = {spec: reasons for spec, reasons in possible.items() if reasons}
    if 2 * len(refused) <= len(possible):
        return []
    spec, reasons = next(iter(refused.items()))
    how_many = "all" if len(refused) == len(possible) else f"{len(refused)} of"
    return [
        f"`unsupported` refuses {how_many} {len(possible)} cases of declared devices, dtypes and head sizes at lengths "
        f"from {min(LENGTHS)} to {max(LENGTHS)}, for example {_sizes(spec)}: {'; '.join(reasons)}. This names no "
        "hardware or software that is missing and no limit in `capabilities`; declare the limit, or support the cases"
    ]


def _is_accepted(plugin: AttentionPlugin, reason: str) -> bool:
    declared = plugin.capabilities
    is_head_size = declared.head_dims != "any" and "head" in reason.lower()
    return is_head_size or reason in declared.why.values() or ACCEPTED_REASON.search(reason) is not None


def _declared_cases(plugin: AttentionPlugin) -> list[OperationSpec]:
    declared = plugin.capabilities
    sizes: list[dict[str, Any]] = [{"seq_len": n} for n in LENGTHS]
    if declared.head_dims == "any":
        sizes += [{"head_dim": size} for size in HEAD_DIMS]
    first, *others = declared.dtypes
    return [
        OperationSpec.model_validate({"attention": plugin.name, "device": device} | USUAL | changes)
        for device in declared.devices
        for changes in [{"dtype": first} | size for size in sizes] + [{"dtype": other} for other in others]
    ]


def _smallest_supported(plugin: AttentionPlugin, device: str) -> OperationSpec | None:
    """The shortest case that the plugin supports on ``device``; None if there is none."""
    for dtype in plugin.capabilities.dtypes:
        for n in LENGTHS[1:]:
            sizes = {"attention": plugin.name, "device": device, "dtype": dtype} | USUAL | {"seq_len": n}
            spec = OperationSpec.model_validate(sizes)
            if not plugin.unsupported(spec):
                return spec
    return None


def _calls_of_module(plugin: AttentionPlugin, spec: OperationSpec) -> tuple[type[nn.Module], list[torch.dtype]]:
    """The type of the module, and the dtypes of inputs for which the oracle calls it."""
    module_type = type(plugin.build(spec))
    forward: Callable[..., Any] = module_type.forward
    calls: dict[torch.dtype, None] = {}

    def noted_forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        calls[dtype] = None
        return forward(self, *args, **kwargs)

    rows = torch.tensor([0, 3, spec.seq_len - 1], device=spec.device)
    shape = (spec.batch, spec.heads, spec.seq_len, spec.head_dim)
    with patch.object(module_type, "forward", noted_forward), torch.random.fork_rng(devices=[]):
        for dtype in (torch.float64, torch_dtype(spec.dtype)):
            q, k, v = (torch.randn(shape, device=spec.device).to(dtype) for _ in range(3))
            torch.manual_seed(0)
            with torch.device(spec.device), torch.no_grad():
                plugin.oracle(spec, q, k, v, None, rows)
    return module_type, list(calls)


def _sizes(spec: OperationSpec) -> str:
    return f"n={spec.seq_len}, head size {spec.head_dim}, {spec.dtype} on {spec.device}"
