"""What the user asked for: a profile, and what replaces the profile's own choice."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal, get_args

import torch

from harness.core import registry
from harness.core.spec import Dtype, Effort, QualityInputs
from harness.measure.recordings import RecordingFile
from harness.models.packaged_weights import RXNMAPPER
from harness.profiles import profile as profiles
from harness.profiles.profile import FixedCases, QualitySweep

DTYPES: tuple[Dtype, ...] = get_args(Dtype)
Kind = Literal["operation", "model", "quality", "task"]
ALONE: tuple[Kind, ...] = ("operation", "quality")
"""The kinds of cases that measure the attention alone, its time and its errors: those of a named attention."""


@dataclass(frozen=True)
class Shape:
    """The sizes that the user asked for; None: the profile's.

    ``batch``, ``heads`` and ``head_dim`` are those of the attention alone, of its errors and of whole models, whose
    width is heads x head size. ``padding`` is the fraction of each sequence that is padding, of the attention alone.
    Trained tasks keep the profile's sizes.

    Raises:
        ValueError: a size is below 1, or the padding is not in [0, 1).
    """

    batch: int | None = None
    heads: int | None = None
    head_dim: int | None = None
    padding: float | None = None

    def __post_init__(self) -> None:
        for name, size in self.sizes.items():
            if size < 1:
                raise ValueError(f"{_option(name)} must be 1 or more, got {size}")
        if self.padding is not None and not 0 <= self.padding < 1:
            raise ValueError(
                f"--padding must be a fraction of each sequence from 0 to below 1, such as 0.25, got {self.padding:g}"
            )

    @property
    def sizes(self) -> dict[str, int]:
        """Batch, heads and head size, those that the user asked for."""
        return {name: size for name in ("batch", "heads", "head_dim") if (size := getattr(self, name)) is not None}

    @property
    def options(self) -> tuple[str, ...]:
        """The options that the user gave."""
        return tuple(_option(field.name) for field in fields(self) if getattr(self, field.name) is not None)


@dataclass(frozen=True)
class Selection:
    """What the user asked for; None: the profile's own choice.

    ``attentions`` are measured alone, beside the profile's ``companions``: their times and errors. ``only`` leaves the
    companions out. ``everything`` adds the models, the tasks and the lengths that the profile leaves out where the user
    names attentions.

    ``recording`` is the user's file, whose query, key and value the quality cases get in place of RXNMapper's.
    ``inputs`` are the kinds of inputs of the quality cases.

    Raises:
        ValueError: an unknown profile, dtype or attention (the message lists the known ones), a device that is
            neither a CPU nor one of CUDA, a length below 1, or two choices that exclude each other.
    """

    profile: str = "quick"
    device: str = "cpu"
    dtype: str | None = None
    seq_lens: tuple[int, ...] | None = None
    attentions: tuple[str, ...] | None = None
    recording: RecordingFile | None = None
    inputs: tuple[QualityInputs, ...] | None = None
    shape: Shape = Shape()
    only: bool = False
    everything: bool = False

    def __post_init__(self) -> None:
        if not is_device(self.device):
            raise ValueError(f"--device must be cpu or cuda, or cuda: and a number, got {self.device!r}")
        needed = profiles.get(self.profile).device
        if needed is not None and not self.device.startswith(needed):
            raise ValueError(
                f"profile {self.profile!r} needs a {needed} device, got device {self.device!r}: add --device {needed}"
            )
        if self.dtype is not None and self.dtype not in DTYPES:
            raise ValueError(f"unknown dtype {self.dtype!r}; known: {', '.join(DTYPES)}")
        known = registry.names()
        unknown = [name for name in self.attentions or () if name not in known]
        if unknown:
            raise ValueError(f"unknown attention {', '.join(unknown)}; known: {', '.join(known)}")
        if any(length < 1 for length in self.seq_lens or ()):
            raise ValueError(f"seq_lens must be 1 or more, got {self.seq_lens}")
        if self.only and self.attentions is None:
            raise ValueError("--only leaves out all but the attentions that --attention names; add --attention NAME")
        self._check_shape()
        self._check_inputs()

    def _check_shape(self) -> None:
        profile = profiles.get(self.profile)
        is_fixed = any(isinstance(cases, FixedCases) for cases in (profile.operation, profile.model, profile.quality))
        if is_fixed and self.shape.options:
            raise ValueError(
                f"profile {self.profile!r} is a list of cases with shapes of their own: leave out "
                f"{', '.join(self.shape.options)}, or choose quick, standard or full"
            )

    def _check_inputs(self) -> None:
        given = self.recording.name if self.recording is not None else ", ".join(self.inputs or ())
        if given and not isinstance(profiles.get(self.profile).quality, QualitySweep):
            raise ValueError(
                f"{given}: profile {self.profile!r} has no errors whose inputs can be chosen; leave "
                "--inputs out, or choose quick, standard or full"
            )
        if self.recording is not None or "recorded" in (self.inputs or ()):
            recorded = RXNMAPPER.head_dim if self.recording is None else self.recording.head_dim
            name = "the recorded model" if self.recording is None else self.recording.name
            if self.shape.head_dim not in (None, recorded):
                raise ValueError(
                    f"--head-dim must be that of the recorded inputs, {recorded} in {name}, got "
                    f"{self.shape.head_dim}; leave out one of --head-dim and --inputs"
                )

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

    @property
    def is_comparison(self) -> bool:
        """Whether the user named attentions and wants them alone: their times and errors, at the fewest lengths."""
        return self.attentions is not None and not self.everything

    def includes(self, kind: Kind) -> bool:
        """Whether cases of this kind are measured. A profile that measures no attention alone keeps its other kinds."""
        profile = profiles.get(self.profile)
        has_alone = profile.operation is not None or profile.quality is not None
        return kind in ALONE or not self.is_comparison or not has_alone

    def lengths(self, of_profile: Sequence[int]) -> tuple[int, ...]:
        """The lengths that the user asked for, or the profile's, each once."""
        return tuple(dict.fromkeys(of_profile if self.seq_lens is None else self.seq_lens))

    def chosen(self, of_profile: Sequence[str]) -> tuple[str, ...]:
        """The attentions that the user asked for, or the profile's."""
        return tuple(of_profile) if self.attentions is None else self.attentions

    @property
    def companions(self) -> tuple[str, ...]:
        """The attentions that are measured beside those that the user named."""
        if self.attentions is None or self.only:
            return ()
        return tuple(name for name in profiles.get(self.profile).companions if name not in self.attentions)

    def measured(self, of_profile: Sequence[str]) -> tuple[str, ...]:
        """The attentions that the user asked for with their companions, or the profile's."""
        return (*self.chosen(of_profile), *self.companions)


def is_device(text: str) -> bool:
    """Whether the harness measures on such a device: the CPU, or a GPU of CUDA."""
    try:
        return torch.device(text).type in ("cpu", "cuda")
    except RuntimeError:
        return False


def _option(field: str) -> str:
    return f"--{field.replace('_', '-')}"
