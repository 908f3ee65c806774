"""The profile ``gpu``: a comparison on one large GPU, in seven minutes on an H100.

The sweep has a batch of 8 sequences with 8 heads of 64 numbers in bfloat16, enough to fill the device at 512 tokens.
Cases come in the order of their importance, so that a run that is cut off lacks the least important ones.
"""

from dataclasses import asdict
from itertools import product

from harness.core import registry
from harness.core.spec import (
    Dtype,
    Effort,
    Family,
    ModelMode,
    ModelSpec,
    OperationMode,
    OperationSpec,
    QualitySpec,
    Scalar,
)
from harness.profiles.approximations import approximations, budget_of
from harness.profiles.profile import BASE_SIZE, FixedCases, Profile

LENGTHS = (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
MODES: tuple[OperationMode, ...] = ("forward", "forward_backward")
BOTH: tuple[Dtype, ...] = ("float32", "bfloat16")
EXACT = (
    "sdpa_flash",
    "sdpa_cudnn",
    "sdpa_efficient",
    "xformers_flash3",
    "xformers_flash2",
    "xformers_cutlass",
)
SLOWER = ("sdpa_efficient", "xformers_cutlass")
"""Exact attentions up to four times slower than the fastest: their sweep ends at ``LONGEST_OF_SLOWER``, where a call
takes a tenth of a second."""
LONGEST_OF_SLOWER = 16384
SWEPT = ("yoso", "yoso_e", *EXACT)
LONG = (65536, 131072, 262144, 524288, 1048576)
"""Lengths of one sequence with one head, for the linear attention only."""
EIGHT_BITS = (4096, 16384, 65536)
"""Lengths that are also measured with 8-bit codes: buckets then grow with the length, and colliding pairs with its
square."""
MODEL_LENGTHS = (4096, 16384)
MODEL_MODES: tuple[ModelMode, ...] = ("forward", "training_step")
FAMILIES: tuple[tuple[Family, str], ...] = (("yoso", "yoso"), ("bert", "sdpa"), ("yoso", "yoso_e"))
BUDGETS = (8, 32, 128)
"""Hashes, features or landmarks of quality cases."""
OTHERS = (
    "none",
    "linear",
    "performer_softmax",
    "performer_relu",
    "cosformer",
    "linformer",
    "nystromformer",
    "local_window",
    "longformer",
    "bigbird",
    "reformer",
    "yoso_conv",
    "flash_attn",
    "flex",
)
"""In this order; every other attention that is registered and not left out follows."""
LEFT_OUT = {
    "softmax": "its n x n weights fill the device's memory long before the other attentions do",
    "sdpa": "torch chooses one of the backends that the profile measures by name",
    "sdpa_math": "it computes what softmax does",
    "flex_eager": "it is flex without the compiler, and computes what softmax does",
    "xformers_triton_splitk": "it is made for few queries and many keys",
}
"""The attentions that this profile does not measure, with the reason."""
OTHERS_LENGTH = 4096
"""One length only: a case takes a second or two, most of which goes into building, verifying and counting kernels."""


def operation(device: str) -> list[OperationSpec]:
    """The attention alone, in the order of importance."""

    def spec(
        name: str,
        n: int,
        mode: OperationMode,
        dtype: Dtype = "bfloat16",
        batch: int = 8,
        heads: int = 8,
        **knobs: Scalar,
    ) -> OperationSpec:
        return OperationSpec(
            attention=name, seq_len=n, mode=mode, dtype=dtype, batch=batch, heads=heads, device=device, knobs=knobs
        )

    sweep = [
        spec(name, n, mode)
        for n, mode, name in product(LENGTHS, MODES, SWEPT)
        if n <= LONGEST_OF_SLOWER or name not in SLOWER
    ]
    rival = [
        spec(name, 4096, mode, dtype)
        for dtype, mode, name in product(BOTH, MODES, ("yoso_e", "transformers_yoso_e"))
        if not (name == "yoso_e" and dtype == "bfloat16")  # already in the sweep
    ]
    authors = [spec(name, 4096, mode, "float32") for mode, name in product(MODES, ("transformers_yoso", "yoso"))]
    eight_bits = [spec("yoso", n, mode, hash_code_len=8) for n, mode in product(EIGHT_BITS, MODES)]
    full = [
        spec(name, n, mode, "float32")
        for n, mode, name in product((4096, 16384), MODES, ("yoso", "sdpa_efficient"))
        if (n, name) != (4096, "yoso")  # already in `authors`
    ]
    half = [spec(name, 4096, mode, "float16") for mode, name in product(MODES, ("yoso", "yoso_e", "sdpa_flash"))]
    long = [spec("yoso", n, mode, batch=1, heads=1) for n, mode in product(LONG, MODES)]
    padded = [
        OperationSpec(attention=name, seq_len=4096, mode=mode, dtype="bfloat16", batch=8, device=device, padding=0.25)
        for mode, name in product(MODES, ("yoso", "yoso_e"))
    ]
    listed = [*sweep, *rival, *authors, *eight_bits, *long, *full, *half, *padded]
    known = {*OTHERS, *LEFT_OUT, *(case.attention for case in listed)}
    more = [name for name in registry.names() if name not in known]
    return [*listed, *(spec(name, OTHERS_LENGTH, mode) for mode, name in product(MODES, (*OTHERS, *more)))]


def model(device: str) -> list[ModelSpec]:
    """Models of BERT's base size at two lengths, and a small encoder."""
    base = asdict(BASE_SIZE)
    sizes = [*((n, base) for n in MODEL_LENGTHS), (4096, {})]
    return [
        ModelSpec.model_validate(
            {"family": family, "attention": name, "seq_len": n, "mode": mode, "dtype": "bfloat16", "device": device}
            | size
        )
        for (n, size), mode, (family, name) in product(sizes, MODEL_MODES, FAMILIES)
    ]


def quality(device: str) -> list[QualitySpec]:
    """The error on sharp inputs with this device's kernels; it depends on the estimator, so a CPU's is equal."""
    settings: list[tuple[str, dict[str, Scalar]]] = []
    for name in approximations(device):
        knob = budget_of(name)
        settings += [(name, {knob: budget}) for budget in BUDGETS if knob is not None]
    settings.append(("yoso_e", {}))
    return [
        QualitySpec(attention=name, seq_len=2048, dtype=dtype, draws=4, device=device, knobs=knobs)
        for dtype in BOTH
        for name, knobs in settings
    ]


PROFILE = Profile(
    name="gpu",
    summary="for one large GPU: seven minutes on an H100",
    device="cuda",
    companions=("sdpa_flash", "sdpa_cudnn", "yoso"),
    # A GPU's clock is steady: half a second gives a short call its 60 samples, and a call of a second three.
    effort=Effort(min_samples=3, max_samples=60, seconds=0.5, warmup_calls=1, warmup_seconds=0.05),
    operation=FixedCases(operation),
    model=FixedCases(model),
    quality=FixedCases(quality),
)
