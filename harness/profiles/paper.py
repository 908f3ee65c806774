"""The profile ``paper``: the efficiency protocol of the YOSO paper (Zeng et al., ICML 2021).

As in github.com/mlpen/YOSO, ``efficiency/``: the Long Range Arena model with one layer's weights shared by six layers,
width 256, four heads of 64, trained on 128 to 4,096 tokens; sampled YOSO has log2(n) bits and 16 or 32 hashes, each
without and with a convolution of 33 tokens. Every case is measured at the largest batch that fits and at one common
batch. The paper reports time and memory per instance, that is, divided by the batch; the report does so at the largest
batch. One difference: the paper's training step has no optimizer, this one has.
"""

from itertools import product

from harness.core.spec import Effort, ModelSpec, Scalar
from harness.profiles.approximations import approximations
from harness.profiles.profile import FixedCases, Profile

LENGTHS = (128, 256, 512, 1024, 2048, 4096)
COMMON_BATCH = {"cpu": 1, "cuda": 16}
HASHES = (16, 32)
CONV_WINDOW = 33
ATTENTIONS: tuple[tuple[str, dict[str, Scalar]], ...] = (
    ("softmax", {}),
    ("sdpa", {}),
    ("linformer", {}),
    ("reformer", {"rounds": 2}),
    ("performer_relu", {"num_features": 256}),
    ("longformer", {"window": 128}),
    ("nystromformer", {"num_landmarks": 64}),
    ("yoso_e", {}),
)
"""The paper's rivals with its settings (Linformer's 256 is the plugin's default), and two more: sdpa and YOSO-E.
Other approximations that are registered follow, with their default budgets."""


def model(device: str) -> list[ModelSpec]:
    """Every attention at every length, at both batches."""
    sampled: list[tuple[str, dict[str, Scalar]]] = [("yoso", {"num_hash": hashes}) for hashes in HASHES]
    known = {name for name, _ in (*ATTENTIONS, *sampled)}
    others: list[tuple[str, dict[str, Scalar]]] = [(name, {}) for name in approximations(device) if name not in known]
    attentions: list[tuple[str, dict[str, Scalar], int | None]] = [
        *((name, knobs, None) for name, knobs in (*ATTENTIONS, *sampled, *others)),
        *((name, knobs, CONV_WINDOW) for name, knobs in sampled),
    ]
    common = COMMON_BATCH[device.split(":")[0]]
    return [
        ModelSpec(
            family="lra",
            head="sequence_classification",
            attention=name,
            knobs=knobs,
            seq_len=n,
            mode="training_step",
            device=device,
            batch=common,
            largest_batch=largest,
            conv_window=window,
            layers=6,
            hidden_size=256,
            heads=4,
            vocab_size=512,
        )
        for largest, n, (name, knobs, window) in product((False, True), LENGTHS, attentions)
    ]


PROFILE = Profile(
    name="paper",
    summary="the YOSO paper's efficiency protocol",
    effort=Effort(min_samples=10, max_samples=10, seconds=0.0, warmup_calls=1, warmup_seconds=0.0),
    model=FixedCases(model),
)
