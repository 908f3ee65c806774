"""What YOSO is judged by on a CPU: the operation against fused softmax and transformers' own YOSO; base-size models.

It is no part of the profiles: it takes a quarter of an hour. Run it by its name::

    pytest suites/studies/yoso_claims.py --benchmark-json=claims.json
"""

import pytest

from harness.core.spec import Family, ModelSpec, OperationMode, OperationSpec
from harness.profiles.profile import MODELS_OF_TRANSFORMERS
from harness.profiles.selection import Selection
from harness.pytest_plugin import Case

MODELS: tuple[tuple[Family, str], ...] = (("yoso", "yoso"), *MODELS_OF_TRANSFORMERS)
"""Sampled YOSO, and the models that it is compared with: family, and the attention that it runs."""


def operations(selection: Selection) -> list[OperationSpec]:
    """Both passes against sdpa at log2(n) bits; eight bits; a doubling of n at fixed bits; YOSO-E with twelve heads."""
    device = selection.device
    lengths = (512, 1024, 2048, 4096, 8192, 16384)
    modes: tuple[OperationMode, ...] = ("forward", "forward_backward")
    cases = [
        OperationSpec(attention=name, seq_len=n, mode=mode, device=device)
        for n in lengths
        for mode in modes
        for name in ("sdpa", "yoso")
        if not (name == "sdpa" and n == 2048)
    ]
    cases += [
        OperationSpec(attention="yoso", seq_len=n, knobs={"hash_code_len": 8}, device=device) for n in (4096, 8192)
    ]
    cases += [
        OperationSpec(attention="yoso", seq_len=n, heads=1, mode=mode, knobs={"hash_code_len": tau}, device=device)
        for tau, lengths in ((12, (16384, 32768, 65536, 131072, 262144)), (16, (65536, 131072, 262144, 1048576)))
        for n in lengths
        for mode in modes
    ]
    cases += [
        OperationSpec(
            attention=name, seq_len=n, heads=12, mode=mode, knobs={"hash_code_len": 9} if tau else {}, device=device
        )
        for n, names in ((2048, (("sdpa", 0), ("yoso_e", 9), ("transformers_yoso_e", 9))), (8192, (("yoso_e", 9),)))
        for mode in modes
        for name, tau in names
    ]
    return cases


def models(selection: Selection) -> list[ModelSpec]:
    """Base size, batch 1, n = 4096: sampled YOSO against BERT and against transformers' YOSO, and both trained."""
    return [
        ModelSpec(
            family=family,
            attention=attention,
            mode=mode,
            seq_len=4096,
            layers=12,
            hidden_size=768,
            heads=12,
            device=selection.device,
            knobs={"hash_code_len": 9} if "yoso" in family else {},
        )
        for family, attention in MODELS
        for mode in ("forward", "training_step")
        if not (family == "transformers_yoso" and mode == "training_step")  # minutes a step
    ]


@pytest.mark.operation(specs=operations)
def test_operation(case: Case) -> None:
    assert case.record.memory is not None


@pytest.mark.model(specs=models)
def test_model(case: Case) -> None:
    assert case.record.memory is not None
