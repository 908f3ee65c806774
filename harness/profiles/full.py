"""The profile ``full``: every attention everywhere, bfloat16 and 65,536 tokens too; for a night on a GPU."""

from harness.core.spec import Effort
from harness.profiles.profile import BASE_SIZE, ModelSweep, OperationSweep, Profile, QualitySweep, Training, swaps
from harness.profiles.quick import HEADLINE

PROFILE = Profile(
    name="full",
    summary="every attention in the models, bfloat16 and 65,536 tokens too",
    effort=Effort(min_samples=20, max_samples=200, seconds=5.0, warmup_calls=5, warmup_seconds=0.5),
    dtypes=("float32", "bfloat16"),
    operation=OperationSweep(
        lengths=(128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536), paddings=(0.0, 0.25)
    ),
    model=ModelSweep(
        size=BASE_SIZE,
        encoder_lengths=(128, 512, 1024, 4096, 16384),
        head_lengths=(128, 512, 1024, 4096),
        head_attentions=HEADLINE,
    ),
    quality=QualitySweep(lengths=(512, 2048, 4096), draws=32),
    task=Training(
        "listops",
        seq_len=2000,
        steps=5000,
        seeds=5,
        train_examples=96000,
        eval_examples=2000,
        attentions=HEADLINE,
        swaps=swaps,
    ),
)
