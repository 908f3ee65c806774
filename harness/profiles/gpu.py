"""The cases of the profile ``gpu``: what a comparison on one large GPU needs, in seven minutes on an H100.

The sweep has 64 heads in all (8 sequences of 8), of 64 numbers in bfloat16: enough to fill the device at 512 tokens.
Cases come in the order of their worth: where a run's time is over, the last are missing.
"""

from itertools import product

from harness.core.spec import Dtype, Family, ModelMode, ModelSpec, OperationMode, OperationSpec, QualitySpec, Scalar

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
"""Of the exact ones: up to four times as slow as the fastest, so they end where a call takes a tenth of a second."""
LONGEST_OF_SLOWER = 16384
SWEPT = ("yoso", "yoso_e", *EXACT)
LONG = (65536, 131072, 262144, 524288, 1048576)
"""One sequence of one head, for the linear attention alone."""
EIGHT_BITS = (4096, 16384, 65536)
"""Lengths at which the code stays at 8 bits: the buckets grow with the length, and their pairs with its square."""
MODEL_LENGTHS = (4096, 16384)
MODEL_MODES: tuple[ModelMode, ...] = ("forward", "training_step")
FAMILIES: tuple[tuple[Family, str], ...] = (("yoso", "yoso"), ("bert", "sdpa"), ("yoso", "yoso_e"))
HASHES = (8, 32, 128)
RIVALS = (
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
RIVAL_LENGTH = 4096
"""One: each case of a rival takes a second or two, most of it in being built, verified and counted."""


def operation(device: str) -> list[OperationSpec]:
    """The attention alone."""

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
        if not (name == "yoso_e" and dtype == "bfloat16")  # it is in the sweep
    ]
    authors = [spec(name, 4096, mode, "float32") for mode, name in product(MODES, ("transformers_yoso", "yoso"))]
    eight_bits = [spec("yoso", n, mode, hash_code_len=8) for n, mode in product(EIGHT_BITS, MODES)]
    full = [
        spec(name, n, mode, "float32")
        for n, mode, name in product((4096, 16384), MODES, ("yoso", "sdpa_efficient"))
        if (n, name) != (4096, "yoso")  # it is beside the authors'
    ]
    half = [spec(name, 4096, mode, "float16") for mode, name in product(MODES, ("yoso", "yoso_e", "sdpa_flash"))]
    long = [spec("yoso", n, mode, batch=1, heads=1) for n, mode in product(LONG, MODES)]
    padded = [
        OperationSpec(attention=name, seq_len=4096, mode=mode, dtype="bfloat16", batch=8, device=device, padding=0.25)
        for mode, name in product(MODES, ("yoso", "yoso_e"))
    ]
    others = [spec(name, RIVAL_LENGTH, mode) for mode, name in product(MODES, RIVALS)]
    return [*sweep, *rival, *authors, *eight_bits, *long, *full, *half, *padded, *others]


def model(device: str) -> list[ModelSpec]:
    """BERT's base size at two lengths, and a small encoder."""
    base = {"layers": 12, "hidden_size": 768, "heads": 12}
    sizes = [*((n, base) for n in MODEL_LENGTHS), (4096, {})]
    return [
        ModelSpec.model_validate(
            {"family": family, "attention": name, "seq_len": n, "mode": mode, "dtype": "bfloat16", "device": device}
            | size
        )
        for (n, size), mode, (family, name) in product(sizes, MODEL_MODES, FAMILIES)
    ]


def quality(device: str) -> list[QualitySpec]:
    """The same error as on a CPU, on this device's kernels and sharp inputs: what it depends on is the estimate."""
    sampled = [("yoso", {"num_hash": hashes}) for hashes in HASHES]
    return [
        QualitySpec(attention=name, seq_len=2048, dtype=dtype, draws=4, device=device, knobs=knobs)
        for dtype in BOTH
        for name, knobs in [*sampled, ("yoso_e", {})]
    ]
