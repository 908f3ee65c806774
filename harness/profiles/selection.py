"""What the user asked for: a profile, and what replaces the profile's own choice."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import torch

from harness.core import registry
from harness.core.spec import Dtype, Effort
from harness.measure.recordings import RecordingFile
from harness.profiles import profile as profiles
from harness.profiles.profile import QualitySweep

DTYPES: tuple[Dtype, ...] = get_args(Dtype)


@dataclass(frozen=True)
class Selection:
    """What the user asked for; None: the profile's own choice.

    ``recording`` is the user's file, whose query, key and value the quality cases get in place of RXNMapper's.

    Raises:
        ValueError: an unknown profile, dtype or attention (the message lists the known ones), a device that torch does
            not know, or a length below 1.
    """

    profile: str = "quick"
    device: str = "cpu"
    dtype: str | None = None
    seq_lens: tuple[int, ...] | None = None
    attentions: tuple[str, ...] | None = None
    recording: RecordingFile | None = None

    def __post_init__(self) -> None:
        try:
            torch.device(self.device)
        except RuntimeError as error:
            raise ValueError(f"--device must be a torch device such as cpu or cuda, got {self.device!r}") from error
        needed = profiles.get(self.profile).device
        if needed is not None and not self.device.startswith(needed):
            raise ValueError(
                f"profile {self.profile!r} needs a {needed} device, got device {self.device!r}: add --device {needed}"
            )
        if self.recording is not None and not isinstance(profiles.get(self.profile).quality, QualitySweep):
            raise ValueError(
                f"{self.recording.name}: profile {self.profile!r} has no errors that depend on a recording; leave "
                "--inputs out, or choose quick, standard or full"
            )
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
        return profiles.get(self.profile).effort

    @property
    def dtypes(self) -> tuple[Dtype, ...]:
        """The dtype that the user asked for, or the profile's."""
        if self.dtype is not None:
            return tuple(dtype for dtype in DTYPES if dtype == self.dtype)
        return profiles.get(self.profile).dtypes

    def lengths(self, of_profile: Sequence[int]) -> tuple[int, ...]:
        """The lengths that the user asked for, or the profile's."""
        return tuple(of_profile) if self.seq_lens is None else self.seq_lens

    def chosen(self, of_profile: Sequence[str]) -> tuple[str, ...]:
        """The attentions that the user asked for, or the profile's."""
        return tuple(of_profile) if self.attentions is None else self.attentions
