"""What the user asked for: a profile, and what replaces its own choice."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from harness.core import registry
from harness.core.spec import Dtype, Effort

Profile = Literal["quick", "standard", "full", "gpu", "paper"]
PROFILES: tuple[Profile, ...] = get_args(Profile)
DTYPES: tuple[Dtype, ...] = get_args(Dtype)

# Verification has called every case three times before its warm-up begins.
EFFORTS = {
    "quick": Effort(min_samples=3, max_samples=30, seconds=0.25, warmup_calls=1, warmup_seconds=0.05),
    # Calls of many seconds get three samples, and what takes under a tenth of one its interval of ten or more.
    "standard": Effort(min_samples=3, max_samples=100, seconds=1.0, warmup_calls=1, warmup_seconds=0.1),
    "full": Effort(min_samples=20, max_samples=200, seconds=5.0, warmup_calls=5, warmup_seconds=0.5),
    # A device's clock is steady: half a second gives a short call its 60 samples, and a call of a second three.
    "gpu": Effort(min_samples=3, max_samples=60, seconds=0.5, warmup_calls=1, warmup_seconds=0.05),
    "paper": Effort(min_samples=10, max_samples=10, seconds=0.0, warmup_calls=1, warmup_seconds=0.0),
}


@dataclass(frozen=True)
class Selection:
    """What the user asked for; None takes the profile's own.

    Raises:
        ValueError: an unknown profile, dtype or attention (the message lists the known ones), or a length below 1.
    """

    profile: str = "quick"
    device: str = "cpu"
    dtype: str | None = None
    seq_lens: tuple[int, ...] | None = None
    attentions: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.profile not in PROFILES:
            raise ValueError(f"unknown profile {self.profile!r}; known: {', '.join(PROFILES)}")
        if self.profile == "gpu" and not self.device.startswith("cuda"):
            raise ValueError(f"profile 'gpu' takes a CUDA device, got device {self.device!r}: add --device cuda")
        if self.dtype is not None and self.dtype not in DTYPES:
            raise ValueError(f"unknown dtype {self.dtype!r}; known: {', '.join(DTYPES)}")
        known = registry.names()
        unknown = [name for name in self.attentions or () if name not in known]
        if unknown:
            raise ValueError(f"unknown attention {', '.join(unknown)}; known: {', '.join(known)}")
        if any(length < 1 for length in self.seq_lens or ()):
            raise ValueError(f"seq_lens must be 1 or more, got {self.seq_lens}")

    @property
    def effort(self) -> Effort:
        """How long each case is sampled."""
        return EFFORTS[self.profile]

    @property
    def dtypes(self) -> tuple[Dtype, ...]:
        """float32, and bfloat16 in the full profile; or the one that was asked for."""
        if self.dtype is not None:
            return tuple(dtype for dtype in DTYPES if dtype == self.dtype)
        return ("float32", "bfloat16") if self.profile == "full" else ("float32",)

    def lengths(self, of_profile: Sequence[int]) -> tuple[int, ...]:
        """The lengths that were asked for, or the profile's."""
        return tuple(of_profile) if self.seq_lens is None else self.seq_lens

    def chosen(self, of_profile: Sequence[str]) -> tuple[str, ...]:
        """The attentions that were asked for, or the profile's."""
        return tuple(of_profile) if self.attentions is None else self.attentions
